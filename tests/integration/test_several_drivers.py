"""Tables that several tables drive: what reaches them by one way or the other is one feed.

Here: that a table driven by two is what one would be with the rows of both. Not here: what publishing
makes of a feed (test_publish_properties.py).
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_jobs.recompute import differences
from tests.integration.test_publish_properties import (
    ALL_AT_ONCE,
    DAYS,
    FEEDS,
    FIELDS,
    after,
    change,
    delivered,
    examples,
    schedules,
)
from tests.lakes import MONDAY, TUESDAY, TinyLake, bronze, column, contract, copied, only, rule

TYPES = {"id": "bigint", "at": "timestamp", "gone": "boolean", "x": "string", "y": "string"}
UPSERT = {"mode": "upsert", "sequence": "at", "delete_column": "gone"}
_BOTH = """
    from spark_jobs.columns import LINEAGE

    def transform({0}, {1}):
        columns = [*LINEAGE, "id", "at", "gone", "x", "y"]
        return {0}.select(*columns).unionByName({1}.select(*columns))
"""


def keyed(table: str, *inputs: str, publish: dict = UPSERT, ends: tuple[dict, ...] = ()) -> dict:
    at = column("at", "timestamp", required=True, key=2 if ends else 0)
    x = column("x", "string", rule("accepted_values", values=["a", "b", "new", "old"]))
    return contract(
        table,
        [column("id", "bigint", key=1), at, column("gone", "boolean"), x, column("y"), *ends],
        publish=publish,
        inputs=[{"table": t} for t in inputs],
        physicalPartition="none",
        gates={"min_rows": 0, "max_quarantine_rate": 1.0},
    )


@pytest.fixture
def two_feeds(lake: TinyLake) -> TinyLake:
    """Bronze feeds `one` and `two`, which `silver.both` unites, as `silver.latest` has all of them in
    `feed`; and `gold.both`, over a silver table of each."""
    for name in ("feed", "one", "two"):
        lake.define(bronze(name, "parquet", *(column(n, t) for n, t in TYPES.items())))
    lake.define(keyed("silver.latest", "bronze.feed"), copied(*FIELDS, table="feed"))
    lake.define(keyed("silver.both", "bronze.one", "bronze.two"), _BOTH.format("one", "two"))
    for name in ("one", "two"):
        lake.define(keyed(f"silver.{name}", f"bronze.{name}"), copied(*FIELDS, table=name))
    lake.define(keyed("gold.both", "silver.one", "silver.two"), _BOTH.format("one", "two"))
    return lake


def given_both(lake: TinyLake, feed: list, first: list[bool]) -> None:
    lake.given("bronze.feed", delivered(feed))
    for name, mine in (("one", True), ("two", False)):
        part = [c for c, is_first in zip(feed, first, strict=True) if is_first == mine]
        lake.given(f"bronze.{name}", delivered(part))


@examples(8)
@given(feed=FEEDS, runs=schedules(), ways=st.lists(st.booleans(), min_size=9, max_size=9))
def test_two_tables_drive_one_as_their_union_would(two_feeds, feed, runs, ways):
    given_both(two_feeds, feed, ways[: len(feed)])
    united = after(two_feeds, "silver.latest", feed, ALL_AT_ONCE)
    assert after(two_feeds, "silver.both", feed, runs) == united


def test_the_newer_record_wins_whichever_table_it_comes_from(two_feeds):
    feed = [change(1, 9, "new"), change(1, 8, "old"), change(2, 8, "old"), change(2, 9, "new")]
    given_both(two_feeds, feed, [True, False, True, False])
    report = two_feeds.run("silver.both", MONDAY)
    assert two_feeds.rows("silver.both", "x") == ["new", "new"]
    assert (report.counts.read, report.counts.inserted, report.counts.duplicate) == (4, 2, 2)
    assert two_feeds.run("silver.both", MONDAY).partitions[0].status == "unchanged"


def test_a_record_that_leaves_says_which_table_it_was_of(two_feeds):
    given_both(
        two_feeds, [change(1, 9, "no"), change(2, 9, "not"), change(3, 9, "a")], [True, False, True]
    )
    for table in ("silver.both", "silver.one", "silver.two"):
        two_feeds.run(table, MONDAY)
    found = {json.loads(r["record"])["_table"]: json.loads(r["record"])["x"]
             for r in two_feeds.quarantined("silver.both")}  # fmt: skip
    assert found == {"bronze.one": "no", "bronze.two": "not"}


def test_a_day_waits_for_each_table_that_drives_it(two_feeds):
    feed = [change(1, 9, "a")]
    two_feeds.given("bronze.one", delivered(feed))
    two_feeds.given("bronze.two", {TUESDAY: []})
    report = only(two_feeds.run("silver.both", MONDAY))
    assert report.status == "failed"
    assert "its input bronze.two has no published partition 2026-10-05" in str(report.error)
    assert only(two_feeds.run("silver.both", TUESDAY)).status == "empty"


def test_a_record_that_moves_between_days_leaves_the_rows_made_of_it(two_feeds):
    """Day by day, silver first: what Tuesday moved must be gone from Monday's rows of gold, and
    gold must be what it would be if it were made anew."""
    feed = [
        change(1, 8, "old"), change(1, 9, "new", day=TUESDAY),
        change(2, 9, "no"), change(2, 8, "b", day=TUESDAY), change(3, 8, "a"),
    ]  # fmt: skip
    given_both(two_feeds, feed, [True, True, False, False, False])
    for day in DAYS:
        for table in ("silver.one", "silver.two", "gold.both"):
            assert not two_feeds.run(table, day).failed
    assert two_feeds.rows("gold.both", "id", "x") == [
        {"id": 1, "x": "new"}, {"id": 2, "x": "b"}, {"id": 3, "x": "a"},
    ]  # fmt: skip
    contracts = two_feeds.parsed()
    found = differences(two_feeds.engine, contracts, contracts["gold.both"], two_feeds.lake)
    assert list(found) == []
