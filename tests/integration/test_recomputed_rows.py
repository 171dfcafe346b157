"""A keyed table is what its present inputs say: a row that is computed again replaces its predecessor,
one that is withdrawn leaves, and what it had hidden is found again.

Here: corrections and withdrawals of delivered days, against a table that was built once from what
was delivered last. Not here: feeds that only grow (test_publish_properties.py).
"""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from spark_jobs.batch import inputs, quarantine, superseded
from spark_jobs.recompute import reconciled
from tests.integration.test_publish_properties import (
    CHANGES,
    DAYS,
    FIELDS,
    Change,
    change,
    delivered,
    examples,
    feed_lake,
)
from tests.lakes import (
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    TinyLake,
    column,
    contract,
    failed_checks,
    only,
    rule,
)

__all__ = ["feed_lake"]
_lakes = itertools.count()

# A day is delivered again with other records: corrected, withdrawn, or with more.
DELIVERIES = st.lists(
    st.tuples(st.sampled_from(DAYS), st.lists(CHANGES, max_size=4)), min_size=4, max_size=8
)


def built_once(lake: TinyLake, days: dict[str, list[dict[str, Any]]], *tables: str) -> TinyLake:
    once = TinyLake(lake.root, lake.engine, zones={
        z: f"{lake.root}/once{next(_lakes)}/{z}" for z in lake.zones
    }, _parsed=lake.parsed())  # fmt: skip
    once.given("bronze.feed", days)
    for table in tables:
        report = once.run(table, *DAYS)
        assert not report.failed, report.failed
    return once


def everything(lake: TinyLake, table: str) -> tuple[list[Any], list[Any]]:
    names = [c.name for c in lake.parsed()[table].columns]
    kept = [(r["partition"], r["rules"], r["record"]) for r in lake.quarantined(table)]
    return lake.rows(table, *names, "_partition"), sorted(kept, key=repr)


@pytest.mark.slow
@examples(12)
@given(
    deliveries=DELIVERIES,
    table=st.sampled_from(["silver.latest", "silver.spread", "silver.history"]),
)
def test_a_corrected_table_equals_one_that_was_built_once(feed_lake, deliveries, table):
    lake = feed_lake.beside(f"corrected{next(_lakes)}")
    lake.zones["bronze"] = f"{lake.zones['silver']}/../bronze"
    days: dict[str, list[dict[str, Any]]] = {day: [] for day in DAYS}
    lake.given("bronze.feed", days)
    for day, records in deliveries:
        days = days | {day: [c.row for c in records]}
        lake.given("bronze.feed", days)
        p = only(lake.run(table, day))
        assert p.status in ("published", "empty"), p.error
        assert p.counts.read == p.counts.accounted == len(records)
    once = built_once(lake, days, table)
    assert everything(lake, table) == everything(once, table)
    history = lake.ledger(table)
    rows = sum(r.inserted + r.added - r.withdrawn for r in history)
    assert rows == len(lake.rows(table))


@pytest.fixture
def chain(feed_lake: TinyLake) -> TinyLake:
    """Facts that are made of the changes of a keyed table, and reject some of its rows."""
    at = column("at", "timestamp", required=True)
    feed_lake.define(
        contract(
            "gold.facts",
            [column("id", "bigint", key=1), at, column("x", required=True), column("y")],
            publish={"mode": "upsert", "sequence": "at"},
            inputs=[{"table": "silver.latest"}],
            gates={"max_quarantine_rate": 1.0, "min_rows": 0},
        ),
        """
        from pyspark.sql import functions as F
        from spark_jobs.columns import LINEAGE

        def transform(latest):
            left_out = F.when(F.col("gone"), F.lit("deleted"))
            return latest.select(*LINEAGE, "id", "at", "x", "y", left_out.alias("_filtered"))
        """,
    )
    feed_lake.define(
        contract(
            "gold.sums",
            [column("y", "string", key=1), column("n", "bigint")],
            inputs=[{"table": "gold.facts", "read": "touched", "by": "y"}],
            publish={"mode": "replace_partition", "column": "y"},
            physicalPartition="none",
            grain="aggregate",
            gates={"max_quarantine_rate": 1.0},
        ),
        COUNTED,
    )
    return feed_lake


COUNTED = """
    from pyspark.sql import functions as F

    def transform(facts):
        return facts.groupBy("y").agg(
            F.max("_partition").alias("_partition"),
            F.count("*").cast("bigint").alias("_rows"),
            F.count("*").cast("bigint").alias("n"),
        )
"""
CHAIN = ("silver.latest", "gold.facts", "gold.sums")


def define_sums_over_sums(chain: TinyLake) -> None:
    """Adds gold.sizes: how many sums of gold.sums there are of each size."""
    chain.define(
        contract(
            "gold.sizes",
            [column("n", "bigint", key=1), column("groups", "bigint")],
            inputs=[{"table": "gold.sums", "read": "touched", "by": "n"}],
            publish={"mode": "replace_partition", "column": "n"},
            physicalPartition="none",
            grain="aggregate",
        ),
        """
        from pyspark.sql import functions as F

        def transform(sums):
            return sums.groupBy("n").agg(
                F.max("_partition").alias("_partition"),
                F.count("*").cast("bigint").alias("_rows"),
                F.count("*").cast("bigint").alias("groups"),
            )
        """,
    )


@pytest.mark.slow
@examples(6)
@given(
    deliveries=DELIVERIES,
    late=st.lists(st.booleans(), min_size=8, max_size=8),
    order=st.permutations(DAYS),
)
def test_corrections_flow_down_a_chain_of_keyed_tables(chain, deliveries, late, order):
    lake = chain.beside(f"chain{next(_lakes)}")
    lake.zones["bronze"] = f"{lake.zones['silver']}/../bronze"
    days: dict[str, list[dict[str, Any]]] = {day: [] for day in DAYS}
    lake.given("bronze.feed", days)
    for (day, records), hold in zip(deliveries, late, strict=False):
        days = days | {day: [c.row for c in records]}
        lake.given("bronze.feed", days)
        for table in CHAIN[: 1 if hold else 3]:
            lake.run(table, day)
    for table in CHAIN:  # whatever is stale by now, in any order
        for day in order:
            p = only(lake.run(table, day))
            assert p.status in ("published", "empty", "unchanged"), p.error
    once = built_once(lake, days, *CHAIN)
    for table in CHAIN[:2]:
        assert everything(lake, table) == everything(once, table), table
    assert lake.rows("gold.sums") == once.rows("gold.sums")


# -- said once more, as examples ---------------------------------------------------------------


def deliver(lake: TinyLake, *feed: Change, run: str, table: str = "silver.latest") -> Any:
    lake.given("bronze.feed", delivered(list(feed)))
    return lake.run(table, run).counts


@pytest.mark.parametrize("x", ["a", "b", "c", None])
def test_a_corrected_row_of_the_same_time_replaces_its_predecessor_whatever_its_hash(feed_lake, x):
    deliver(feed_lake, change(1, 9, "z"), run=MONDAY)
    assert deliver(feed_lake, change(1, 9, x), run=MONDAY).updated == 1
    assert feed_lake.rows("silver.latest", "x") == [x]


def test_a_withdrawn_row_leaves_and_what_it_hid_is_found_again(feed_lake):
    old, new = change(1, 8, "old", day=MONDAY), change(1, 9, "new", day=TUESDAY)
    other = change(2, 8, "other", day=TUESDAY)
    for table in ("silver.latest", "silver.spread"):
        deliver(feed_lake, old, new, other, run=MONDAY, table=table)
        deliver(feed_lake, old, new, other, run=TUESDAY, table=table)
        assert feed_lake.rows(table, "x") == ["new", "other"]
        counts = deliver(feed_lake, old, run=TUESDAY, table=table)
        assert (counts.revived, counts.withdrawn) == (1, 1)
        assert feed_lake.rows(table, "x") == ["old"]
        assert feed_lake.ledger(table)[-1].revived_in == (MONDAY,)


def test_a_version_that_is_withdrawn_closes_no_validity_any_more(feed_lake):
    first, second = change(1, 8, "a", day=MONDAY), change(1, 9, "b", day=TUESDAY)
    for day in (MONDAY, TUESDAY):
        deliver(feed_lake, first, second, run=day, table="silver.history")
    assert feed_lake.rows("silver.history", "is_current") == [False, True]
    deliver(feed_lake, first, run=TUESDAY, table="silver.history")
    assert [(r["x"], r["valid_to"], r["is_current"]) for r in feed_lake.rows("silver.history")] == [
        ("a", None, True)
    ]


def test_a_newly_rejected_row_leaves_the_table_for_quarantine(feed_lake):
    deliver(feed_lake, change(1, 9, "a"), change(2, 9, "b"), run=MONDAY)
    strict = feed_lake.contracts / "silver" / "latest.yaml"
    strict.write_text(
        strict.read_text().replace(
            "  - name: x\n",
            "  - name: x\n    quality:\n    - {type: custom, engine: lakehouse, severity: error,"
            " implementation: {rule: accepted_values, values: [b]}}\n",
        )
    )
    feed_lake._parsed = {}
    feed_lake.run("silver.latest", MONDAY)
    p = feed_lake.ledger("silver.latest")[-1]
    if p.failed:  # half of the rows are beyond what a day may lose
        assert feed_lake.rows("silver.latest", "x") == ["a", "b"]
        more = [change(i, 9, "b") for i in range(3, 40)]
        deliver(feed_lake, change(1, 9, "a"), change(2, 9, "b"), *more, run=MONDAY)
    assert "a" not in feed_lake.rows("silver.latest", "x")
    assert [r["rules"] for r in feed_lake.quarantined("silver.latest")] == [["x_accepted_values"]]


def test_a_transform_that_drops_one_record_and_doubles_another_publishes_nothing(feed_lake):
    feed_lake.write_transform(
        "silver",
        "slices",
        """
        from pyspark.sql import functions as F
        from spark_jobs.columns import LINEAGE

        def transform(feed):
            copies = F.when(F.col("id") == 1, F.array(F.lit(1), F.lit(2))).otherwise(
                F.when(F.col("id") == 2, F.array().cast("array<int>")).otherwise(F.array(F.lit(1))))
            rows = feed.withColumn("copy", F.explode(copies))
            return rows.select(*LINEAGE, "id", "at", "gone", "x", "y")
        """,
    )
    feed_lake.given("bronze.feed", delivered([change(i, 9) for i in (1, 2, 3)]))
    p = only(feed_lake.run("silver.slices", MONDAY))
    assert p.status == "failed" and "row_balance" in p.error
    assert p.counts.read == p.counts.accounted + 3  # nothing of it was published
    assert feed_lake.rows("silver.slices") == []


@pytest.mark.parametrize(
    ("dropped", "doubled"),
    [("-", "-"), ("a", "b"), ("c", "a"), ("d", "e"), ("e", "d")],
)
def test_records_that_share_key_and_time_are_told_apart(feed_lake, dropped, doubled):
    """`c` is there twice; `d` and `e` have no key."""
    columns = [
        column("id", "bigint", key=1, of="bronze.feed.id"),
        column("at", "timestamp", required=True, of="bronze.feed.at"),
        *(column(n, of=f"bronze.feed.{n}") for n in "xy"),
    ]
    feed_lake.define(
        contract(
            "silver.told",
            columns,
            publish={"mode": "upsert", "sequence": "at"},
            inputs=[{"table": "bronze.feed"}],
        ),
        f"""
        from pyspark.sql import functions as F
        from spark_jobs.columns import LINEAGE

        def transform(feed):
            none, one, two = (F.array(*map(F.lit, c)).cast("array<int>") for c in ([], [1], [1, 2]))
            x = F.coalesce("x", F.lit(""))
            copies = F.when(x == "{dropped}", none).when(x == "{doubled}", two).otherwise(one)
            rows = feed.withColumn("copy", F.explode(copies))
            return rows.select(*LINEAGE, "id", "at", "x", "y")
        """,
    )
    feed = [change(1, 9, x) for x in ("a", "b", "c")] + [change(i, 9) for i in range(2, 60)]
    feed += [change(1, 9, "c"), *[change(None, 9, x) for x in ("d", "e")]]
    if "c" in (dropped, doubled):
        feed.remove(change(1, 9, "c"))
    feed_lake.given("bronze.feed", delivered(feed))
    p = only(feed_lake.run("silver.told", MONDAY))
    assert p.counts.read == len(feed)
    assert ("row_balance" in failed_checks(p)) == (dropped != "-"), p.error
    assert (p.status == "failed") == (dropped != "-")


def test_a_transform_may_make_several_rows_of_a_record_if_one_of_them_counts(feed_lake):
    feed_lake.write_transform(
        "silver",
        "slices",
        """
        from pyspark.sql import functions as F
        from spark_jobs.columns import LINEAGE

        def transform(feed):
            rows = feed.withColumn("nth", F.explode(F.array(F.lit(0), F.lit(1))))
            first = F.when(F.col("nth") == 0, F.lit(1)).otherwise(F.lit(0)).cast("bigint")
            return rows.select(*LINEAGE, "id", "at", "gone", "x", "y", first.alias("_rows"))
        """,
    )
    feed_lake.given("bronze.feed", delivered([change(i, 9) for i in (1, 2)]))
    p = only(feed_lake.run("silver.slices", MONDAY))
    assert (p.status, p.counts.read, p.counts.inserted, p.counts.added) == ("published", 2, 2, 2)


def test_rows_without_a_value_are_a_slice_too(chain):
    chain.given("bronze.feed", delivered([change(1, 9, "a", y=None), change(2, 9, "a", y="b")]))
    for table in CHAIN[:2]:
        assert not chain.run(table, MONDAY).failed
    p = only(chain.run("gold.sums", MONDAY))
    assert (p.counts.read, p.counts.accounted, p.counts.quarantined) == (2, 2, 1)


def test_a_slice_that_came_and_went_between_many_versions_leaves_the_sums(chain, monkeypatch):
    monkeypatch.setattr(inputs, "_FEW_VERSIONS", 1)

    def arrive(day: str, y: str, *tables: str) -> None:
        feed[day] = change(DAYS.index(day), 9, "a", y=y, day=day)
        chain.given("bronze.feed", delivered(list(feed.values())))
        for table in tables:
            assert not chain.run(table, day).failed

    feed: dict[str, Change] = {}
    for y in ("t", "u"):  # of Monday the sums know the first version only
        arrive(MONDAY, y, *CHAIN[: 3 if y == "t" else 2])
    arrive(TUESDAY, "v", *CHAIN)
    arrive(TUESDAY, "w", *CHAIN[:2])
    assert chain.rows("gold.sums", "y") == ["t", "v"]
    assert not chain.run("gold.sums", MONDAY, TUESDAY).failed
    assert chain.rows("gold.sums", "y") == ["u", "w"]


def test_the_same_day_again_in_another_order_of_days_ends_the_same(feed_lake):
    same = Change(1, dt.datetime(2026, 10, 5, 9, tzinfo=dt.UTC), False, "a", None, DAYS)
    ends = []
    for order in itertools.permutations(DAYS):
        lake = feed_lake.beside(f"order{next(_lakes)}")
        lake.given("bronze.feed", delivered([same]))
        for day in order:
            lake.run("silver.latest", day)
        ends.append(lake.rows("silver.latest", *FIELDS, "_partition"))
    assert all(e == ends[0] for e in ends) and ends[0][0]["_partition"] == MONDAY
    assert WEDNESDAY in DAYS and TUESDAY in DAYS


def test_superseded_records_that_count_no_more_are_left_out_when_files_pile_up(
    feed_lake, monkeypatch
):
    monkeypatch.setattr(superseded, "_MANY_FILES", 1)
    table = "silver.latest"
    feed = [change(1, 9, "new", day=TUESDAY)]
    deliver(feed_lake, *feed, run=TUESDAY)
    for x in ("a", "b", "c", "d"):  # Monday's record, older, is corrected again and again
        deliver(feed_lake, *feed, change(1, 8, x, day=MONDAY), run=MONDAY)
    kept = DeltaTable(feed_lake.lake.superseded(table))
    assert len(kept.file_uris()) <= 2 and kept.to_pyarrow_table().num_rows <= 2
    assert deliver(feed_lake, change(1, 8, "d", day=MONDAY), run=TUESDAY).revived == 1
    assert feed_lake.rows(table, "x") == ["d"]


def test_superseded_records_of_many_days_are_not_written_again_by_each(feed_lake, monkeypatch):
    """They are laid out by day like their table: one file for each day is not too many."""
    monkeypatch.setattr(superseded, "_MANY_FILES", 1)
    feed = [change(1, 9, "new", day=TUESDAY), change(2, 9, "new", day=TUESDAY)]
    deliver(feed_lake, *feed, run=TUESDAY)
    feed += [change(2, 8, "b", day=WEDNESDAY)]
    deliver(feed_lake, *feed, run=WEDNESDAY)
    for x in ("a", "c"):
        deliver(feed_lake, *feed, change(1, 8, x, day=MONDAY), run=MONDAY)
    kept = DeltaTable(feed_lake.lake.superseded("silver.latest"))
    assert len(kept.file_uris()) == 3


def test_a_sum_over_sums_forgets_those_that_are_gone(chain):
    """The slice that vanished was of Monday; Tuesday took its rows away."""
    define_sums_over_sums(chain)
    tables = [*CHAIN, "gold.sizes"]
    feed = [change(1, 8, "a", y="u"), change(2, 8, "a", y="u"), change(3, 8, "a", y="v")]
    chain.given("bronze.feed", delivered(feed))
    for table in tables:
        assert not chain.run(table, *DAYS).failed
    assert chain.rows("gold.sizes") == [{"n": 1, "groups": 1}, {"n": 2, "groups": 1}]
    feed.append(change(3, 9, "a", y="u", day=TUESDAY))  # v has no row any more, u has three
    chain.given("bronze.feed", delivered(feed))
    for table in tables:
        assert not chain.run(table, TUESDAY).failed
    assert chain.rows("gold.sizes") == [{"n": 3, "groups": 1}]


@pytest.mark.parametrize(
    "then", [change(2, 9, "a", y="v", day=TUESDAY), change(3, 9, "a", y="u", day=TUESDAY)]
)
def test_a_rejected_sum_gives_way_when_another_partition_computes_it_again(chain, then):
    """One of a slice that is right by now, and one that is rejected again."""
    most = rule("range", max=1, name="few")
    chain.define(
        contract(
            "gold.few",
            [column("y", "string", key=1), column("n", "bigint", most)],
            inputs=[{"table": "gold.facts", "read": "touched", "by": "y"}],
            publish={"mode": "replace_partition", "column": "y"},
            physicalPartition="none",
            grain="aggregate",
            gates={"max_quarantine_rate": 1.0, "min_rows": 0},
        ),
        COUNTED,
    )
    tables = ["silver.latest", "gold.facts", "gold.few"]
    feed = [change(i, 8, "a", y=y) for i, y in ((1, "u"), (2, "u"), (4, None), (5, None))]
    for day, more in ((MONDAY, []), (TUESDAY, [then])):
        feed += more
        chain.given("bronze.feed", delivered(feed))
        for table in tables:
            assert not chain.run(table, day).failed
    once = built_once(chain, delivered(feed), *tables)
    assert chain.rows("gold.few") == once.rows("gold.few")
    seen = [sorted(r["record"] for r in lake.quarantined("gold.few")) for lake in (chain, once)]
    assert seen[0] == seen[1]
    (gone,) = quarantine.decisions(chain.lake, "gold.few")
    assert (gone["decision"], '"y":"u"' in gone["record"]) == ("replayed", True)
    contracts = chain.parsed()
    assert reconciled(chain.engine, contracts, contracts["gold.few"], chain.lake) == []
