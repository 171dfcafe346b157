"""A staged batch: its rows written with what was decided of each, and counted.

Belongs here: writing classified rows, once, and the counts by partition and outcome. Does not belong
here: deciding (audit.py), whether a partition may be published (gate.py), publishing it (publish.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spark_jobs import quoting
from spark_jobs.batch import resolution, uniqueness
from spark_jobs.batch.folder import Folder
from spark_jobs.batch.landing.summaries import delivered
from spark_jobs.batch.layout import LEAVING, OUTCOMES
from spark_jobs.batch.rules import row_rules
from spark_jobs.contract.model import Contract
from spark_jobs.errors import SchemaError
from spark_jobs.report import Counts

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

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


def stage(
    contract: Contract,
    frame: DataFrame,
    columns: list[str],
    folder: Folder,
) -> None:
    """Writes the columns of classified rows to a folder; then settles the contested ones."""
    from pyspark.sql import functions as F

    if folder.by == ("_arrival_date",):
        # As the text that it is a part of: an engine takes long to print dates, for each row again.
        frame = frame.withColumn("_arrival_date", F.substring("_partition", 1, 10))
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


def staged_rows(
    spark: SparkSession,
    contract: Contract,
    columns: Collection[str],
    folder: Folder,
    partitions: list[str],
    outcomes: Sequence[str] = OUTCOMES[:-1],
) -> DataFrame | None:
    """The rows of a staged batch that were made of what it read, or some `outcomes` of them, with
    their partition and how many input rows each stands for; `columns` are those that were staged."""
    from pyspark.sql import functions as F

    rows = folder.frame(spark, *outcomes)
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
        kept = "_warnings" in columns
        warning = [r.name for r in row_rules(contract) if kept and r.severity == "warn"]
        names = {n: _times("_warnings", n) for n in warning}
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
        _count_violations(spark, contract, columns, staged)
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


def _count_violations(
    spark: SparkSession, contract: Contract, columns: Collection[str], staged: Staged
) -> None:
    """Counts rows by the error rules that they break, among those that left for it: no other row of
    the batch has a violation, and to look for each rule in all of them is half of the counting."""
    partitions = list(staged.counts)
    rows = staged_rows(spark, contract, columns, staged.folder, partitions, ["quarantine"])
    names = _error_rules(contract)
    if rows is None or not names:
        return
    broken_by = {n: _times("_violations", n) for n in names}
    for row in rows.groupBy("_partition").agg(*broken_by.values()).toArrow().to_pylist():
        staged.failing[row["_partition"]].update({n: row[n] for n in names})


def _error_rules(contract: Contract) -> list[str]:
    """The names that a row's `_violations` can have."""
    if contract.layer != "bronze":
        return [r.name for r in row_rules(contract) if r.severity == "error"]
    if contract.delivered.format != "parquet":
        return ["parsable"]
    return [c.type_check for c in contract.columns]


def _times(array: str, name: str) -> Column:
    """How many rows have a rule's name in an array of them."""
    from pyspark.sql import functions as F

    hit = F.coalesce(F.array_contains(F.col(array), name), F.lit(False))
    return F.sum(hit.cast("int")).alias(name)


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
