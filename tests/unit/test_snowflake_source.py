"""Snowflake: each changed row once, with the types that it has there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)
from snowflake.connector.errors import DatabaseError

from lakehouse.settings.references import Secret
from lakehouse.settings.sources import SnowflakeConnection
from lakehouse.sources import snowflake
from lakehouse.sources.cursors import SqliteStore
from lakehouse.sources.extract import Dataset, extract
from lakehouse.sources.source import Meter
from lakehouse.standins.data.delivery import deliver
from lakehouse.standins.servers import snowflake as server
from lakehouse.standins.servers.snowflake import DATABASE, SCHEMA, WAREHOUSE, SnowflakeService
from lakehouse.standins.systems.relations import Accounts
from lakehouse.standins.systems.system import TYPE
from spark_jobs.contract.reader import load_contract
from spark_jobs.contract.source import Snowflake
from spark_jobs.errors import InputError
from spark_jobs.lake.storage import Storage

PROJECT = Path(__file__).parents[2]
NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def service() -> Iterator[SnowflakeService]:
    with server.serve() as service:
        yield service


@pytest.fixture
def connection(service: SnowflakeService, monkeypatch: pytest.MonkeyPatch) -> SnowflakeConnection:
    monkeypatch.setenv("SF_PASS", str(service.given["password"]))
    place = {k: service.given[k] for k in ("account", "user", "host", "port", "protocol")}
    more = {"database": DATABASE, "schema": SCHEMA, "warehouse": WAREHOUSE}
    return SnowflakeConnection(**place, **more, password=Secret("SF_PASS"), timeout_seconds=20)


def pulled(of: snowflake.Table, since: datetime | None = None) -> pa.Table:
    until = NOON + timedelta(days=1)
    return pa.Table.from_batches(of.pull(since, until, Meter()))  # type: ignore[arg-type]


def test_values_keep_the_types_that_they_have_there(
    service: SnowflakeService, connection: SnowflakeConnection
) -> None:
    with service.connect() as open_one, open_one.cursor() as cursor:
        cursor.execute(
            "create table things (ID number(18,0), PRICE number(15,2), BIG number(38,0), DAY date,"
            " CHANGED_AT timestamp_ntz, OK boolean, TEXT_ text)"
        )
        cursor.execute(
            "insert into things values (1, 10.10, 1234567890123456789, '2026-10-05',"
            " '2026-10-05 12:00:00.123456', true, 'Zoë'), (2, null, null, null,"
            " '2026-10-05 13:00:00', null, null)"
        )
    called = {"text": "TEXT_", "at": "CHANGED_AT"}
    declared = Snowflake(kind="snowflake", dataset="things", format="parquet", table="THINGS",
                         modified="CHANGED_AT", columns=called)  # fmt: skip
    columns = ("id", "price", "big", "day", "at", "ok", "text")
    rows = pulled(snowflake.source(connection, declared, columns))
    first = rows.to_pylist()[0]
    assert (first["id"], first["price"]) == (1, Decimal("10.10"))
    assert first["big"] == Decimal(1234567890123456789)
    assert first["at"] == NOON.replace(microsecond=123456) and first["text"] == "Zoë"
    assert [str(rows.schema.field(c).type) for c in ("id", "price", "at", "ok")] == [
        "int64", "decimal128(15, 2)", "timestamp[us, tz=UTC]", "bool"]  # fmt: skip
    late = pulled(snowflake.source(connection, declared, columns), NOON + timedelta(minutes=30))
    assert late["id"].to_pylist() == [2]
    whole = declared.model_copy(update={"modified": None})
    of = snowflake.source(connection, whole, columns)
    assert (of.reads, of.changed, pulled(of).num_rows) == ("all", None, 2)
    of.check()


def test_a_column_that_is_no_identifier_has_to_be_named(connection: SnowflakeConnection) -> None:
    declared = Snowflake(kind="snowflake", dataset="t", format="parquet", table="T")
    with pytest.raises(InputError, match="column a b: say what it is called in Snowflake"):
        snowflake.source(connection, declared, ("a b",))


def test_a_user_logs_in_with_a_key_pair_and_with_no_other(
    service: SnowflakeService, connection: SnowflakeConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    service.public_keys.append(
        ours.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    given = {n: getattr(connection, n) for n in type(connection).model_fields if n != "password"}
    given |= {"schema": given.pop("schema_name"), "private_key": Secret("SF_PEM")}
    given["private_key_passphrase"] = Secret("SF_WORD")
    with service.connect() as open_one, open_one.cursor() as cursor:
        cursor.execute("create or replace table kept (ID number(18,0))")
    declared = Snowflake(kind="snowflake", dataset="kept", format="parquet", table="KEPT")
    of = snowflake.source(SnowflakeConnection(**given), declared, ("id",))
    monkeypatch.setenv("SF_WORD", "a word")
    monkeypatch.setenv("SF_PEM", pem(ours, "a word"))
    of.check()
    monkeypatch.setenv("SF_PEM", pem(other, "a word"))
    with pytest.raises(DatabaseError, match="JWT token is invalid"):
        of.check()
    monkeypatch.setenv("SF_PEM", pem(ours, "another word"))
    with pytest.raises(InputError, match="its passphrase is another") as caught:
        of.check()
    assert "word" not in str(caught.value), "neither the key nor what it is locked with"
    with pytest.raises(ValueError, match="either password or private_key"):
        SnowflakeConnection(**given, password=Secret("SF_PASS"))


def pem(key: rsa.RSAPrivateKey, word: str) -> str:
    locked = BestAvailableEncryption(word.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked).decode()


def test_the_sample_lands_from_snowflake_as_it_is_delivered(
    service: SnowflakeService, connection: SnowflakeConnection, tmp_path: Path
) -> None:
    deliver(tmp_path / "given", tmp_path / "answers.json", scale=0.001, days=2, faults=False)
    cursors = SqliteStore(tmp_path / "positions.sqlite")
    for name in ("orders", "products", "customers", "line_items"):
        contract = load_contract(PROJECT / f"contracts/bronze/{name}.yaml")
        declared, columns = contract.delivered, tuple(c.name for c in contract.columns)
        assert isinstance(declared, Snowflake)
        of = snowflake.source(connection, declared, columns)
        landing = Dataset(of, declared, columns, Storage(), str(tmp_path), timedelta(minutes=15))
        for day in ("2026-10-05", "2026-10-06"):
            (given,) = (tmp_path / "given" / name / day).iterdir()
            rows = pq.read_table(given).select(list(columns))
            service.put(declared.table, rows)
            done = extract(landing, day, cursors, datetime(2026, 11, 1, tzinfo=UTC))
            (file,) = done.manifest.files
            there = pq.read_table(tmp_path / name / day / file.name)
            assert _sorted(there.cast(rows.schema)) == _sorted(rows), (name, day)


def test_of_a_file_with_a_column_as_text_the_table_takes_the_rows_that_are_of_its_type(
    service: SnowflakeService, tmp_path: Path
) -> None:
    prices = {
        "2026-10-05": pa.array([Decimal("1.10")]),
        "2026-10-06": pa.array(["-2.20", "n/a", None]),
    }
    for day, of_the_day in prices.items():
        (tmp_path / day).mkdir()
        rows = pa.table({"id": range(len(of_the_day)), "price": of_the_day})
        pq.write_table(rows, tmp_path / day / "prices.parquet")
    declared = Snowflake(kind="snowflake", dataset="prices", format="parquet", table="PRICES")
    accounts = Accounts(service, lambda _: ["id", "price"], "a password")
    left_out = [accounts.put(declared, tmp_path / day) for day in prices]
    assert left_out == [{}, {TYPE: 1}]
    with service.connect() as there, there.cursor() as cursor:
        found = cursor.execute("select price from PRICES order by price").fetchall()
    assert found == [(Decimal("-2.20"),), (Decimal("1.10"),), (None,)]


def _sorted(table: pa.Table) -> list[str]:
    return sorted(repr(tuple(row.values())) for row in table.to_pylist())


def test_a_result_that_comes_in_parts_is_whole_and_in_its_order(
    service: SnowflakeService, connection: SnowflakeConnection, tmp_path: Path
) -> None:
    rows = pa.table({"ID": range(130_000), "TEXT_": [f"é {n}" for n in range(130_000)]})
    pq.write_table(rows, tmp_path / "rows.parquet")
    service.load("parts", tmp_path / "rows.parquet", 120_001)
    called = {"id": "ID", "text": "TEXT_"}
    declared = Snowflake(
        kind="snowflake", dataset="parts", format="parquet", table="PARTS", columns=called
    )
    of = snowflake.source(connection, declared, ("id", "text"))
    batches = list(of.pull(None, NOON, Meter()))
    assert max(batch.num_rows for batch in batches) <= 50_000 and len(batches) > 2
    found = pa.Table.from_batches(batches).rename_columns(rows.column_names).cast(rows.schema)
    assert found == rows.slice(0, 120_001)
