"""Decides `unique` rules: whether publishing a batch would give two rows the same values.

Belongs here: counting the rows of a staged batch that share the columns of such a rule with
another row. Does not belong here: rules that one row decides (rules.py), or the primary key, which
the publish modes keep unique themselves.

Uniqueness is a matter of the whole table, and which of two rows is the wrong one nobody can tell.
So no row leaves: the rule is a gate of the partition (`error`) or a warning (`warn`). Partitions of
a batch are judged as if they came one after another, the oldest first: a row is held against its
own partition, the table, and those earlier partitions of the batch that pass their gate. So a day
fails for the same reason alone and in a backfill.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spark_jobs.contract.model import Contract

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# The staged outcomes of rows that the table will hold; a deleted row holds no value any more.
_STAYS = ("insert", "update", "unchanged")


@dataclass(frozen=True)
class Clashes:
    """The rows of a batch that break one rule, by partition.

    `sure` are those that share their values with a row of the table or of their own partition;
    `pairs` are the others, by the earlier partition that they share them with. `values` holds what
    `pairs` counts: the values, `_later`, `_earlier` and the rows `_n`.
    """

    rule: str
    sure: dict[str, int]
    pairs: dict[str, dict[str, int]]
    values: DataFrame | None

    def broken(self, partition: str, passed: Collection[str]) -> int:
        """Rows of a partition that break the rule, if `passed` are the partitions of the batch
        whose gate is open."""
        sure = self.sure.get(partition, 0)
        earlier = {p: n for p, n in self.pairs.get(partition, {}).items() if p in passed}
        if len(earlier) < 2:
            return sure + sum(earlier.values())
        return sure + self._with_any(partition, list(earlier))

    def _with_any(self, partition: str, earlier: list[str]) -> int:
        """A row may share its values with several partitions, and counts once."""
        from pyspark.sql import functions as F

        assert self.values is not None
        hit = self.values.where(F.col("_later") == partition).where(F.col("_earlier").isin(earlier))
        once = hit.drop("_earlier").distinct()
        return once.agg(F.sum("_n").alias("n")).toArrow().column(0)[0].as_py()


def clashes(contract: Contract, batch: DataFrame, published: DataFrame | None) -> list[Clashes]:
    """What breaks each `unique` rule. `batch` are the staged rows with their `outcome`, `published`
    the table before them. A row with a null in one of the columns is like no other."""
    from pyspark.sql import functions as F

    rules = [r for r in contract.rules if r.kind == "unique"]
    if not rules:
        return []
    others = None if published is None else _others(contract, batch, published)
    ours = _present(contract, batch.where(F.col("outcome").isin(*_STAYS)))
    return [_clashes(r.name, list(r.spec.columns), ours, others) for r in rules]


def _clashes(name: str, columns: list[str], ours: DataFrame, others: DataFrame | None) -> Clashes:
    from pyspark.sql import functions as F

    here = ours.select("_partition", *columns).dropna().withColumn("_ours", F.lit(1))
    rows = here
    if others is not None:
        there = others.select(F.lit("").alias("_partition"), *columns).dropna()
        rows = rows.unionByName(there.withColumn("_ours", F.lit(0)))
    # One row per values that occur more than once, and per partition that has them; the table
    # itself counts as the partition before all.
    shared = rows.groupBy(*columns).count().where("count > 1").select(*columns)
    held = rows.join(shared, columns, "left_semi").groupBy(*columns, "_partition", "_ours")
    held = held.agg(F.count("*").alias("_n"))
    in_table = held.where("_ours = 0").select(*columns, F.lit(True).alias("_in_table"))
    marked = held.where("_ours = 1").drop("_ours").join(in_table, columns, "left")
    sure = F.col("_in_table").isNotNull() | (F.col("_n") > 1)
    counted = marked.groupBy("_partition", sure.alias("_sure")).agg(F.sum("_n").alias("_n"))
    found = counted.toArrow().to_pylist()
    mine = {r["_partition"]: r["_n"] for r in found if r["_sure"]}
    if all(r["_sure"] for r in found):
        return Clashes(name, mine, {}, None)
    later = marked.where(~sure).select(*columns, F.col("_partition").alias("_later"), "_n")
    earlier = held.where("_ours = 1").select(*columns, F.col("_partition").alias("_earlier"))
    values = later.join(earlier, columns).where("_earlier < _later")
    pairs: dict[str, dict[str, int]] = {}
    totals = values.groupBy("_later", "_earlier").agg(F.sum("_n").alias("_n"))
    for row in totals.toArrow().to_pylist():
        pairs.setdefault(row["_later"], {})[row["_earlier"]] = row["_n"]
    return Clashes(name, mine, pairs, values)


def _others(contract: Contract, batch: DataFrame, published: DataFrame) -> DataFrame | None:
    """The rows of the table that this batch leaves as they are."""
    from pyspark.sql import functions as F

    if contract.publish.mode == "snapshot":
        return None
    published = _present(contract, published)
    if contract.keyed:
        replaced = list(contract.key)
        batch = batch.where(F.col("outcome").isin(*_STAYS, "delete"))
    else:
        replaced = [contract.publish.column or "_partition"]
    return published.join(batch.select(*replaced).distinct(), replaced, "left_anti")


def _present(contract: Contract, rows: DataFrame) -> DataFrame:
    """The rows that are not marked as deleted."""
    from pyspark.sql import functions as F

    deleted = contract.publish.delete_column
    return rows.where(~F.coalesce(F.col(deleted), F.lit(False))) if deleted else rows
