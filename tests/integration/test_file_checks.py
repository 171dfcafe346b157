"""Checks of what a table became: they look at the files of the very batch that was published.

Here: runs against a real table. Not here: thresholds and shares (tests/unit/test_gate.py).
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from spark_jobs.report import Check, PartitionReport
from tests.lakes import (
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    TinyLake,
    bronze,
    column,
    contract,
    failed_checks,
    only,
)

COPY = """
    from spark_jobs.columns import LINEAGE, instant, number

    def transform(feed):
        return feed.select(*LINEAGE, number("id", "bigint").alias("id"), instant("at").alias("at"),
                           "name")
"""
MODES = ("upsert", "scd2", "replace_partition")


def jsonl(day: str, ids: Iterable[int], name: str | None) -> str:
    text = "null" if name is None else f'"{name}"'
    return "".join(f'{{"id":"{i}","at":"{day}T09:00:00Z","name":{text}}}\n' for i in ids)


def define(lake: TinyLake, mode: str, **gates: float) -> None:
    """Bronze and silver of a feed; silver is one physical partition."""
    lake.define(bronze("feed", "json", *map(column, ("id", "at", "name"))))
    columns = [
        column("id", "bigint", key=1),
        column("at", "timestamp", key=2 if mode == "scd2" else 0, required=True),
        column("name"),
    ]
    if mode == "scd2":
        columns += [column("valid_to", "timestamp"), column("is_current", "boolean")]
    publish = {"mode": mode} | ({} if mode == "replace_partition" else {"sequence": "at"})
    document = contract(
        "silver.feed",
        columns,
        publish=publish,
        inputs=[{"table": "bronze.feed"}],
        physicalPartition="none",
        gates={"expected_rows": 1, "max_volume_change": 100, **gates},
    )
    lake.define(document, COPY)


def deliver(lake: TinyLake, day: str, ids: Iterable[int], name: str | None = "x") -> None:
    lake.land("feed", day, "f.json", jsonl(day, ids, name))
    lake.run("bronze.feed", day)


def check(report: PartitionReport, name: str) -> Check:
    (found,) = [c for c in report.checks if c.name == name]
    return found


def test_a_table_that_falls_into_small_files_warns_and_is_published(lake):
    define(lake, "replace_partition", max_files=2)
    observed, failed = [], []
    for day in (MONDAY, TUESDAY, WEDNESDAY):
        deliver(lake, day, [1])
        report = only(lake.run("silver.feed", day))
        assert report.status == "published"
        observed.append(check(report, "small_files").observed)
        failed.append(failed_checks(report))
    assert len(lake.delta("silver.feed").file_uris()) == 3
    assert observed == [1, 2, 3]
    assert failed == [set(), set(), {"small_files"}]
    assert '"small_files"' in lake.ledger("silver.feed")[-1].checks


@pytest.mark.parametrize("mode", MODES)
def test_only_the_rows_of_the_batch_are_compared_and_not_those_written_again(lake, mode):
    define(lake, mode)
    deliver(lake, MONDAY, range(100))
    first = only(lake.run("silver.feed", MONDAY))
    assert failed_checks(first) == set()
    assert check(first, "null_drift").detail == "the table had no rows to compare with"
    deliver(lake, TUESDAY, [7], None)
    second = only(lake.run("silver.feed", TUESDAY))
    assert failed_checks(second) == {"null_drift"}
    # A history keeps the version before beside the new one, so half of what it brought is null.
    now = "50.0%" if mode == "scd2" else "100.0%"
    assert check(second, "null_drift").detail == f"name: 0.0% of rows null before, {now} now"


def test_a_batch_like_the_table_does_not_drift(lake):
    define(lake, "upsert")
    deliver(lake, MONDAY, range(100), None)
    deliver(lake, TUESDAY, range(50, 60), None)
    lake.run("silver.feed", MONDAY)
    assert failed_checks(only(lake.run("silver.feed", TUESDAY))) == set()


def test_a_day_that_stays_out_has_no_check_of_files_and_the_others_have(lake):
    define(lake, "upsert")
    deliver(lake, MONDAY, [1, 2])
    deliver(lake, TUESDAY, ["none"])
    shut, published = sorted(
        lake.run("silver.feed", MONDAY, TUESDAY).partitions, key=lambda p: p.status
    )
    assert (shut.partition, published.partition) == (TUESDAY, MONDAY)
    made = {"small_files", "null_drift"}
    assert not made & {c.name for c in shut.checks}
    assert made <= {c.name for c in published.checks}
