"""Redshift as a source: each changed row once, by UNLOAD, and nothing left on the way.

Here: the source against the stand-in, and its extraction into landing. Not here: the stand-in
(test_redshift_standin.py), or marts that are read back (test_redshift_marts.py).
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import ValidationError

from lakehouse.settings.sources import RedshiftConnection
from lakehouse.sources import redshift
from lakehouse.sources.cursors import SqliteStore
from lakehouse.sources.extract import Dataset, extract
from lakehouse.sources.source import Meter
from lakehouse.standins.data.delivery import deliver
from lakehouse.warehouse.login import WarehouseError
from spark_jobs.contract.reader import load_contract
from spark_jobs.contract.source import Redshift
from spark_jobs.errors import InputError, StorageError
from spark_jobs.lake.storage import Storage
from tests.documents import PROJECT
from tests.warehouse import PASSWORD, Cloud, source_of

NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)
LATER = datetime(2026, 11, 1, tzinfo=UTC)
THINGS = Redshift(kind="redshift", dataset="things", format="parquet", table="shop.things",
                  modified="changed_at", columns={"note": "text_"})  # fmt: skip
COLUMNS = ("id", "price", "day", "changed_at", "ok", "note")


@pytest.fixture(scope="module")
def tempdir(running_cloud: Cloud) -> str:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in running_cloud.environment.items():
            patch.setenv(name, value)
        return f"{running_cloud.bucket('unloaded')}/on-their-way"


@pytest.fixture
def connection(warehouse: Cloud, tempdir: str) -> RedshiftConnection:
    warehouse.redshift.execute("create schema shop")
    warehouse.redshift.execute(
        "create table shop.things (id bigint, price numeric(15,2), day date, changed_at timestamp,"
        " ok boolean, text_ varchar(100))"
    )
    warehouse.redshift.execute(
        "insert into shop.things values (1, 10.10, '2026-10-05', '2026-10-05 12:00:00.123456', true,"
        " 'Zoë''s'), (2, null, null, '2026-10-05 13:00:00', null, null)"
    )
    for grant in ("usage on schema shop", "select on all tables in schema shop"):
        warehouse.redshift.execute(f"grant {grant} to public")
    return source_of(warehouse, tempdir)


def pulled(of: redshift.Relation, since: datetime | None = None) -> pa.Table:
    return pa.Table.from_batches(of.pull(since, NOON + timedelta(days=1), Meter()))  # type: ignore[arg-type]


def test_values_keep_the_types_that_they_have_there(
    connection: RedshiftConnection, warehouse: Cloud
) -> None:
    of = redshift.source(connection, THINGS, COLUMNS)
    of.check()
    rows = pulled(of)
    assert rows.column_names == [*COLUMNS, "_changed"]
    first = rows.to_pylist()[0]
    assert (first["id"], first["price"], first["note"]) == (1, Decimal("10.10"), "Zoë's")
    assert first["changed_at"] == first["_changed"] == NOON.replace(microsecond=123456)
    assert pulled(of, NOON + timedelta(minutes=30))["id"].to_pylist() == [2]
    whole = redshift.source(connection, THINGS.model_copy(update={"modified": None}), COLUMNS)
    assert (whole.reads, whole.changed, pulled(whole).num_rows) == ("all", None, 2)
    assert warehouse.storage.tree(connection.tempdir) == [], "nothing is left on the way"


def test_rows_that_are_not_all_there_fail_the_pull_and_leave_nothing(
    connection: RedshiftConnection, warehouse: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a rule of the bucket removes a file between UNLOAD and the reader."""
    of = redshift.source(connection, THINGS, COLUMNS)
    monkeypatch.setattr(redshift, "_listed", lambda storage, folder: [])
    with pytest.raises(
        StorageError, match=r"shop\.things: 2 rows were unloaded .* and 0 are there"
    ) as e:
        pulled(of)
    assert not e.value.permanent
    assert warehouse.storage.tree(connection.tempdir) == []

    def refused(self: Storage, uri: str) -> None:
        raise StorageError(f"{uri}: access denied", permanent=True)

    monkeypatch.setattr(Storage, "remove", refused)
    with pytest.raises(StorageError, match="and 0 are there"):  # not that it cannot clear away
        pulled(of)


def test_what_cannot_be_unloaded_says_why_and_holds_no_secret(
    connection: RedshiftConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = redshift.source(connection, THINGS.model_copy(update={"table": "shop.gone"}), COLUMNS)
    with pytest.raises(WarehouseError, match=r'relation "shop.gone" does not exist') as caught:
        gone.check()
    assert caught.value.permanent and PASSWORD not in str(caught.value)
    with pytest.raises(InputError, match="column a b: say what it is called in Redshift"):
        redshift.source(connection, THINGS, ("a b",))
    for wrong in ("/tmp/unload", "s3://bucket", "s3://bucket/it's"):
        with pytest.raises(ValidationError, match="tempdir"):
            RedshiftConnection(**{**connection.model_dump(), "tempdir": wrong})


def test_an_extraction_lands_what_is_new_once_and_what_is_committed_late_too(
    connection: RedshiftConnection, warehouse: Cloud, tmp_path: Path
) -> None:
    of = redshift.source(connection, THINGS, COLUMNS)
    landing = Dataset(of, THINGS, COLUMNS, Storage(), str(tmp_path / "landing"), THINGS.overlap)
    cursors = SqliteStore(tmp_path / "positions.sqlite")
    first = extract(landing, "2026-10-05", cursors, LATER)
    warehouse.redshift.execute(
        "insert into shop.things values (3, 1, null, '2026-10-05 23:55:00', null, 'committed late'),"
        " (4, 1, null, '2026-10-06 08:00:00', null, null)"
    )
    second = extract(landing, "2026-10-06", cursors, LATER)
    assert (first.rows, second.rows, second.known) == (2, 2, 0)
    empty = extract(landing, "2026-10-07", cursors, LATER)
    assert (empty.rows, empty.manifest.files, empty.meter.requests) == (0, (), 1)


def test_behavior_of_the_sample_lands_from_redshift_as_it_is_delivered(
    warehouse: Cloud, tempdir: str, tmp_path: Path
) -> None:
    deliver(tmp_path / "given", tmp_path / "answers.json", scale=0.001, days=2, faults=False)
    contract = load_contract(PROJECT / "contracts/bronze/customer_behavior.yaml")
    declared, columns = contract.delivered, tuple(c.name for c in contract.columns)
    assert isinstance(declared, Redshift)
    run = warehouse.redshift.execute
    run("create schema events")
    texts = ", ".join(f"{c} varchar(2000)" for c in columns)
    run(f"create table events.customer_behavior ({texts}, loaded_at timestamp)")
    run("grant usage on schema events to public")
    run("grant select on all tables in schema events to public")
    of = redshift.source(source_of(warehouse, tempdir), declared, columns)
    landing = Dataset(of, declared, columns, Storage(), str(tmp_path), declared.overlap)
    cursors = SqliteStore(tmp_path / "positions.sqlite")
    for day in ("2026-10-05", "2026-10-06"):
        given = read(tmp_path / "given/customer_behavior" / day / "customer_behavior.csv", columns)
        values = ", ".join(f"({', '.join(map(quoted, row))}, '{day} 20:00')" for row in given)
        run(f"insert into events.customer_behavior values {values}")
        (file,) = extract(landing, day, cursors, LATER).manifest.files
        assert sorted(read(tmp_path / "customer_behavior" / day / file.name, columns)) == sorted(
            given
        )


def read(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        return [[row[c] for c in columns] for row in csv.DictReader(lines)]


def quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'" if value else "null"
