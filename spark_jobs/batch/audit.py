"""Decides what becomes of every row of a batch, and writes that decision down in one pass.

Belongs here: applying row rules, staging, and counting. Does not belong here: which record of a key
wins (resolution.py), whether a partition may be published (gate.py) and publishing it (publish.py).

A staged batch is a folder inside the table's own: `batch=<id>/outcome=<outcome>/...`. Its files
are data files that no commit references yet. Publishing commits the very files that were
audited; nothing is written a second time. Files of a batch that is never published are ordinary
uncommitted files, which a vacuum removes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from spark_jobs import quoting
from spark_jobs.batch import resolution, uniqueness
from spark_jobs.batch.folder import Folder
from spark_jobs.batch.landing.summaries import delivered
from spark_jobs.batch.resolution import ASIDE
from spark_jobs.batch.rules import broken, broken_names, row_rules
from spark_jobs.contract.model import Contract, Rule
from spark_jobs.contract.rules import REFERENCE_MARK, ExpressionHolds, Reference
from spark_jobs.errors import ContractError, SchemaError
from spark_jobs.report import Counts

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.types import StructType

PUBLISHED = ("insert", "update", "delete")
OUTCOMES = (*PUBLISHED, "unchanged", *ASIDE, "duplicate", "quarantine", "filtered", "file")
# Beside these there is, while staging, `contested`: valid rows whose key occurs more than once in
# the batch. They are written, ranked, and written again with the outcome they really have. `left`
# and `revived` are rows of the table, not of the batch: what goes without an heir, and its heirs.
LEAVING = ("left", "revived")

# Columns that the platform adds to every table, after the contract's own.
BRONZE_COLUMNS = (
    ("_rescued", "string"),
    ("_source_system", "string"),
    ("_source_file", "string"),
    ("_run_ts", "timestamp"),
)
COMMON_COLUMNS = (
    ("_warnings", "array<string>"),
    ("_row_hash", "bigint"),
    ("_origin", "bigint"),
    ("_batch_id", "string"),
    ("_partition", "string"),
    ("_arrival_date", "date"),
)
# Columns of staged files that the table does not have: they say why a row left.
STAGED_ONLY = (
    "_if_won",
    "_displaces",
    "_origin",
    "_whole",
    "_violations",
    "_record",
    "_computed",
    "_record_file",
    "_rows",
    "_records",
    "_file_error",
    "_drift",
)


def technical_columns(contract: Contract) -> tuple[tuple[str, str], ...]:
    """Names and types of the platform's columns in this table."""
    columns = (*BRONZE_COLUMNS, *COMMON_COLUMNS) if contract.layer == "bronze" else COMMON_COLUMNS
    drop = set() if contract.keyed else {"_row_hash"}
    if not (contract.keyed and contract.inputs):
        drop.add("_origin")
    if contract.layer == "bronze":
        drop.add("_warnings")
    if contract.partitioning is None:
        drop |= {"_partition", "_arrival_date"}
    return tuple(c for c in columns if c[0] not in drop)


def table_columns(contract: Contract) -> list[tuple[str, str]]:
    """Names and types of all columns of the table, in order."""
    return [(c.name, c.type) for c in contract.columns] + list(technical_columns(contract))


# Columns that a message names; the rest it counts.
_NAMED = quoting.NAMES


@dataclass(frozen=True)
class Staged:
    """A staged batch and what was counted in it, by partition."""

    folder: Folder
    counts: dict[str, Counts]
    records: dict[str, int]
    file_errors: dict[str, str]
    drift: dict[str, list[str]]
    failing: dict[str, dict[str, int]]
    newest: dict[str, str] = field(default_factory=dict)
    key_duplicates: dict[str, int] = field(default_factory=dict)
    # The sum of the `_origin` of the records that have an outcome, where rows have one.
    origins: dict[str, int] = field(default_factory=dict)
    # Rows of the table whose place a row of another partition takes.
    displaced: dict[str, int] = field(default_factory=dict)
    # The partitions into which records came back, by the partition that gave way.
    revived_in: dict[str, set[str]] = field(default_factory=dict)
    clashes: list[uniqueness.Clashes] = field(default_factory=list)


def audited(
    contract: Contract, frame: DataFrame, types: StructType, references: dict[str, DataFrame]
) -> DataFrame:
    """Adds `_violations`, `_warnings` and `_record` to transformed rows.

    `types` is the schema of `frame`; `references` holds one frame per reference rule: its distinct
    keys in a column `_key`.
    """
    from pyspark.sql import functions as F

    for rule, _ in contract.rules_of(Reference):
        mark = REFERENCE_MARK.format(rule.name)
        keys = references[rule.name].select(
            F.col("_key").alias(f"{mark}_key"), F.lit(True).alias(mark)
        )
        frame = frame.join(keys, F.col(rule.about) == F.col(f"{mark}_key"), "left")
    rules = list(row_rules(contract))
    _ensure_evaluable(contract, frame)
    names = broken_names([r for r in rules if r.severity == "error"])
    warnings = broken_names([r for r in rules if r.severity == "warn"])
    # Asking the finished column, and not the conditions again, lets the engine evaluate them once.
    left = F.col("_violations").isNotNull()
    added: dict[str, Column] = {"_warnings": warnings}
    if "_violations" in types.names:  # a reader found them
        added["_record"] = F.coalesce(F.col("_raw"), F.when(left, _json(contract, types)))
        added["_record_file"] = F.col("_source_file")
    else:
        frame = frame.withColumn("_violations", names)
        added["_record"] = F.when(left, _json(contract, types))
        record = _input_type(types)
        has_file = record is not None and "_source_file" in record.names
        file = F.col("_input._source_file") if has_file else F.lit(None).cast("string")
        added["_record_file"] = F.when(left, file)
    if contract.lookups:  # by these a row that waits for one is found
        values = {c.name: F.col(c.name) for c in contract.columns if c.name in types.names}
        added["_computed"] = F.when(left, record_text(types, values))
    return frame.withColumns(added)


def _ensure_evaluable(contract: Contract, frame: DataFrame) -> None:
    """Raises ContractError for an expression that the engine makes no sense of: a rule that cannot
    run must not look like one that passed, and a person should read which one it is."""
    from pyspark.errors import PySparkException

    for rule, spec in contract.rules_of(ExpressionHolds):
        try:
            _ = frame.select(broken(rule)).schema
        except PySparkException as error:
            raise ContractError(
                f"{contract.path}: rule {rule.name} cannot be evaluated: {spec.expression}"
                f" ({str(error).splitlines()[0]}). Nothing was published."
            ) from error


def _input_type(types: StructType) -> StructType | None:
    """The type of a row's `_input`; None where there is none."""
    if "_input" not in types.names:
        return None
    return cast("StructType", types["_input"].dataType)


def _json(contract: Contract, types: StructType) -> Column:
    """The original record: the row's `_input`, or the row itself where a table reads none."""
    from pyspark.sql import functions as F

    record = _input_type(types)
    if record is not None:
        return record_text(record, {n: F.col(f"_input.`{n}`") for n in record.names})
    values = {c.name: F.col(c.name) for c in contract.columns if c.name in types.names}
    return record_text(types, values)


def record_text(types: StructType, values: dict[str, Column]) -> Column:
    """A record as a JSON object of strings: engines print numbers and times differently, their
    casts to string agree."""
    from pyspark.sql import functions as F

    def written(name: str) -> Column:
        if types[name].dataType.typeName() == "array":  # its cast to string has two forms of null
            return F.to_json(F.transform(values[name], lambda v: v.cast("string")))
        return values[name].cast("string")

    return F.to_json(F.struct(*[written(n).alias(n) for n in values]))


def classified(
    contract: Contract,
    frame: DataFrame,
    types: StructType,
    repeated: pa.Table | None,
    table: resolution.Standing | None,
) -> DataFrame:
    """Adds `outcome` to audited rows; `types` is the schema that they were transformed to,
    `repeated` are the keys that occur more than once in the
    batch, `table` is what readers see, if it has rows."""
    from pyspark.sql import functions as F

    is_file = F.lit(False)
    if "_records" in types.names:
        is_file = F.col("_records").isNotNull()
    leaves = F.when(is_file, F.lit("file"))
    if "_filtered" in types.names:
        leaves = leaves.when(F.col("_filtered").isNotNull(), F.lit("filtered"))
    leaves = leaves.when(F.col("_violations").isNotNull(), F.lit("quarantine"))
    if not contract.keyed:
        return frame.withColumn("outcome", leaves.otherwise(F.lit("insert")))
    frame = frame.withColumns({"_row_hash": content_hash(contract, types), "_leaves": leaves})
    return resolution.resolved(contract, frame, repeated, table)


def content_hash(contract: Contract, types: StructType) -> Column:
    """xxHash64 of the contract's columns that the transform made: equal rows have equal hashes."""
    from pyspark.sql import functions as F

    made = [c for c in contract.columns if c.name in types.names]
    # The hash passes over nulls: without their places, (null, x) and (x, null) would be one row.
    nulls = [F.col(c.name).isNull() for c in made if not c.required]
    return F.xxhash64(*[hashable(F.col(c.name), c.type) for c in made], *nulls)


def hashable(value: Column, type_: str) -> Column:
    """A value in the form that every engine hashes alike: decimals beyond 64 bits have the same text
    everywhere, and not the same hash."""
    wide = type_.startswith("decimal") and int(type_[8:].partition(",")[0]) > 18
    return value.cast("string") if wide else value


def staged_columns(contract: Contract, made: Collection[str], *, compared: bool) -> list[str]:
    """The columns of staged rows, of which the transform has `made` some: those of the table, and
    those that say why a row left. Rows that were not `compared` with a table, since it has none,
    all have the same in two of them; to write those would be a seventh of the work."""
    has = {*made, "_warnings", "_violations", "_record", "_record_file", "outcome"}
    if contract.lookups:
        has.add("_computed")
    if contract.keyed:
        has |= {"_row_hash"} | ({"_if_won", "_displaces"} if compared else set())
    wanted = [n for n, _ in table_columns(contract)] + [*STAGED_ONLY, "outcome"]
    return [n for n in dict.fromkeys(wanted) if n in has]


def stage(
    contract: Contract,
    frame: DataFrame,
    columns: list[str],
    folder: Folder,
) -> None:
    """Writes the columns of classified rows to a folder; then settles the contested ones."""
    from pyspark.sql import functions as F

    folder.write(frame.select(*columns))
    contested = folder.frame(frame.sparkSession, "contested")
    if contested is not None:
        if "_if_won" not in columns:
            contested = contested.withColumn("_if_won", F.lit("insert"))
        rows = resolution.settled(contract, contested)
        folder.write(rows.select(*columns))


def stage_leaving(
    contract: Contract,
    table: resolution.Standing,
    staged: Staged,
    partitions: list[str],
) -> None:
    """Stages the rows that leave the table although the batch has no other of their key, and those
    that take their places, and counts them. Rows of partitions outside the batch (their records
    have moved) count for its first."""
    from pyspark.sql import functions as F

    spark, folder = table.rows.sparkSession, staged.folder
    folder.write(resolution.leaving(contract, table, folder.frame(spark, *resolution.WON)))
    kept = folder.frame(spark, *LEAVING)
    if kept is None:
        return
    if contract.partitioning is None:
        kept = kept.withColumn("_partition", F.lit(partitions[0]))

    def partition_if(outcome: str) -> Column:
        return F.max(F.when(F.col("outcome") == outcome, F.col("_partition")))

    by_key = kept.groupBy(*contract.key).agg(
        partition_if("left").alias("left"), partition_if("revived").alias("revived")
    )
    for row in by_key.groupBy("left", "revived").count().toArrow().to_pylist():
        partition = row["left"] if row["left"] in partitions else partitions[0]
        field_ = "revived" if row["revived"] else "withdrawn"
        staged.counts[partition] += Counts(**{field_: row["count"]})
        if row["revived"]:
            staged.revived_in.setdefault(partition, set()).add(row["revived"])


def physical(contract: Contract) -> tuple[str, ...]:
    """The columns by which the table's files are laid out: none or one date."""
    column = contract.physical_partition
    return () if column == "none" else (column,)


def staged_rows(
    spark: SparkSession,
    contract: Contract,
    columns: Collection[str],
    folder: Folder,
    partitions: list[str],
) -> DataFrame | None:
    """The rows of a staged batch that were made of what it read, with their partition and how many
    input rows each stands for; `columns` are those that were staged."""
    from pyspark.sql import functions as F

    rows = folder.frame(spark, *OUTCOMES[:-1])
    if rows is None:
        return None
    if contract.partitioning is None:
        rows = rows.withColumn("_partition", F.lit(partitions[0]))
    return rows if "_rows" in columns else rows.withColumn("_rows", F.lit(1).cast("bigint"))


def count(
    spark: SparkSession,
    contract: Contract,
    columns: Collection[str],
    folder: Folder,
    partitions: list[str],
    published: DataFrame | None,
) -> Staged:
    """Counts a staged batch, by partition and outcome, in one pass over its narrow `columns`.
    `published`, the table before the batch if it has rows, is what `unique` rules look at too."""
    from pyspark.sql import functions as F

    staged = Staged(
        folder, {p: Counts() for p in partitions}, {}, {}, {}, {p: {} for p in partitions}
    )
    rows = staged_rows(spark, contract, columns, folder, partitions)
    if rows is not None:
        names = _rule_counts(contract, list(row_rules(contract)))
        sequence = contract.publish.sequence
        # A sequence need not be a time: log positions are numbers, which have no age.
        newest = F.lit(None).cast("string")
        if sequence and contract.column[sequence].type in ("date", "timestamp"):
            newest = F.max(sequence).cast("string")
        found = rows.groupBy("_partition", "outcome").agg(
            F.sum("_rows").alias("_n"),
            F.sum((F.col("_rows") == 0).cast("int")).alias("_added"),
            newest.alias("_newest"),
            F.sum(F.col("_displaces").cast("int")).alias("_displaced")
            if "_displaces" in columns
            else F.max(F.lit(0)).alias("_displaced"),
            origin_sum(F.col("_rows")).alias("_origins")
            if "_origin" in columns
            else F.max(F.lit(None).cast("string")).alias("_origins"),
            *names.values(),
        )
        for row in found.collect():  # no times, which this would turn into local ones
            _add(staged, row.asDict(), names)
        staged.clashes.extend(uniqueness.clashes(contract, rows, published))
    if contract.layer == "bronze":
        _count_files(spark, contract, staged)
    if contract.grain == "aggregate" and rows is not None:
        _count_repeated_keys(contract, staged, rows)
    return staged


def origin_sum(weight: Column) -> Column:
    """The sum of `_origin`, each as often as the record counts. Two sets of records of one size
    have the same sum only if they are the same records, or by a chance of 2^-64."""
    from pyspark.sql import functions as F

    return F.sum(F.col("_origin").cast("decimal(20,0)") * weight.cast("decimal(10,0)"))


def _rule_counts(contract: Contract, rules: list[Rule]) -> dict[str, Column]:
    from pyspark.sql import functions as F

    def times(array: str, name: str) -> Column:
        hit = F.coalesce(F.array_contains(F.col(array), name), F.lit(False))
        return F.sum(hit.cast("int")).alias(name)

    names = {
        r.name: times("_violations" if r.severity == "error" else "_warnings", r.name)
        for r in rules
        if contract.layer != "bronze"
    }
    if contract.layer == "bronze":
        reader = (
            ["parsable"]
            if contract.delivered.format != "parquet"
            else [c.type_check for c in contract.columns]
        )
        names |= {n: times("_violations", n) for n in reader}
    return names


_FIELD = {
    "insert": "inserted",
    "update": "updated",
    "delete": "deleted",
    "unchanged": "unchanged",
    "repeated": "unchanged",
    "superseded": "duplicate",
    "duplicate": "duplicate",
    "quarantine": "quarantined",
    "filtered": "filtered",
}


def _add(staged: Staged, row: dict[str, Any], names: Iterable[str]) -> None:
    partition, outcome = row["_partition"], row["outcome"]
    if partition not in staged.counts:
        raise SchemaError(
            "transform returns rows of a partition that is not in this run: pass the column"
            " _partition through as it was read. Nothing was published."
        )
    ours = staged.counts[partition]
    added = row["_added"] if outcome == "insert" else 0
    staged.counts[partition] = ours + Counts(**{_FIELD[outcome]: row["_n"] or 0}, added=added)
    if outcome in ("update", "delete") and row["_displaced"]:
        staged.displaced[partition] = staged.displaced.get(partition, 0) + row["_displaced"]
    if row["_origins"] is not None:
        staged.origins[partition] = staged.origins.get(partition, 0) + int(row["_origins"])
    if outcome not in ("quarantine", "filtered") and row["_newest"]:
        staged.newest[partition] = max(staged.newest.get(partition, ""), row["_newest"])
    if outcome != "filtered":
        failing = staged.failing[partition]
        for name in names:
            failing[name] = failing.get(name, 0) + (row[name] or 0)


def _count_files(spark: SparkSession, contract: Contract, staged: Staged) -> None:
    rows = staged.folder.frame(spark, "file")
    if rows is None:
        return
    columns = ("_partition", "_records", "_file_error", "_drift")
    found = delivered(contract, rows.select(*columns).toArrow().to_pylist())
    for partition, of in found.items():
        staged.records[partition] = of.records
        if of.error:
            staged.file_errors[partition] = of.error
        drift = {"extra": sorted(of.extra), "missing": sorted(of.missing)}
        staged.drift.setdefault(partition, []).extend(drift_text(drift))


def drift_text(drift: Mapping[str, Iterable[str]]) -> list[str]:
    """Says which columns a delivery has beyond the contract, and which it lacks: some of them, and
    how many more there are."""
    extra = sorted(drift["extra"])
    told = [f"new column {quoting.name(n)}" for n in extra[:_NAMED]]
    told += [f"{len(extra) - _NAMED} more new columns"] if len(extra) > _NAMED else []
    missing = sorted(drift["missing"])
    told += [f"column {n} missing, read as null" for n in missing[:_NAMED]]
    more = len(missing) - _NAMED
    return told + ([f"{more} more columns missing, read as null"] if more > 0 else [])


def _count_repeated_keys(contract: Contract, staged: Staged, rows: DataFrame) -> None:
    found = (
        rows.where("outcome = 'insert'")
        .groupBy("_partition", *contract.key)
        .count()
        .where("count > 1")
        .groupBy("_partition")
        .count()
    )
    for row in found.toArrow().to_pylist():
        staged.key_duplicates[row["_partition"]] = row["count"]
