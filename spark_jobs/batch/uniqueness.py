"""Decides `unique` rules: whether publishing a batch would give two rows the same values.

Belongs here: counting the rows of a staged batch that share the columns of such a rule with
another row. Does not belong here: rules that one row decides (rules.py), or the primary key, which
the publish modes keep unique themselves.

Uniqueness is a matter of the whole table, and which of two rows is the wrong one nobody can tell.
So no row leaves: the rule is a gate of the partition (`error`) or a warning (`warn`). Partitions of
a batch are judged as if they came one after another, the oldest first: a partition is held against
the table as it would be after it and those earlier ones of the batch that pass their gate. What a
later one replaces is there still, and what it brings is not yet. So a day fails for the same reason
alone and in a backfill.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from spark_jobs.batch.resolution import ASIDE, WON, greatest_first
from spark_jobs.contract.model import Contract
from spark_jobs.contract.rules import Unique

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


@dataclass(frozen=True)
class Clashes:
    """What may break one rule. `suspects` are the partitions of the batch of which a row shares its
    values with another row, whether or not both are ever in the table at once; `rows` are all such
    rows, those of the table too, and the others of their keys (`_ours`: of the batch)."""

    rule: str
    contract: Contract
    columns: tuple[str, ...]
    suspects: frozenset[str] = frozenset()
    rows: DataFrame | None = None

    def broken(self, partition: str, passed: Collection[str]) -> int:
        """Rows of a partition that break the rule, if `passed` are the partitions of the batch
        whose gate is open."""
        from pyspark.sql import Window
        from pyspark.sql import functions as F

        if partition not in self.suspects or self.rows is None:
            return 0
        so_far = [*(p for p in passed if p < partition), partition]
        rows = self.rows.where(~F.col("_ours") | F.col("_partition").isin(so_far))
        if self.contract.keyed:
            of_key = Window.partitionBy(*self.contract.key).orderBy(*greatest_first(self.contract))
            rows = rows.withColumn("_nth", F.row_number().over(of_key)).where("_nth = 1")
        rows = rows.where(_holds(self.contract, self.columns))
        shared = rows.groupBy(*self.columns).count().where("count > 1").select(*self.columns)
        ours = rows.where(F.col("_ours") & (F.col("_partition") == partition))
        return ours.join(shared, list(self.columns), "left_semi").count()


def clashes(contract: Contract, batch: DataFrame, published: DataFrame | None) -> list[Clashes]:
    """What may break each `unique` rule. `batch` are the staged rows with their `outcome`,
    `published` those of the table that the batch does not compute again. A row with a null in one
    of the columns is like no other."""
    from pyspark.sql import functions as F

    rules = contract.rules_of(Unique)
    if not rules:
        return []
    outcomes = (*WON, *ASIDE) if contract.keyed else ("insert",)
    rows = batch.where(F.col("outcome").isin(*outcomes)).withColumn("_ours", F.lit(True))
    others = None if published is None else _others(contract, batch, published)
    if others is not None:
        if "_partition" not in others.columns:
            others = others.withColumn("_partition", F.lit(""))
        others = others.withColumn("_ours", F.lit(False))
        same = [n for n in others.columns if n in rows.columns]
        rows = rows.select(*same).unionByName(others.select(*same))
    return [_clashes(contract, rule.name, spec.columns, rows) for rule, spec in rules]


def _clashes(contract: Contract, name: str, columns: tuple[str, ...], rows: DataFrame) -> Clashes:
    from pyspark.sql import functions as F

    names = {*columns, *contract.key, "_partition", "_ours"}
    if contract.keyed:
        names |= {contract.sequence, "_row_hash"}
    if contract.publish.delete_column:
        names.add(contract.publish.delete_column)
    rows = rows.select(*sorted(names))
    held = rows.where(_holds(contract, columns)).groupBy(*columns)
    if contract.keyed:  # rows of one key are never there at once
        key = F.xxhash64(*contract.key)
        values = held.agg(F.min(key).alias("_a"), F.max(key).alias("_b")).where("_a <> _b")
    else:
        values = held.agg(F.count("*").alias("_n")).where("_n > 1")
    sharing = rows.join(values.select(*columns), list(columns), "left_semi")
    found = sharing.where("_ours").select("_partition").distinct().toArrow().column(0).to_pylist()
    if not found:
        return Clashes(name, contract, columns)
    if contract.keyed:
        keys = sharing.select(*contract.key).distinct()
        sharing = rows.join(keys, list(contract.key), "left_semi")
    return Clashes(name, contract, columns, frozenset(found), sharing)


def _others(contract: Contract, batch: DataFrame, published: DataFrame) -> DataFrame | None:
    """The rows of the table that this batch leaves as they are, or that a row of their key beats."""
    if contract.publish.mode == "snapshot":
        return None
    if contract.keyed:
        return published
    replaced = contract.publish.column or "_partition"
    return published.join(batch.select(replaced).distinct(), replaced, "left_anti")


def _holds(contract: Contract, columns: Collection[str]) -> Column:
    """Whether a row holds values: it is not marked as deleted, and none of them is null."""
    from pyspark.sql import functions as F

    conditions = [F.col(c).isNotNull() for c in columns]
    if contract.publish.delete_column:
        conditions.append(~F.coalesce(F.col(contract.publish.delete_column), F.lit(False)))
    return reduce(lambda a, b: a & b, conditions)
