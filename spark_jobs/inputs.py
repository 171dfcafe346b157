"""The rows that a batch reads from upstream lake tables, and how many there are.

Belongs here: slicing Delta tables for a batch. Does not belong here: landing files (landing/).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deltalake import DeltaTable

from spark_jobs import delta
from spark_jobs.contract import Contract
from spark_jobs.errors import InputError
from spark_jobs.storage import Lake

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Upstream:
    """A table at the version that the whole batch reads, whatever is committed meanwhile."""

    contract: Contract
    uri: str
    table: DeltaTable

    @property
    def version(self) -> int:
        return self.table.version()

    def rows(self, spark: SparkSession, version: int | None = None) -> DataFrame:
        at = self.version if version is None else version
        reader = spark.read.format("delta").option("versionAsOf", at)
        return reader.load(self.uri)


def upstream(contract: Contract, contracts: dict[str, Contract], lake: Lake) -> dict[str, Upstream]:
    """Every table that this one reads. Raises InputError if one does not exist yet."""
    out = {}
    for name in dict.fromkeys(contract.upstream):
        table = delta.open_table(lake.table(name), dict(lake.storage_options))
        if table is None:
            raise InputError(
                f"{contract.table}: its input {name} does not exist at {lake.table(name)}."
                f" Materialize {name} first."
            )
        out[name] = Upstream(contracts[name], lake.table(name), table)
    return out


def slices(
    spark: SparkSession, source: Upstream, by: str, partitions: list[str], replaced: list[int]
) -> pa.Table:
    """The slices that a batch touches: values of `by` in the rows that arrived, and in the rows
    that those took the place of, each with the last of the `partitions` that touches it (`_slice`).

    `replaced` are the versions of the table whose commits replaced rows. A row whose date changes
    leaves a slice to which nothing arrived.
    """
    from pyspark.sql import functions as F

    contract = source.contract
    arrived = _arrived(contract, source.rows(spark), partitions)
    found = arrived.select(by, "_partition")
    for version in replaced if by not in contract.key else []:
        before = source.rows(spark, version - 1)
        if contract.keyed:
            keys = list(contract.key)
            before = before.select(*keys, by).join(arrived.select(*keys, "_partition"), keys)
        else:
            before = _arrived(contract, before, partitions)
        found = found.unionByName(before.select(by, "_partition"))
    found = found.where(F.col(by).isNotNull())
    return found.groupBy(by).agg(F.max("_partition").alias("_slice")).toArrow()


def driving(
    spark: SparkSession,
    contract: Contract,
    source: Upstream,
    partitions: list[str],
    touched: pa.Table | None = None,
) -> DataFrame:
    """The rows that decide the batch: the table's columns, `_partition` and its date, and `_input`, a
    struct of the row as it was read, from which the original record of a bad row is kept. `touched`
    are the slices, for a table that reads those.

    Carrying whole rows through a transform takes longer than many a transform. Where rows have a
    key `_input` is that, and whole_records finds the rest of the few that need it.
    """
    from pyspark.sql import functions as F

    how = contract.inputs[0]
    rows = source.rows(spark)
    columns = [c.name for c in source.contract.columns]
    if how.read == "lookup":  # the whole table is the batch, of the one partition there is
        arrival = F.lit(partitions[0][:10]).try_cast("date")
        changed = rows.withColumns({"_partition": F.lit(partitions[0]), "_arrival_date": arrival})
    else:
        changed = _arrived(source.contract, rows, partitions)
    if touched is not None:
        values = touched.column(0).to_pylist()
        # The literal list lets the engine skip files; the join tells which partition a slice is of.
        inside = rows.where(F.col(how.by).isin(*values) if values else F.lit(False))
        # Typed, since there may be no row to ask.
        of = f"{how.by} {source.contract.column[how.by].type}, _slice string"
        partition_of = spark.createDataFrame(touched, of).withColumnRenamed(how.by, "_by")
        joined = inside.join(F.broadcast(partition_of), F.col(how.by) == F.col("_by"))
        return joined.select(*columns, F.col("_slice").alias("_partition"))
    if source.contract.keyed:
        asked = {r.spec.source for r in contract.rules if r.kind == "type"}
        of_type_rules = {s.rpartition(".")[2] for s in asked}
        record = [c for c in columns if c in source.contract.key or c in of_type_rules]
    else:
        record = [*columns, *(["_source_file"] if "_source_file" in rows.columns else [])]
    return changed.select(
        *columns,
        "_partition",
        "_arrival_date",
        F.struct(*[F.col(c) for c in record]).alias("_input"),
    )


def whole_records(
    spark: SparkSession, contract: Contract, source: Upstream, partitions: list[str]
) -> tuple[DataFrame, tuple[str, ...]] | None:
    """The rows that `driving` read, with all their columns, and their key; None if its `_input` has
    all columns."""
    if not (source.contract.keyed and contract.grain == "row"):
        return None
    rows = source.rows(spark)
    if contract.inputs[0].read == "changes":
        rows = _arrived(source.contract, rows, partitions)
    return rows.select(*[c.name for c in source.contract.columns]), source.contract.key


def _arrived(contract: Contract, rows: DataFrame, partitions: list[str]) -> DataFrame:
    from pyspark.sql import functions as F

    low, high = min(partitions), max(partitions)
    rows = rows.where(F.col("_partition").between(low, high))
    if contract.physical_partition == "_arrival_date":
        days = [F.lit(p[:10]).cast("date") for p in (low, high)]
        rows = rows.where(F.col("_arrival_date").between(*days))
    return rows.where(F.col("_partition").isin(*partitions))


def lookup(spark: SparkSession, source: Upstream) -> DataFrame:
    """All rows of a table that readers see, with its contract's columns."""
    from pyspark.sql import functions as F

    rows = source.rows(spark)
    deleted = source.contract.publish.delete_column
    if deleted:
        rows = rows.where(~F.coalesce(F.col(deleted), F.lit(False)))
    return rows.select(*[c.name for c in source.contract.columns])


def reference_keys(spark: SparkSession, source: Upstream, column: str) -> DataFrame:
    """The distinct values of a referenced column, as `_key`."""
    from pyspark.sql import functions as F

    keys = lookup(spark, source).select(F.col(column).alias("_key"))
    return keys if source.contract.key == (column,) else keys.distinct()


def rows_by_partition(frame: DataFrame) -> dict[str, int]:
    found = frame.groupBy("_partition").count().toArrow()
    return dict(zip(*(c.to_pylist() for c in found.columns), strict=True)) if found.num_rows else {}
