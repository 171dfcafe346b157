"""Publishing, by properties: one change feed gives one table, in whatever order, split or repetition
it arrives.

Here: what holds for every feed, against an oracle in plain Python. Not here: that both engines agree
(tests/conformance), or what a crash leaves behind (test_crash.py).
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from spark_jobs.batch.reconcile import reconcile
from tests.lakes import MONDAY, TUESDAY, WEDNESDAY, TinyLake, bronze, column, contract, copied

DAYS = (MONDAY, TUESDAY, WEDNESDAY)
FIELDS = ("id", "at", "gone", "x", "y")
_lakes = itertools.count()


def examples(n: int) -> settings:
    """The same examples on every machine and day: a failure is never a matter of luck."""
    return settings(
        max_examples=n,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),  # shrinking runs tables for minutes
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


class Change(NamedTuple):
    """One record of a change feed, and the days that deliver it."""

    id: int
    at: dt.datetime
    gone: bool
    x: str | None
    y: str | None
    days: tuple[str, ...]

    @property
    def row(self) -> dict[str, Any]:
        return {n: getattr(self, n) for n in FIELDS}


# Few keys, times and values, so that most feeds hold late records, ties, repetitions and deletes.
# x and y have one type and may be null: which of the two is null must matter.
CHANGES = st.builds(
    Change,
    id=st.integers(1, 3),
    at=st.integers(1, 3).map(lambda h: dt.datetime(2026, 10, 5, h, tzinfo=dt.UTC)),
    gone=st.sampled_from([False, False, True]),
    x=st.sampled_from([None, "a", "b"]),
    y=st.sampled_from([None, "a"]),
    days=st.lists(st.sampled_from(DAYS), min_size=1, max_size=3).map(tuple),
)
FEEDS = st.lists(CHANGES, min_size=2, max_size=9)


@st.composite
def schedules(draw: st.DrawFn) -> list[tuple[str, ...]]:
    """Runs that cover all days: in any order, some together, some again."""
    days = draw(st.permutations(DAYS))
    cuts = sorted(draw(st.sets(st.integers(1, 2))))
    runs = [tuple(days[a:b]) for a, b in itertools.pairwise([0, *cuts, 3])]
    return runs + draw(st.lists(st.sampled_from(runs), max_size=1))


def delivered(feed: list[Change]) -> dict[str, list[dict[str, Any]]]:
    return {day: [c.row for c in feed for d in c.days if d == day] for day in DAYS}


@pytest.fixture
def feed_lake(lake: TinyLake) -> TinyLake:
    """A bronze feed, and a table of each keyed mode over it."""
    types = {"id": "bigint", "at": "timestamp", "gone": "boolean", "x": "string", "y": "string"}
    lake.define(bronze("feed", "parquet", *(column(n, t) for n, t in types.items())))
    made = copied(*FIELDS, table="feed")
    plain = [column(n, types[n]) for n in FIELDS[2:]]
    layout = {"inputs": [{"table": "bronze.feed"}], "physicalPartition": "none"}
    at = column("at", "timestamp", required=True)
    lake.define(
        contract(
            "silver.latest",
            [column("id", "bigint", key=1), at, *plain],
            publish={"mode": "upsert", "sequence": "at", "delete_column": "gone"},
            **layout,
        ),
        made,
    )
    lake.define(
        contract(
            "silver.spread",  # the same, in one folder per day of arrival
            [column("id", "bigint", key=1), at, *plain],
            publish={"mode": "upsert", "sequence": "at", "delete_column": "gone"},
            inputs=layout["inputs"],
        ),
        made,
    )
    history = [column("valid_to", "timestamp"), column("is_current", "boolean")]
    lake.define(
        contract(
            "silver.history",
            [column("id", "bigint", key=1), column("at", "timestamp", key=2), *plain, *history],
            publish={"mode": "scd2", "sequence": "at", "delete_column": "gone"},
            **layout,
        ),
        made,
    )
    lake.define(contract("silver.slices", [column("id", "bigint"), at, *plain], **layout), made)
    return lake


def after(lake: TinyLake, table: str, feed: list[Change], runs: list[tuple[str, ...]]) -> list:
    """The table after these runs, each of which must account for every row."""
    tiny = lake.beside(f"lake{next(_lakes)}")
    size = {day: len(rows) for day, rows in delivered(feed).items()}
    newest: dict[int, dt.datetime] = {}
    for run in runs:
        report = tiny.run(table, *run, force=True)
        assert [p.partition for p in report.partitions] == sorted(run)
        for p in report.partitions:
            assert p.status == ("published" if size[p.partition] else "empty"), p.error
            assert p.counts.read == p.counts.accounted == size[p.partition]
        for row in tiny.rows(table, "id", "at"):
            if table != "silver.slices":
                assert row["at"] >= newest.get(row["id"], row["at"]) or table == "silver.history"
                newest[row["id"]] = max(row["at"], newest.get(row["id"], row["at"]))
    if len(runs) > 1:
        assert reconcile(lake.engine.spark, tiny.parsed()[table], tiny.lake) == []
    return tiny.rows(table)


def contents(rows: list[dict[str, Any]]) -> Iterator[tuple]:
    return (tuple(r[n] for n in FIELDS) for r in rows)


def candidates(feed: list[Change]) -> dict[tuple, set[tuple]]:
    """For each key and time the records that may stand there; more than one if they tie."""
    out = defaultdict(set)
    for c in feed:
        out[c.id, c.at].add(tuple(c.row.values()))
    return out


ALL_AT_ONCE = [DAYS]


@examples(15)
@given(feed=FEEDS, runs=schedules(), table=st.sampled_from(["silver.latest", "silver.spread"]))
def test_upsert_gives_one_table_in_any_order_split_and_repetition(feed_lake, feed, runs, table):
    feed_lake.given("bronze.feed", delivered(feed))
    rows = after(feed_lake, table, feed, ALL_AT_ONCE)
    newest = {c.id: max(o.at for o in feed if o.id == c.id) for c in feed}
    assert {(r["id"], r["at"]) for r in rows} == set(newest.items()) and len(rows) == len(newest)
    assert all(row in candidates(feed)[row[0], row[1]] for row in contents(rows))
    event(f"runs: {len(runs)}")
    assert after(feed_lake, table, feed, runs) == rows


@examples(15)
@given(feed=FEEDS, runs=schedules())
def test_scd2_gives_one_history_in_any_order_split_and_repetition(feed_lake, feed, runs):
    feed_lake.given("bronze.feed", delivered(feed))
    rows = after(feed_lake, "silver.history", feed, ALL_AT_ONCE)
    assert {(r["id"], r["at"]) for r in rows} == candidates(feed).keys()
    assert len(rows) == len(candidates(feed))
    assert all(row in candidates(feed)[row[0], row[1]] for row in contents(rows))
    for row in rows:
        later = [at for key, at in candidates(feed) if key == row["id"] and at > row["at"]]
        assert row["valid_to"] == min(later, default=None)
        assert row["is_current"] == (not later and not row["gone"])
    assert after(feed_lake, "silver.history", feed, runs) == rows


@examples(8)
@given(feed=FEEDS, runs=schedules())
def test_replaced_partitions_hold_what_was_delivered_in_any_order(feed_lake, feed, runs):
    feed_lake.given("bronze.feed", delivered(feed))
    rows = after(feed_lake, "silver.slices", feed, runs)
    assert Counter(contents(rows)) == Counter(tuple(c.row.values()) for c in feed for _ in c.days)


# -- said once more, as examples ---------------------------------------------------------------


def change(id_: int | None, hour: int, x: str | None = None, *, gone: bool = False, day: str = MONDAY,
           y: str | None = None) -> Change:  # fmt: skip
    return Change(id_, dt.datetime(2026, 10, 5, hour, tzinfo=dt.UTC), gone, x, y, (day,))


def test_an_older_record_never_overwrites_a_newer_one(feed_lake):
    feed = [change(1, 9, "new", day=MONDAY), change(1, 8, "old", day=TUESDAY)]
    feed_lake.given("bronze.feed", delivered(feed))
    first = feed_lake.run("silver.latest", MONDAY)
    assert (first.counts.inserted, feed_lake.rows("silver.latest", "x")) == (1, ["new"])
    second = feed_lake.run("silver.latest", TUESDAY)
    assert (second.counts.duplicate, feed_lake.rows("silver.latest", "x")) == (1, ["new"])


def test_an_older_record_never_brings_a_deleted_row_back(feed_lake):
    feed = [change(1, 9, gone=True, day=MONDAY), change(1, 8, "old", day=TUESDAY)]
    feed_lake.given("bronze.feed", delivered(feed))
    feed_lake.run("silver.latest", MONDAY)
    assert feed_lake.run("silver.latest", TUESDAY).counts.duplicate == 1
    assert feed_lake.rows("silver.latest", "gone") == [True]


def test_records_of_one_time_settle_alike_in_both_orders(feed_lake):
    feed = [change(1, 9, None, y="a", day=MONDAY), change(1, 9, "a", y=None, day=TUESDAY)]
    feed_lake.given("bronze.feed", delivered(feed))
    there = after(feed_lake, "silver.latest", feed, [(MONDAY,), (TUESDAY,)])
    back = after(feed_lake, "silver.latest", feed, [(TUESDAY,), (MONDAY,)])
    assert there == back


def test_a_second_run_of_the_same_partition_commits_nothing(feed_lake):
    feed = [change(1, 9, "a"), change(2, 9, "b"), change(2, 8, "c")]
    feed_lake.given("bronze.feed", delivered(feed))
    for table in ("silver.latest", "silver.history"):
        feed_lake.run(table, MONDAY)
        before = feed_lake.versions(table)
        again = feed_lake.run(table, MONDAY, force=True)
        assert again.counts.published == 0 and again.counts.read == 3
        assert feed_lake.versions(table) == before
        assert feed_lake.run(table, MONDAY).partitions[0].status == "unchanged"


def test_a_batch_rewrites_only_the_folders_that_it_touches(feed_lake):
    feed = [change(1, 8, "a", day=MONDAY), change(2, 8, "b", day=TUESDAY),
            change(2, 9, "c", day=WEDNESDAY)]  # fmt: skip
    feed_lake.given("bronze.feed", delivered(feed))
    feed_lake.run("silver.spread", MONDAY, TUESDAY)
    before = {u for u in feed_lake.delta("silver.spread").file_uris() if MONDAY in u}
    feed_lake.run("silver.spread", WEDNESDAY)
    assert before and before <= set(feed_lake.delta("silver.spread").file_uris())
    assert feed_lake.rows("silver.spread", "x") == ["a", "c"]


# -- aggregates and snapshots ------------------------------------------------------------------


@pytest.fixture
def daily_lake(lake: TinyLake) -> TinyLake:
    """A fact table and its sums per day, recomputed for the days that a batch touches."""
    lake.define(bronze("raw", "parquet", column("id", "bigint")))
    fact = [column("id", "bigint"), column("day", "date", required=True), column("n", "bigint")]
    lake.define(contract("silver.facts", fact, inputs=[{"table": "bronze.raw"}]), "")
    lake.define(
        contract(
            "gold.daily",
            [column("day", "date", key=1), column("total", "bigint")],
            inputs=[{"table": "silver.facts", "read": "touched", "by": "day"}],
            publish={"mode": "replace_partition", "column": "day"},
            physicalPartition="day",
            grain="aggregate",
        ),
        """
        from pyspark.sql import functions as F

        def transform(facts):
            return facts.groupBy("day").agg(
                F.max("_partition").alias("_partition"),
                F.count("*").cast("bigint").alias("_rows"),
                F.sum("n").cast("bigint").alias("total"),
            )
        """,
    )
    lake.define(
        contract(
            "gold.biggest",
            [column("day", "date", key=1), column("n", "bigint")],
            inputs=[{"table": "gold.daily", "read": "lookup"}],
            publish={"mode": "snapshot"},
            partitioning=None,
            physicalPartition="none",
        ),
        """
        from spark_jobs.columns import LINEAGE
        from pyspark.sql import functions as F

        def transform(daily):
            return daily.select(*LINEAGE, "day", F.col("total").alias("n"))
        """,
    )
    return lake


FACTS = st.lists(
    st.tuples(st.sampled_from(DAYS), st.sampled_from([dt.date(2026, 10, d) for d in (1, 2, 3)]),
              st.integers(1, 9)),
    min_size=1, max_size=8,
)  # fmt: skip


@examples(8)
@given(facts=FACTS, runs=schedules())
def test_sums_of_touched_days_are_right_in_any_order(daily_lake, facts, runs):
    by_arrival = {
        day: [{"id": i, "day": d, "n": n} for i, (a, d, n) in enumerate(facts) if a == day]
        for day in DAYS
    }
    daily_lake.given("silver.facts", by_arrival)
    tiny = daily_lake.beside(f"lake{next(_lakes)}")
    daily_lake.zones["silver"], silver = tiny.zones["silver"], daily_lake.zones["silver"]
    tiny.zones["silver"] = daily_lake.zones["silver"] = silver
    for run in runs:
        for p in tiny.run("gold.daily", *run, force=True).partitions:
            assert p.status in ("published", "empty"), p.error
            assert p.counts.read == p.counts.accounted
    totals = Counter()
    for _, d, n in facts:
        totals[d] += n
    assert {r["day"]: r["total"] for r in tiny.rows("gold.daily")} == totals
    snapshot = tiny.run("gold.biggest")
    assert snapshot.counts.inserted == snapshot.counts.read == len(totals)
    assert {r["day"]: r["n"] for r in tiny.rows("gold.biggest")} == totals


@pytest.mark.parametrize("mode", ["upsert", "replace_partition"])
def test_a_row_that_moves_to_another_day_leaves_the_sum_of_the_day_that_it_was_of(daily_lake, mode):
    columns = [column("id", "bigint"), column("day", "date"), column("n", "bigint"),
               column("at", "timestamp")]  # fmt: skip
    daily_lake.define(bronze("raw", "parquet", *columns))
    fact = [column("id", "bigint", key=1), column("day", "date", required=True),
            column("n", "bigint"), column("at", "timestamp", required=True)]  # fmt: skip
    publish = {"mode": mode, **({"sequence": "at"} if mode == "upsert" else {})}
    daily_lake.define(
        contract("silver.facts", fact, inputs=[{"table": "bronze.raw"}], publish=publish),
        copied("id", "day", "n", "at", table="raw"),
    )
    first, second, third = (dt.date(2026, 10, d) for d in (1, 2, 3))

    def rows(hour: int, *facts: tuple[int, dt.date, int]) -> list[dict]:
        at = dt.datetime(2026, 10, 5, hour, tzinfo=dt.UTC)
        return [{"id": i, "day": d, "n": n, "at": at} for i, d, n in facts]

    def run(delivered: list[dict], *days: str) -> dict:
        for landed in delivered:
            daily_lake.given("bronze.raw", landed)
            daily_lake.run("silver.facts", *days)
        report = daily_lake.run("gold.daily", *days)
        assert not report.failed
        assert report.counts.read == report.counts.accounted
        return {r["day"]: r["total"] for r in daily_lake.rows("gold.daily")}

    before = {MONDAY: rows(1, (1, first, 1), (2, first, 2), (3, third, 5))}
    assert run([before], MONDAY) == {first: 3, third: 5}
    moved = rows(2, (1, second, 1), (3, second, 5))
    if mode == "upsert":  # they come again a day later
        more = [*moved, *rows(3, (4, second, 9))]  # and once more, before the sums are asked for
        assert run([before | {TUESDAY: moved}, before | {TUESDAY: more}], TUESDAY) == {
            first: 2, second: 15
        }  # fmt: skip
    else:  # Monday is delivered again
        again = [*rows(1, (2, first, 2)), *moved]
        more = [*again, *rows(3, (4, second, 9))]
        assert run([{MONDAY: again}, {MONDAY: more}], MONDAY) == {first: 2, second: 15}
    assert not daily_lake.run("gold.daily", MONDAY, force=True).failed
    assert sum(r["total"] for r in daily_lake.rows("gold.daily")) == 17


def test_a_snapshot_is_the_last_batch_and_nothing_else(daily_lake):
    def facts(n: int) -> dict:
        return {MONDAY: [{"id": 1, "day": dt.date(2026, 10, n), "n": n}]}

    for n in (1, 2):
        daily_lake.given("silver.facts", facts(n))
        daily_lake.run("gold.daily", MONDAY, force=True)
        daily_lake.run("gold.biggest")
    assert daily_lake.run("gold.biggest").partitions[0].status == "unchanged"
    assert daily_lake.rows("gold.biggest", "n") == daily_lake.rows("gold.daily", "total")
    daily_lake.run("gold.biggest", force=True)
    assert daily_lake.rows("gold.biggest", "n") == daily_lake.rows("gold.daily", "total")
