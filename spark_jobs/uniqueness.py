"""Decides `unique` rules: whether publishing a batch would give two rows the same values.

Belongs here: counting the rows of a staged batch that share the columns of such a rule with
another row. Does not belong here: rules that one row decides (rules.py), or the primary key, which
the publish modes keep unique themselves.

Uniqueness is a matter of the whole table, and which of two rows is the wrong one nobody can tell.
So no row leaves: the rule is a gate of the partition (`error`) or a warning (`warn`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spark_jobs.contract import Contract

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# The staged outcomes of rows that the table will hold; a deleted row holds no value any more.
_STAYS = ("insert", "update", "unchanged")


def not_unique(
    contract: Contract, batch: DataFrame, published: DataFrame | None
) -> dict[str, dict[str, int]]:
    """Rows per partition and `unique` rule that share their values with another row.

    `batch` are the staged rows with their `outcome`, `published` the table before them. A row with
    a null in one of the columns is like no other.
    """
    from pyspark.sql import functions as F

    found: dict[str, dict[str, int]] = {}
    rules = [r for r in contract.rules if r.kind == "unique"]
    others = None if published is None or not rules else _others(contract, batch, published)
    for rule in rules:
        columns = list(rule.spec.columns)
        ours = _present(contract, batch.where(F.col("outcome").isin(*_STAYS)))
        ours = ours.select("_partition", *columns)
        rows = ours.select(*columns)
        if others is not None:
            rows = rows.unionByName(others.select(*columns))
        shared = rows.dropna().groupBy(*columns).count().where("count > 1").select(*columns)
        broken = ours.join(shared, columns, "left_semi").groupBy("_partition").count()
        for partition, n in zip(*(c.to_pylist() for c in broken.toArrow().columns), strict=True):
            found.setdefault(partition, {})[rule.name] = n
    return found


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
