"""A daily table over hourly data: a partition is made of the windows inside it.

Here: rows, gates and staleness on the real engine. Not here: what Dagster asks for, and when.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spark_jobs.batch.reconcile import reconcile
from spark_jobs.engines.session import Engine
from tests.lakes import (
    MONDAY,
    TUESDAY,
    TinyLake,
    bronze,
    column,
    contract,
    copied,
    failed_checks,
    only,
    rule,
    transforms_in,
)

HOURS = [f"{MONDAY}T{hour:02d}" for hour in range(24)]
DAILY_SUM = """
    from pyspark.sql import functions as F

    def transform(readings):
        return readings.groupBy("day").agg(
            F.max("_partition").alias("_partition"),
            F.count("*").alias("_rows"),
            F.sum("value").cast("bigint").alias("total"),
        )
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.start("sail") as started:
        yield started


@pytest.fixture
def lake(tmp_path: Path, engine: Engine) -> Iterator[TinyLake]:
    """Hourly readings, and two daily tables over them: row by row, and one sum a day."""
    lake = TinyLake(tmp_path, engine)
    hourly: dict[str, Any] = {"partitioning": "hourly"}
    raw = bronze("readings", "csv", column("id"), column("value"), column("at"), **hourly)
    lake.define(raw)
    columns = [
        column("id", "bigint", key=1, of="bronze.readings.id"),
        column("value", "bigint", of="bronze.readings.value"),
        column("at", "timestamp", required=True, of="bronze.readings.at"),
        column("day", "date", required=True, of="bronze.readings.at"),
    ]
    upsert = {"mode": "upsert", "sequence": "at"}
    lake.define(
        contract("silver.readings", columns, inputs=[{"table": "bronze.readings"}],
                 publish=upsert, **hourly),
        copied(
            table="readings",
            extra="number('id', 'bigint').alias('id'), number('value', 'bigint').alias('value'),"
            " F.to_timestamp('at').alias('at'), F.to_timestamp('at').cast('date').alias('day')",
        ),
    )  # fmt: skip
    of = "silver.readings."
    small = rule("range", max=1000)
    kept = [
        column("id", "bigint", key=1, of=f"{of}id"),
        column("value", "bigint", small, of=f"{of}value"),
        column("at", "timestamp", required=True, of=f"{of}at"),
    ]
    lake.define(
        contract("gold.daily", kept, inputs=[{"table": "silver.readings"}], publish=upsert,
                 gates={"max_quarantine_rate": 1.0}),
        copied("id", "value", "at", table="readings"),
    )  # fmt: skip
    lake.define(
        contract(
            "gold.total",
            [
                column("day", "date", key=1, of=f"{of}day"),
                column("total", "bigint", of=f"{of}value"),
            ],
            inputs=[{"table": "silver.readings", "read": "touched", "by": "day"}],
            publish={"mode": "replace_partition", "column": "day"},
            grain="aggregate",
        ),
        DAILY_SUM,
    )
    with transforms_in(lake.transforms):
        yield lake


def deliver(lake: TinyLake, hours: list[str], value: int = 1) -> None:
    for hour in hours:
        number, at = (
            int(hour[8:10]) * 100 + int(hour[11:]),
            f"{hour.replace(chr(84), chr(32))}:30:00",
        )
        text = f"id,value,at\n{number},{value},{at}\n"
        lake.land("readings", hour, "readings.csv", text)
    for table in ("bronze.readings", "silver.readings"):
        assert not lake.run(table, *hours).failed


def test_a_day_is_made_of_the_rows_of_its_hours(lake: TinyLake) -> None:
    deliver(lake, [*HOURS, *(h.replace(MONDAY, TUESDAY) for h in HOURS)])
    report = lake.run("gold.daily", MONDAY, TUESDAY)
    assert [(p.partition, p.status, p.counts.read) for p in report.partitions] == [
        (MONDAY, "published", 24),
        (TUESDAY, "published", 24),
    ]
    assert set(lake.rows("gold.daily", "_partition")) == {MONDAY, TUESDAY}
    assert len(lake.rows("gold.daily")) == 48
    lake.run("gold.total", MONDAY, TUESDAY)
    assert lake.rows("gold.total", "total") == [24, 24]
    for table in ("gold.daily", "gold.total"):
        assert reconcile(lake.engine.spark, lake.parsed()[table], lake.lake) == []


def test_a_day_without_some_of_its_hours_fails_and_names_them(lake: TinyLake) -> None:
    deliver(lake, [h for h in HOURS if h[-2:] not in ("03", "04", "17")])
    failed = only(lake.run("gold.daily", MONDAY))
    assert failed.status == "failed"
    assert f"{MONDAY}T03 to {MONDAY}T04, {MONDAY}T17 (3 of 24)" in failed.error
    assert lake.rows("gold.daily") == []


def test_a_changed_hour_makes_its_day_stale_and_no_other(lake: TinyLake) -> None:
    deliver(lake, [*HOURS, *(h.replace(MONDAY, TUESDAY) for h in HOURS)])
    lake.run("gold.total", MONDAY, TUESDAY)
    deliver(lake, [HOURS[7]], value=5)
    report = lake.run("gold.total", MONDAY, TUESDAY)
    assert [p.status for p in report.partitions] == ["published", "unchanged"]
    assert sorted(lake.rows("gold.total", "total")) == [24, 28]


def test_a_row_that_an_hour_withdrew_leaves_its_day(lake: TinyLake) -> None:
    deliver(lake, HOURS)
    lake.run("gold.daily", MONDAY)
    lake.land("readings", HOURS[3], "readings.csv", f"id,value,at\n999,1,{HOURS[3]}:30:00\n")
    for table in ("bronze.readings", "silver.readings"):
        lake.run(table, HOURS[3])
    lake.run("gold.daily", MONDAY)
    ids = lake.rows("gold.daily", "id")
    assert 999 in ids
    assert 503 not in ids
    assert len(ids) == 24


def test_a_day_of_which_every_hour_is_empty_is_empty(lake: TinyLake) -> None:
    deliver(lake, HOURS[:1])
    lake.given("silver.readings", {hour: [] for hour in HOURS})
    assert only(lake.run("gold.daily", MONDAY)).status == "empty"


def test_a_gate_of_a_day_judges_all_its_hours(lake: TinyLake) -> None:
    deliver(lake, HOURS[1:])
    deliver(lake, HOURS[:1], value=5000)
    report = only(lake.run("gold.daily", MONDAY))
    assert (report.status, report.counts.read, report.counts.quarantined) == ("published", 24, 1)
    (record,) = lake.quarantined("gold.daily")
    assert record["partition"] == MONDAY
    assert not {"row_balance", "row_count"} & failed_checks(report)
