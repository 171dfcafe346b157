"""Reconciling by computing again: whatever is put into a table, or not brought into it, is found.

Here: differences that the counts of the ledger do not show. Not here: those that they do
(test_bad_input.py, test_full_disk.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake

from spark_jobs.batch.reconcile import reconcile
from spark_jobs.recompute import differences, reconciled
from tests.integration.test_publish_properties import change, delivered, feed_lake
from tests.integration.test_recomputed_rows import chain, define_sums_over_sums
from tests.lakes import MONDAY, TUESDAY, WEDNESDAY, TinyLake, column, contract, copied

__all__ = ["chain", "feed_lake"]
pytestmark = pytest.mark.slow  # every test computes tables again
TABLES = ("silver.latest", "silver.spread", "silver.history", "silver.slices", "gold.facts",
          "gold.sums", "gold.sizes", "gold.all")  # fmt: skip
FEED = [
    change(1, 8, "a", day=MONDAY), change(1, 9, "b", day=TUESDAY, y="u"),
    change(2, 8, "c", day=MONDAY, y="v"), change(3, 8, None, day=TUESDAY, y="u"),
    change(4, 8, "d", gone=True, day=TUESDAY), change(5, 8, "e", day=TUESDAY, y="v"),
]  # fmt: skip


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test leaves the lake as it was built, for the others to copy."""
    return tmp_path_factory.mktemp("built") / "lake"


@pytest.fixture
def built(chain: TinyLake, once: Path) -> TinyLake:
    """With sums over sums, and a table without partitions."""
    define_sums_over_sums(chain)
    chain.define(
        contract(
            "gold.all",
            [column("id", "bigint", key=1), column("x")],
            inputs=[{"table": "silver.latest", "read": "lookup"}],
            publish={"mode": "snapshot"},
            partitioning=None,
            physicalPartition="none",
        ),
        copied("id", "x", table="latest"),
    )
    if once.exists():
        shutil.copytree(once, chain.root / "lake")
        return chain
    chain.given("bronze.feed", delivered(FEED))
    for table in TABLES:
        days = () if table == "gold.all" else (MONDAY, TUESDAY, WEDNESDAY)
        assert not chain.run(table, *days).failed
    assert all(found(chain, t) == [] for t in TABLES)
    shutil.copytree(chain.root / "lake", once)
    return chain


def found(lake: TinyLake, table: str) -> list[tuple[str, str, int, int]]:
    contracts = lake.parsed()
    out = differences(lake.engine, contracts, contracts[table], lake.lake)
    return [(f.what, f.partition, f.expected, f.found) for f in out]


def updated(table: DeltaTable) -> None:
    table.update(predicate="id = 2", new_values={"x": "'z'"})


def deleted(table: DeltaTable) -> None:
    table.delete("id = 2")


def doubled(table: DeltaTable) -> None:
    write_deltalake(table, table.to_pyarrow_table(filters=[("id", "=", 2)]), mode="append")


BY_HAND: dict[str, Callable[[DeltaTable], None]] = {
    "updated": updated, "deleted": deleted, "doubled": doubled,
}  # fmt: skip


@pytest.mark.parametrize("hand", BY_HAND)
@pytest.mark.parametrize("table", TABLES[:5])
def test_a_row_that_is_changed_by_hand_is_found(built, table, hand):
    BY_HAND[hand](built.delta(table))
    rows = found(built, table)
    more, less = ("rows that its inputs do not make", MONDAY), ("rows that its inputs make", MONDAY)
    expected = {"updated": {more, less}, "deleted": {less}, "doubled": {more}}[hand]
    assert {(what, day) for what, day, _, _ in rows} == expected
    assert reconciled(built.engine, built.parsed(), built.parsed()[table], built.lake) != []


def test_a_sum_that_is_changed_by_hand_is_found(built):
    built.delta("gold.sums").update(predicate="y = 'u'", updates={"n": "n + 1"})
    assert reconcile(built.engine.spark, built.parsed()["gold.sums"], built.lake) == []
    assert {what for what, *_ in found(built, "gold.sums")} == {
        "rows that its inputs do not make", "rows that its inputs make"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("table", "predicate", "updates"),
    [
        ("silver.history", "id = 1 and x = 'a'", {"valid_to": "null"}),
        ("silver.history", "id = 1 and x = 'b'", {"is_current": "false"}),
        ("silver.latest", "id = 1", {"_partition": f"'{MONDAY}'"}),
        ("gold.sizes", "n = 2", {"groups": "groups + 1"}),
        ("gold.sizes", "n = 2", None),
        ("gold.all", "id = 1", {"x": "'z'"}),
        ("gold.all", "id = 1", None),
    ],
)
def test_a_row_of_any_kind_of_table_that_is_changed_by_hand_is_found(
    built, table, predicate, updates
):
    delta = built.delta(table)
    if updates:
        assert delta.update(predicate=predicate, updates=updates)["num_updated_rows"]
    else:
        assert delta.delete(predicate)["num_deleted_rows"]
    assert found(built, table) != []


@pytest.mark.parametrize("table", ["silver.latest", "silver.spread"])
def test_a_superseded_record_that_is_changed_by_hand_is_found(built, table):
    """Monday's record of 1 lost to Tuesday's; it would win again if that were withdrawn."""
    made = "superseded records that its inputs make"
    not_made = "superseded records that its inputs do not make"
    kept = DeltaTable(built.lake.superseded(table))
    rows = kept.to_pyarrow_table()
    kept.update(updates={"x": "'z'"})
    assert {what for what, *_ in found(built, table)} == {made, not_made}
    kept.delete()
    assert {what for what, *_ in found(built, table)} == {made}
    write_deltalake(kept, rows, mode="append")
    assert found(built, table) == []


def test_a_quarantined_row_that_is_taken_away_or_doubled_is_found(built):
    kept = DeltaTable(built.lake.quarantine("gold.facts"))
    rows = kept.to_pyarrow_table()
    write_deltalake(kept, rows, mode="append")
    assert {what for what, *_ in found(built, "gold.facts")} == {
        "quarantined rows that its inputs do not make"
    }
    kept.delete()
    assert {what for what, *_ in found(built, "gold.facts")} == {
        "quarantined rows that its inputs make"
    }


def test_a_quarantined_row_that_is_changed_by_hand_is_found(built):
    location = built.lake.quarantine("gold.facts")
    assert built.quarantined("gold.facts")
    DeltaTable(location).update(updates={"record": "'{}'"})
    assert {what for what, *_ in found(built, "gold.facts")} == {
        "quarantined rows that its inputs do not make", "quarantined rows that its inputs make"
    }  # fmt: skip


@pytest.mark.parametrize("table", TABLES[:4])
def test_a_table_that_is_not_what_its_inputs_say_by_now_is_found(built, table):
    other: list[Any] = [change(5, 8, "corrected", day=TUESDAY, y="v")]
    built.given("bronze.feed", delivered([*FEED[:-1], *other]))
    assert found(built, table) == [
        ("rows that its inputs do not make", TUESDAY, 0, 1),
        ("rows that its inputs make", TUESDAY, 1, 0),
    ]
    built.run(table, TUESDAY)
    assert found(built, table) == []


def test_reconciling_writes_nothing_into_the_lake(built):
    before = {t: built.versions(t) for t in TABLES} | {"ledger": len(built.ledger("silver.latest"))}
    assert found(built, "silver.latest") == []
    after = {t: built.versions(t) for t in TABLES} | {"ledger": len(built.ledger("silver.latest"))}
    assert before == after
