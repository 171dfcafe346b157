"""The rows that a batch is made of, as they are read, and how many its source says there are.

Belongs here: which rows of the driving inputs a batch reads, and what each is recognized by. Does not
belong here: how they are read (landing, inputs.py), or what is made of them (staging.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING

from spark_jobs import window
from spark_jobs.batch import inputs, landing
from spark_jobs.batch.plan import Plan
from spark_jobs.contract.model import Contract
from spark_jobs.lake import ledger
from spark_jobs.lake.row import LedgerRow
from spark_jobs.lake.storage import Lake

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame, SparkSession


@dataclass(frozen=True)
class Read:
    """The driving rows by table; none for a table without inputs. `counted` is how many each partition
    has according to its source, with the sum of their origins: file footers for Parquet, the upstream
    table for Delta; text files count themselves while being parsed. `touched` are the slices of an
    aggregate that the batch touches, `moved` the records that are in this batch's partitions now and
    may have been in others before."""

    frames: Mapping[str, DataFrame] = field(default_factory=dict)
    counted: dict[str, tuple[int, int | None]] | None = None
    touched: pa.Table | None = None
    moved: DataFrame | None = None

    @property
    def records(self) -> DataFrame:
        """What drives the batch, whatever table it is of: `_partition` and the record, `_input`."""
        if len(self.frames) == 1:
            return next(iter(self.frames.values()))
        alike = [f.select("_partition", "_input") for f in self.frames.values()]
        return reduce(lambda a, b: a.unionByName(b), alike)


def read(
    spark: SparkSession, contract: Contract, lake: Lake, plan: Plan, partitions: Sequence[str]
) -> Read:
    if contract.source:
        due = [plan.deliveries[p] for p in partitions]
        counted: dict[str, tuple[int, int | None]] = {d.partition: (d.records, None) for d in due}
        frame = landing.read(spark, contract, due, lake.storage)
        return Read({contract.table: frame}, counted)
    if not contract.inputs:
        return Read()
    todo, touched = list(partitions), None
    first = contract.inputs[0]
    sources = inputs.drivers(contract, plan.upstream)
    if first.by:
        source = sources[0]
        replaced = ledger.versions(source.table, _replacing(plan, source.contract, todo))
        made = inputs.present(spark, lake.table(contract.table), lake)
        column = contract.publish.column or first.by
        made = made.select(column) if made is not None and column in made.columns else None
        touched = inputs.slices(spark, source, first.by, todo, replaced, made)
    frames = inputs.driving(spark, contract, sources, todo, touched)
    keyed = inputs.keyed_sources(contract, plan.upstream)
    has_moved = any(_have_moved(plan, s.contract, todo) for s in keyed)
    moved = inputs.origins(spark, contract, keyed, todo) if has_moved else None
    read_ = Read(frames, None, touched, moved)
    has_input = contract.grain == "row" and touched is None
    rows = inputs.origins(spark, contract, sources, todo) if has_input else read_.records
    return replace(read_, counted=inputs.rows_by_partition(rows, has_origin=has_input))


def _have_moved(plan: Plan, source: Contract, partitions: list[str]) -> bool:
    """Whether records of the driving table have come to these partitions from others."""
    arrived = plan.arrived
    return any(
        arrived.revivals.get((source.table, key))
        or any(b.updated or b.deleted for b in arrived.batches.get((source.table, key), ()))
        for p in partitions
        for key in window.inside(p, source.partitioning)
    )


def _replacing(plan: Plan, source: Contract, partitions: list[str]) -> list[LedgerRow]:
    """The batches of the driving table that replaced rows since these partitions were last
    computed: what stood there before has to be looked at too."""
    computed = {row.partition: row for row in plan.history if not row.failed}
    if not computed:  # there is nothing yet that could be out of date
        return []
    out = []
    for p in partitions:
        last = computed.get(p)
        inside = window.inside(p, source.partitioning)
        arrived = (enumerate(plan.arrived.batches.get((source.table, key), ())) for key in inside)
        for nth, batch in itertools.chain.from_iterable(arrived):
            gone = batch.withdrawn or batch.revived
            replaced = gone or batch.updated or batch.deleted if source.keyed else nth
            if replaced and not (last and last.started_at > batch.done_at):
                out.append(batch)
    return out


def with_origin(contract: Contract, plan: Plan, frame: DataFrame, *, has_input: bool) -> DataFrame:
    """Adds `_origin`, by which a row is known to be of one record: see inputs.origin."""
    from pyspark.sql import functions as F

    if has_input:
        sources = inputs.drivers(contract, plan.upstream)
        identity = inputs.identity(contract, [s.contract for s in sources])
        record = inputs.record_types(contract, sources)
        return frame.withColumn("_origin", inputs.origin(record, identity))
    if contract.keyed and contract.inputs:
        return frame.withColumn("_origin", F.lit(None).cast("bigint"))
    return frame


def are_told_by_some_columns(contract: Contract, plan: Plan) -> bool:
    """Whether `_origin` may be the same for records that differ: see inputs.identity."""
    if not contract.inputs or contract.grain != "row":
        return False
    sources = [s.contract for s in inputs.drivers(contract, plan.upstream)]
    return not sources[0].keyed and inputs.identity(contract, sources) is not None


def whole(contract: Contract, plan: Plan) -> Column:
    """The hash of all that a driving record holds."""
    sources = inputs.drivers(contract, plan.upstream)
    return inputs.origin(inputs.record_types(contract, sources), None)
