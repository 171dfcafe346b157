"""The rows that a batch reads from upstream lake tables, and how many there are.

Belongs here: slicing Delta tables for a batch. Does not belong here: landing files (landing/).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from deltalake import DeltaTable

from spark_jobs import window
from spark_jobs.batch import pinned
from spark_jobs.batch.audit import hashable
from spark_jobs.batch.joins import FEW_ROWS, copied_if_few
from spark_jobs.batch.outcomes import origin_sum
from spark_jobs.contract.model import Contract
from spark_jobs.contract.rules import TypeKept
from spark_jobs.errors import InputError
from spark_jobs.lake import delta
from spark_jobs.lake.storage import Lake, Storage

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame, SparkSession


@dataclass(frozen=True)
class Upstream:
    """A table at the version that the whole batch reads, whatever is committed meanwhile."""

    contract: Contract
    uri: str
    table: DeltaTable
    storage: Storage

    @property
    def version(self) -> int:
        return self.table.version()

    def rows(
        self,
        spark: SparkSession,
        version: int | None = None,
        within: tuple[str, str] | None = None,
    ) -> DataFrame:
        return pinned.rows(spark, self.table, self.uri, self.storage, version, within)


def upstream(contract: Contract, contracts: dict[str, Contract], lake: Lake) -> dict[str, Upstream]:
    """Every table that this one reads. Raises InputError if one does not exist yet."""
    out, names = {}, list(dict.fromkeys(contract.upstream))
    tables = delta.open_tables(map(lake.table, names), lake.storage)
    for name, table in zip(names, tables, strict=True):
        if table is None:
            raise InputError(
                f"{contract.table}: its input {name} does not exist at {lake.table(name)}."
                f" Materialize {name} first."
            )
        out[name] = Upstream(contracts[name], lake.table(name), table, lake.storage)
    return out


def present(spark: SparkSession, uri: str, lake: Lake) -> DataFrame | None:
    """The rows of a Delta table at its newest version; None if there is no table, or no row."""
    table = delta.open_table(uri, lake.storage)
    if table is None or not delta.active_files(table):
        return None
    return pinned.rows(spark, table, uri, lake.storage)


# The field of `_input` that names the table of a record, where several drive a batch.
TABLE = "_table"
# Beyond this many earlier versions to look at, every slice counts as touched: a plan has a branch
# per version, and engines run out of stack on some hundred.
_FEW_VERSIONS = 20
# What a daily partition's key has of an hourly one's.
_DAY = len("2026-10-05")


def slices(
    spark: SparkSession,
    source: Upstream,
    by: str,
    partitions: list[str],
    replaced: list[int],
    made: DataFrame | None,
) -> pa.Table:
    """The slices that a batch touches: values of `by` in the rows that arrived, and in the rows
    that those took the place of, each with the last of the `partitions` that touches it (`_slice`).
    Rows without a value are a slice too.

    `replaced` are the versions of the table whose commits replaced rows or took some away. A row
    whose date changes leaves a slice to which nothing arrived. `made` are the slices that were made
    of the table before (one column), if there are any: of many versions, what stood in one of them
    only can still stand in there, and nowhere else.
    """
    from pyspark.sql import functions as F

    contract = source.contract
    frames = [_arriving(spark, source, partitions).select(by, "_partition")]
    last = F.lit(max(partitions)).alias("_partition")
    if len(replaced) > _FEW_VERSIONS:
        replaced = []
        frames.append(source.rows(spark).select(by, last))
        if made is not None:
            frames.append(made.select(F.col(made.columns[0]).alias(by), last))
    for version in replaced:
        before = source.rows(spark, version - 1)
        if contract.keyed or contract.publish.column:
            same = [*contract.key, "_row_hash" if contract.keyed else by]
            same = list(dict.fromkeys(same))
            before = before.join(source.rows(spark, version).select(*same), same, "left_anti")
            frames.append(before.select(by, last))
        else:
            frames.append(_arrived(contract, before, partitions).select(by, "_partition"))
    return _united(frames).groupBy(by).agg(F.max("_partition").alias("_slice")).toArrow()


def drivers(contract: Contract, sources: Mapping[str, Upstream]) -> list[Upstream]:
    """The tables that a batch is made of."""
    return [sources[i.table] for i in contract.drivers]


def driving(
    spark: SparkSession,
    contract: Contract,
    sources: Sequence[Upstream],
    partitions: list[str],
    touched: pa.Table | None = None,
) -> dict[str, DataFrame]:
    """The rows that decide the batch, by table: the table's columns, `_partition` and its date, and
    `_input`, a struct of the row as it was read, from which the original record of a bad row is kept.
    Its fields are those of all the tables, so that rows made of them can be united. `touched` are the
    slices, for a table that reads those.

    Carrying whole rows through a transform takes longer than many a transform. Where rows have a
    key `_input` is that, and whole_records finds the rest of the few that need it.
    """
    types = record_types(contract, sources)
    return {
        s.contract.table: _driving(spark, contract, s, types, partitions, touched) for s in sources
    }


def _driving(
    spark: SparkSession,
    contract: Contract,
    source: Upstream,
    types: Mapping[str, str],
    partitions: list[str],
    touched: pa.Table | None,
) -> DataFrame:
    from pyspark.sql import functions as F

    how = next(i for i in contract.drivers if i.table == source.contract.table)
    columns = [c.name for c in source.contract.columns]
    if how.by is not None and touched is not None:
        values = touched.column(0).to_pylist()
        # The literal list lets the engine skip files; the join tells which partition a slice is of.
        inside = F.col(how.by).isin(*[v for v in values if v is not None])
        if None in values:
            inside = inside | F.col(how.by).isNull()
        rows = source.rows(spark).where(inside)
        # Typed, since there may be no row to ask.
        of = f"{how.by} {source.contract.column[how.by].type}, _slice string"
        partition_of = spark.createDataFrame(touched, of).withColumnRenamed(how.by, "_by")
        few = copied_if_few(partition_of, touched.num_rows)
        joined = rows.join(few, F.col(how.by).eqNullSafe(F.col("_by")))
        return joined.select(*columns, F.col("_slice").alias("_partition"))
    record = _of_record(contract, source, types)
    return _changed(spark, contract, source, partitions).select(
        *columns, "_partition", "_arrival_date", F.struct(*record).alias("_input")
    )


def _changed(
    spark: SparkSession, contract: Contract, source: Upstream, partitions: list[str]
) -> DataFrame:
    """The rows of a driving table that are of a batch."""
    from pyspark.sql import functions as F

    how = next(i for i in contract.drivers if i.table == source.contract.table)
    if how.read != "lookup":
        return _arriving(spark, source, partitions)
    # The whole table is the batch, of the one partition there is.
    arrival = F.lit(partitions[0][:10]).try_cast("date")
    rows = source.rows(spark)
    return rows.withColumns({"_partition": F.lit(partitions[0]), "_arrival_date": arrival})


def record_types(contract: Contract, sources: Sequence[Upstream]) -> dict[str, str]:
    """The columns of `_input`, with their types."""
    types = {n: t for s in sources for n, t in _own_types(contract, s).items()}
    return types | ({TABLE: "string"} if len(sources) > 1 else {})


def _of_record(contract: Contract, source: Upstream, types: Mapping[str, str]) -> list[Column]:
    """The fields of `_input`, or some of them, in a row of one table."""
    from pyspark.sql import functions as F

    own = _own_types(contract, source)
    absent = {TABLE: F.lit(source.contract.table)}
    return [
        (F.col(n) if n in own else absent.get(n, F.lit(None).cast(t))).alias(n)
        for n, t in types.items()
    ]


def _own_types(contract: Contract, source: Upstream) -> dict[str, str]:
    of = source.contract
    types = {c.name: c.type for c in of.columns}
    if of.keyed:
        asked = {spec.source for _, spec in contract.rules_of(TypeKept)}
        of_type_rules = {s.rpartition(".")[2] for s in asked}
        return {n: t for n, t in types.items() if n in of.key or n in of_type_rules}
    has = {f.name for f in source.table.schema().fields}
    return types | {n: "string" for n in ("_rescued", "_source_file") if n in has}


def identity(contract: Contract, sources: Sequence[Contract]) -> tuple[str, ...] | None:
    """The columns of `_input` that tell a driving record of `contract` from the others: of several
    tables, what tells those of each apart, and the table."""
    found = [_identity(contract, source) for source in sources]
    if len(found) == 1:
        return found[0]
    names = {n for of in found for n in of or ()}
    return None if None in found else tuple(sorted(names | {TABLE}))


def _identity(contract: Contract, source: Contract) -> tuple[str, ...] | None:
    """The key of a keyed table, else what the key and the sequence of this one are made of, where
    that is declared and complete, and rows are merged by it: the few records that they do not tell
    apart are compared whole (see `doubled`). None: all of them."""
    if source.keyed:
        return source.key
    if not contract.keyed:
        return None
    made_of: set[str] = set()
    for name in filter(None, (*contract.key, contract.publish.sequence)):
        column = contract.column[name]
        if not column.sources:
            return None
        for of in column.sources:
            table, _, source_column = of.rpartition(".")
            if table == source.table:
                made_of.add(source_column)
    return tuple(sorted(made_of)) or None


def origin(types: Mapping[str, str], columns: tuple[str, ...] | None) -> Column:
    """xxHash64 of the record that a row was made of, `_input`, or of the `columns` of it that tell
    it from others."""
    from pyspark.sql import functions as F

    return F.xxhash64(*[hashable(F.col(f"_input.`{n}`"), types[n]) for n in columns or types])


def doubled(read: DataFrame, whole: Column, staged: DataFrame) -> set[str]:
    """The partitions of which some record counts more often among the staged rows than it was read.

    `read` are the driving rows with their `_origin`, and `whole` is the hash of all that one holds;
    `staged` are those that were made of them, where `_whole` is that hash for rows that share their
    key with another. Read again are only partitions of which such a row counts twice.
    """
    from pyspark.sql import functions as F

    counted = staged.where(F.col("_whole").isNotNull()).groupBy("_partition", "_origin", "_whole")
    twice = counted.agg(F.sum("_rows").alias("_times")).where("_times > 1")
    some = twice.limit(FEW_ROWS + 1).toArrow()
    if not some.num_rows:
        return set()
    again = read
    if some.num_rows <= FEW_ROWS:  # else they stay where they are
        twice = read.sparkSession.createDataFrame(some)
        again = read.where(F.col("_partition").isin(some["_partition"].unique().to_pylist()))
    again = again.join(twice.select("_origin").distinct(), "_origin", "left_semi")
    there = (
        again.withColumn("_whole", whole)
        .groupBy("_partition", "_whole")
        .agg(F.count("*").alias("_read"))
    )
    beyond = twice.join(there, ["_partition", "_whole"], "left").where(
        F.col("_times") > F.coalesce("_read", F.lit(0))
    )
    return set(beyond.select("_partition").distinct().toArrow().column(0).to_pylist())


def keyed_sources(contract: Contract, sources: Mapping[str, Upstream]) -> list[Upstream]:
    """The driving tables if their rows can move from one partition to another."""
    if not contract.inputs or contract.inputs[0].read != "changes" or contract.grain != "row":
        return []
    return [s for s in drivers(contract, sources) if s.contract.keyed]


def origins(
    spark: SparkSession,
    contract: Contract,
    sources: Sequence[Upstream],
    partitions: list[str] | None = None,
) -> DataFrame:
    """`_origin` and `_partition` (by the contract's scheme) of the rows of the tables that drive one,
    or of those that some partitions are made of.

    Of the tables, and not of what `driving` made of them: engines read every column of a struct, whose
    fields they are asked for.
    """
    types = record_types(contract, sources)
    names = identity(contract, [s.contract for s in sources])
    of = {n: types[n] for n in names or types}
    return _united(_origins(spark, contract, s, of, partitions) for s in sources)


def _united(frames: Iterable[DataFrame]) -> DataFrame:
    return reduce(lambda a, b: a.unionByName(b), frames)


def _origins(
    spark: SparkSession,
    contract: Contract,
    source: Upstream,
    types: Mapping[str, str],
    partitions: list[str] | None,
) -> DataFrame:
    from pyspark.sql import functions as F

    if partitions is not None:
        rows = _changed(spark, contract, source, partitions)
    else:
        rows = source.rows(spark)
    if partitions is None and contract.partitioning != source.contract.partitioning:
        rows = rows.withColumn("_partition", F.substring("_partition", 1, _DAY))
    values = _of_record(contract, source, types)
    key = [hashable(v, t) for v, t in zip(values, types.values(), strict=True)]
    return rows.select(F.xxhash64(*key).alias("_origin"), "_partition")


@dataclass(frozen=True)
class Whole:
    """Driving rows with all their columns, and their key; and their `table`, where there are several."""

    rows: DataFrame
    key: tuple[str, ...]
    table: str | None


def whole_records(
    spark: SparkSession,
    contract: Contract,
    sources: Mapping[str, Upstream],
    partitions: list[str],
) -> list[Whole]:
    """The rows that `driving` read, of the tables of which `_input` has the key only."""
    if contract.grain != "row":
        return []
    found = []
    for how in contract.drivers:
        source = sources[how.table]
        if not source.contract.keyed:
            continue
        changes = how.read == "changes"
        rows = _arriving(spark, source, partitions) if changes else source.rows(spark)
        rows = rows.select(*[c.name for c in source.contract.columns])
        table = how.table if len(contract.drivers) > 1 else None
        found.append(Whole(rows, source.contract.key, table))
    return found


def _arriving(spark: SparkSession, source: Upstream, partitions: list[str]) -> DataFrame:
    """The rows of a table that arrived in these partitions."""
    inside = [w for p in partitions for w in window.inside(p, source.contract.partitioning)]
    rows = source.rows(spark, within=(min(inside), max(inside)))
    return _arrived(source.contract, rows, partitions)


def _arrived(contract: Contract, rows: DataFrame, partitions: list[str]) -> DataFrame:
    """The rows that arrived in these partitions, whose keys `_partition` then has: a coarser one is
    made of the rows of the windows inside it."""
    from pyspark.sql import functions as F

    inside = [w for p in partitions for w in window.inside(p, contract.partitioning)]
    low, high = min(inside), max(inside)
    rows = rows.where(F.col("_partition").between(low, high))
    if contract.physical_partition == "_arrival_date":
        days = [F.lit(p[:10]).cast("date") for p in (low, high)]
        rows = rows.where(F.col("_arrival_date").between(*days))
    if len(inside) > len(partitions):
        rows = rows.withColumn("_partition", F.substring("_partition", 1, _DAY))
    return rows.where(F.col("_partition").isin(*partitions))


def lookup(
    spark: SparkSession, source: Upstream, columns: Collection[str] | None = None
) -> DataFrame:
    """All rows of a table that readers see, with its contract's columns, or some of them."""
    from pyspark.sql import functions as F

    rows = source.rows(spark)
    deleted = source.contract.publish.delete_column
    if deleted:
        rows = rows.where(~F.coalesce(F.col(deleted), F.lit(False)))
    names = [c.name for c in source.contract.columns]
    return rows.select(*[n for n in names if columns is None or n in columns])


def reference_keys(spark: SparkSession, source: Upstream, column: str) -> DataFrame:
    """The distinct values of a referenced column, as `_key`."""
    from pyspark.sql import functions as F

    keys = lookup(spark, source).select(F.col(column).alias("_key"))
    return keys if source.contract.key == (column,) else keys.distinct()


def rows_by_partition(frame: DataFrame, *, has_origin: bool) -> dict[str, tuple[int, int | None]]:
    """Rows of each partition, and the sum of their `_origin` where they have one."""
    from pyspark.sql import functions as F

    of = origin_sum(F.lit(1)) if has_origin else F.max(F.lit(None).cast("string"))
    found = frame.groupBy("_partition").agg(F.count("*").alias("rows"), of.alias("of"))
    return {
        row["_partition"]: (row["rows"], None if row["of"] is None else int(row["of"]))
        for row in found.collect()
    }
