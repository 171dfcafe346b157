"""Changes that DMS captured, against the database that they were captured from.

Here: that silver holds what the database held, in whatever order and split its transactions arrive.
Not here: how changes get to landing, or publishing by key as such (test_publish_properties.py).
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import itertools
import shutil
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.sources import dms
from tests.documents import PROJECT
from tests.integration.test_publish_properties import DAYS, examples, schedules
from tests.lakes import MONDAY, TUESDAY, WEDNESDAY, TinyLake

BEGIN = dt.datetime(2026, 10, 5, 4, tzinfo=dt.UTC)
LOADED = BEGIN - dt.timedelta(hours=2)
_lakes = itertools.count()


class Statement(NamedTuple):
    """What a transaction does: `set` a key to a street, `drop` one, or `shift` keys up by one."""

    kind: str
    key: int
    street: str


STATEMENTS = st.builds(
    Statement,
    st.sampled_from(["set", "set", "drop", "shift"]),
    st.integers(1, 3),
    st.sampled_from(["a", "b", "c"]),
)
LOGS = st.lists(st.lists(STATEMENTS, min_size=1, max_size=3), min_size=1, max_size=6)


class Captured(NamedTuple):
    """A log of changes per transaction, and the rows that the database holds after all of them."""

    transactions: list[list[dict[str, Any]]]
    rows: dict[int, str]


def captured(log: list[list[Statement]]) -> Captured:
    """Plays transactions on a table with the rows 1 and 2, as a database and its log would."""
    rows, seq = {1: "old", 2: "old"}, 0
    written = [[_row("I", None, LOADED, key, street) for key, street in rows.items()]]
    for nth, statements in enumerate(log):
        commit, changes = BEGIN + dt.timedelta(minutes=nth), []
        for s in statements:
            seq += 1
            if s.kind == "set":
                changes.append(("U" if s.key in rows else "I", seq, s.key, s.street))
                rows[s.key] = s.street
            elif s.kind == "drop" and s.key in rows:
                changes.append(("D", seq, s.key, rows.pop(s.key)))
            elif s.kind == "shift":  # update ... set id = id + 1: each key is given away, and taken
                for key in sorted(rows, reverse=True):
                    changes.append(("I", seq, key + 1, rows[key]))
                    changes.append(("D", seq, key, rows[key]))
                rows = {key + 1: street for key, street in rows.items()}
        written.append([_row(op, n, commit, key, street) for op, n, key, street in changes])
    return Captured(written, rows)


def _row(op: str, seq: int | None, commit: dt.datetime, key: int, street: str) -> dict[str, Any]:
    return {
        "Op": op,
        "change_seq": None if seq is None else f"{commit:%Y%m%d%H%M%S}00{seq:019d}",
        "commit_ts": f"{commit:%Y-%m-%d %H:%M:%S.%f}",
        "address_id": key,
        "customer_id": 1,
        "street": street,
        "loyalty_id": key,
        "tier": {"a": "SILVER", "b": "GOLD", "c": "PLATINUM"}.get(street, "BRONZE"),
    }


@pytest.fixture
def source_db(lake: TinyLake) -> TinyLake:
    """The project's own tables of captured changes."""
    for layer in ("bronze", "silver"):
        (lake.contracts / layer).mkdir(parents=True)
        for name in ("addresses", "loyalty_accounts"):
            shutil.copy(PROJECT / "contracts" / layer / f"{name}.yaml", lake.contracts / layer)
    return lake


def give(lake: TinyLake, table: str, found: Captured, days: list[str]) -> None:
    """Transactions arrive whole, each on a day; their rows in the reverse order of the log."""
    columns = lake.parsed()[f"bronze.{table}"].column
    arriving: dict[str, list[dict[str, Any]]] = {day: [] for day in DAYS}
    for changes, day in zip(found.transactions, days, strict=False):
        arriving[day] += [{n: v for n, v in c.items() if n in columns} for c in reversed(changes)]
    lake.given(f"bronze.{table}", arriving)


@examples(10)
@given(LOGS, st.lists(st.sampled_from(DAYS), min_size=7, max_size=7), schedules())
def test_silver_holds_what_the_database_held_however_its_changes_arrive(source_db, log, days, runs):
    found = captured(log)
    give(source_db, "addresses", found, days)
    lake = source_db.beside(f"lake{next(_lakes)}")
    for run in runs:
        assert not lake.run("silver.addresses", *run, force=True).failed
    there = {
        r["address_id"]: r["street"] for r in lake.rows("silver.addresses") if not r["is_deleted"]
    }
    assert there == found.rows


def test_a_key_that_is_given_away_and_taken_at_one_position_stays(source_db):
    found = captured([[Statement("shift", 1, "")]])
    give(source_db, "addresses", found, [MONDAY, TUESDAY])
    source_db.run("silver.addresses", MONDAY)
    source_db.run("silver.addresses", TUESDAY)
    assert source_db.rows("silver.addresses", "address_id", "is_deleted") == [
        {"address_id": 1, "is_deleted": True},
        {"address_id": 2, "is_deleted": False},
        {"address_id": 3, "is_deleted": False},
    ]


def test_a_history_has_the_last_state_of_each_transaction(source_db):
    first = [Statement("set", 1, "a"), Statement("set", 1, "b")]
    found = captured([first, [Statement("drop", 1, "")]])
    give(source_db, "loyalty_accounts", found, [MONDAY, TUESDAY, TUESDAY])
    source_db.run("silver.loyalty_accounts", TUESDAY)
    source_db.run("silver.loyalty_accounts", MONDAY)
    minute = dt.timedelta(minutes=1)
    rows = [r for r in source_db.rows("silver.loyalty_accounts") if r["loyalty_id"] == 1]
    assert [(r["tier"], r["valid_from"], r["valid_to"], r["is_current"]) for r in rows] == [
        ("BRONZE", LOADED, BEGIN, False),
        ("GOLD", BEGIN, BEGIN + minute, False),
        ("GOLD", BEGIN + minute, None, False),
    ]
    assert [r["is_deleted"] for r in rows] == [False, False, True]


def test_files_that_come_twice_or_days_late_change_nothing(source_db):
    """DMS sends a file again when it has not seen that it arrived."""
    log = [[Statement("set", 1, "a")], [Statement("shift", 1, "")], [Statement("drop", 2, "")]]
    once = captured(log)
    twice = once._replace(transactions=[*once.transactions, *once.transactions])
    give(source_db, "addresses", twice, [TUESDAY, MONDAY, TUESDAY, MONDAY, *[WEDNESDAY] * 4])
    for day in (TUESDAY, MONDAY, WEDNESDAY):
        assert not source_db.run("silver.addresses", day).failed
    there = [r for r in source_db.rows("silver.addresses") if not r["is_deleted"]]
    assert {r["address_id"]: r["street"] for r in there} == once.rows
    (late,) = [r for r in source_db.ledger("silver.addresses") if r.partition == WEDNESDAY]
    assert late.inserted + late.updated + late.deleted == 0, "nothing of it was new"


def test_what_changes_while_a_full_load_runs_wins_over_what_the_load_had_read(source_db):
    """Rows of a load have the start of its task, as the target's settings say, whenever they arrive."""
    found = captured([[Statement("set", 1, "new")], [Statement("drop", 2, "")]])
    give(source_db, "addresses", found, [TUESDAY, MONDAY, MONDAY])
    for day in (MONDAY, TUESDAY):
        assert not source_db.run("silver.addresses", day).failed
    there = [r for r in source_db.rows("silver.addresses") if not r["is_deleted"]]
    assert {r["address_id"]: r["street"] for r in there} == found.rows == {1: "new"}


def test_csv_as_the_target_s_settings_say_gives_the_rows_of_the_database(lake):
    """A row of a full load has no place among changes, whatever DMS writes for nothing."""
    bronze, silver = (
        yaml.safe_load((PROJECT / "contracts" / layer / "addresses.yaml").read_text())
        for layer in ("bronze", "silver")
    )
    for of in bronze["schema"][0]["properties"]:
        of["physicalType"] = "string"
    source = next(p["value"] for p in bronze["customProperties"] if p["property"] == "source")
    source["format"] = "csv"
    lake.define(bronze)
    lake.define(
        silver,
        """
        from spark_jobs.columns import LINEAGE, boolean, change_position, instant, number, text
        from pyspark.sql import functions as F

        def transform(addresses):
            at = instant("commit_ts")
            return addresses.select(
                *LINEAGE, number("address_id", "bigint").alias("address_id"),
                number("customer_id", "bigint").alias("customer_id"), text("street").alias("street"),
                text("city").alias("city"), text("postal_code").alias("postal_code"),
                boolean("is_default").alias("is_default"), F.col("Op").alias("op"),
                (F.col("Op") == "D").alias("is_deleted"),
                change_position(at).alias("position"), at.alias("updated_at"),
            )
        """,
    )
    found = captured([[Statement("set", 1, '3, "Old" Mill'), Statement("drop", 2, "")]])
    target = dms.files(lake.parsed())["target-settings.json"]
    for day, name, changes in zip(
        (MONDAY, TUESDAY), ("LOAD00000001", "20261006-040000123"), found.transactions, strict=True
    ):
        lake.land("addresses", day, f"{name}.csv", as_csv(changes, lake, target))
        assert not lake.run("bronze.addresses", day).failed
        assert not lake.run("silver.addresses", day).failed
    assert lake.rows("silver.addresses", "address_id", "street", "city", "is_deleted") == [
        {"address_id": 1, "street": '3, "Old" Mill', "city": None, "is_deleted": False},
        {"address_id": 2, "street": "old", "city": None, "is_deleted": True},
    ]


def as_csv(changes: list[dict[str, Any]], lake: TinyLake, target: dict[str, Any]) -> str:
    """A file as DMS writes it by these settings."""
    text = io.StringIO(newline="")
    columns = lake.parsed()["bronze.addresses"].column
    lines = csv.DictWriter(text, list(columns), lineterminator="\n", extrasaction="ignore")
    if target["AddColumnName"]:
        lines.writeheader()
    for change in changes:
        null = target.get("CsvNullValue", "NULL")
        given = {c: change.get(c) for c in columns}
        lines.writerow({c: null if value is None else value for c, value in given.items()})
    return text.getvalue()
