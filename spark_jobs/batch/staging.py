"""From the lake to a staged batch: read, transform, audit, count.

Belongs here: the order of those steps, and what is known of a batch that is staged. Does not belong
here: any of the steps, judging the batch (gate.py), or publishing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from spark_jobs.batch import (
    audit,
    inputs,
    layout,
    lookups,
    outcomes,
    publish,
    reading,
    resolution,
    superseded,
    transform,
)
from spark_jobs.batch.folder import Folder
from spark_jobs.batch.plan import Plan
from spark_jobs.batch.reading import Read
from spark_jobs.batch.steps import Steps
from spark_jobs.contract.model import Contract
from spark_jobs.contract.rules import Reference, Unique
from spark_jobs.lake.storage import Lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType


@dataclass(frozen=True)
class Batch:
    """Partitions that are published together or not at all, the table that they go to, and the folder
    in which they are staged there."""

    id: str
    to: publish.Target
    partitions: list[str]
    folder: Folder


@dataclass(frozen=True)
class StagedBatch:
    """What was staged; `reads` is how many rows each partition has according to its source, and
    `altered` are partitions of which some record counts more or less often than it was read."""

    rows: Read
    outcome: outcomes.Staged
    reads: dict[str, int]
    altered: set[str]


def stage(
    spark: SparkSession, contract: Contract, lake: Lake, plan: Plan, batch: Batch, steps: Steps
) -> StagedBatch:
    to, todo = batch.to, batch.partitions
    with steps.timed("read"):
        rows = reading.read(spark, contract, lake, plan, todo)
    with steps.timed("transform"):
        frame = _transformed(spark, contract, plan, batch, rows)
        # Asked once: the engine works through the whole plan for each frame that is asked.
        types = frame.schema
    with steps.timed("audit"):
        repeated = resolution.repeated_keys(contract, frame) if contract.keyed else None
        frame = _audited(spark, contract, plan, frame, types)
        has_rows = bool(to.table.get_add_actions().num_rows)
        table = None
        if contract.keyed and has_rows:
            table = _standing(spark, contract, lake, plan, batch, rows)
        frame = audit.classified(contract, frame, types, repeated, table)
        alike = bool(repeated) and reading.are_told_by_some_columns(contract, plan)
        names = types.fieldNames()
        if alike:
            frame, names = _with_whole(contract, plan, frame), [*names, "_whole"]
        columns = layout.staged_columns(contract, names, compared=table is not None)
        outcomes.stage(contract, frame, columns, batch.folder)
    with steps.timed("count"):
        others = None
        if contract.rules_of(Unique):
            others = table.others if table else to.rows(spark) if has_rows else None
        staged = outcomes.count(spark, contract, columns, batch.folder, todo, others)
        if table is not None and table.has_former:
            outcomes.stage_leaving(contract, table, staged, todo)
    counted = _counted(contract, rows, staged, todo)
    altered = {
        p for p, (_, of) in counted.items() if of is not None and of != staged.origins.get(p, 0)
    }
    if alike:
        with steps.timed("count"):
            found = outcomes.staged_rows(spark, contract, columns, batch.folder, todo)
            if found is not None:
                driving = reading.with_origin(contract, plan, rows.records, has_input=True)
                altered |= inputs.doubled(driving, reading.whole(contract, plan), found)
    return StagedBatch(rows, staged, {p: n for p, (n, _) in counted.items()}, altered)


def _transformed(
    spark: SparkSession, contract: Contract, plan: Plan, batch: Batch, rows: Read
) -> DataFrame:
    from pyspark.sql import functions as F

    frame = transform.transformed(spark, contract, plan.upstream, plan.started_at, rows.frames)
    given = set(frame.columns)
    if contract.partitioning is not None and "_arrival_date" not in given:
        day = F.to_date(F.substring("_partition", 1, 10))
        frame = frame.withColumn("_arrival_date", day)
    frame = frame.withColumn("_batch_id", F.lit(batch.id))
    return reading.with_origin(contract, plan, frame, has_input="_input" in given)


def _audited(
    spark: SparkSession, contract: Contract, plan: Plan, frame: DataFrame, types: StructType
) -> DataFrame:
    references = {
        rule.name: inputs.reference_keys(spark, plan.upstream[refers.table], refers.column)
        for rule, refers in contract.rules_of(Reference)
    }
    lookups.ensure_evaluable(contract, plan.upstream, frame)
    return audit.audited(contract, frame, types, references)


def _standing(
    spark: SparkSession, contract: Contract, lake: Lake, plan: Plan, batch: Batch, rows: Read
) -> resolution.Standing:
    """What the table holds against this batch."""
    newest = plan.newest
    again = tuple(p for p in batch.partitions if p in newest)
    former = resolution.Former(again, rows.moved)
    lost = None
    if former and contract.partitioning is not None:
        sources = inputs.keyed_sources(contract, plan.upstream)
        present = inputs.origins(spark, contract, sources) if sources else None
        lost = superseded.records(spark, contract, lake, newest, present)
    return resolution.standing(contract, batch.to.rows(spark), former, lost)


def _with_whole(contract: Contract, plan: Plan, frame: DataFrame) -> DataFrame:
    """Adds `_whole`, the hash of the whole record, to rows that share their key with another or
    have none."""
    from pyspark.sql import functions as F

    no_key = reduce(lambda a, b: a | b, [F.col(k).isNull() for k in contract.key])
    shared = F.when(F.col("_contested") | no_key, reading.whole(contract, plan))
    return frame.withColumn("_whole", shared)


def _counted(
    contract: Contract, rows: Read, staged: outcomes.Staged, partitions: list[str]
) -> Mapping[str, tuple[int, int | None]]:
    """The rows of each partition by its source, or as they were staged where no source tells."""
    if contract.source and contract.source.format != "parquet":
        return {p: (n, None) for p, n in staged.records.items()}
    if rows.counted is None:
        return {p: (staged.counts[p].accounted, None) for p in partitions}
    return rows.counted
