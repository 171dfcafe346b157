"""Computes a table again from its present inputs and code, beside the lake, and compares.

Belongs here: building a table once, in a place of its own, and the differences to the one that
readers see. Does not belong here: what the ledger and the log alone can tell (reconcile.py).

A row that was changed, added or taken away past the platform is found, and so is a table that is not
what its inputs and its code say, whatever the ledger claims.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from spark_jobs.batch import superseded
from spark_jobs.batch.inputs import Upstream, keyed_sources, origins, present, upstream
from spark_jobs.batch.layout import technical_columns
from spark_jobs.batch.reconcile import Finding, reconcile
from spark_jobs.contract.model import Contract
from spark_jobs.contract.validity import HISTORY_COLUMNS
from spark_jobs.errors import LakehouseError
from spark_jobs.lake import delta, ledger
from spark_jobs.lake.row import newest_batches
from spark_jobs.lake.storage import Lake
from spark_jobs.report import RunSpec
from spark_jobs.run import run_table

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from spark_jobs.engines.session import Engine

# Columns that tell of the run, or of how days were batched, and not of the row.
_OF_A_RUN = {"_batch_id", "_run_ts", "_row_hash", "_origin"}
_QUARANTINE = ["rules", "record"]


def differences(
    engine: Engine, contracts: dict[str, Contract], contract: Contract, lake: Lake
) -> list[Finding]:
    """Where a table, its quarantine and the records that it keeps aside differ from what their inputs
    and code make; none if it never ran. Costs as much as a first load of the table; nothing of the
    lake is written.

    Days whose newest run failed are left out: their rows are those of the version before.
    """
    newest = ledger.latest(lake, contract.table)
    good = sorted(p for p, row in newest.items() if not row.failed)
    if not good or delta.open_table(lake.table(contract.table), lake.storage) is None:
        return []
    with tempfile.TemporaryDirectory(prefix="lakehouse-recompute-") as folder:
        aside = _aside(lake, contract, folder)
        spec = RunSpec(
            table=contract.table,
            partitions=[] if contract.partitioning is None else good,
            contracts="",
            zones=dict(aside.zones),
            storage_options=dict(lake.storage.options),
            engine=engine.name,
            run_id=uuid.uuid4().hex,
        )
        try:
            report = run_table(spec, engine, contracts, aside)
        except LakehouseError as error:
            return [Finding(contract.table, f"cannot be computed again: {error}", 1, 0)]
        out = [
            Finding(contract.table, "day that can be computed again", 1, 0, p.partition)
            for p in report.failed
        ]
        left_out = [*(p.partition for p in report.failed), *(newest.keys() - set(good))]
        out += _of_rows(engine.spark, contract, lake, aside, left_out)
        if contract.keyed and contract.partitioning is not None:
            sources = upstream(contract, contracts, lake)
            out += _of_superseded(engine.spark, contract, sources, lake, aside, left_out)
        return out + list(_of_quarantine(engine.spark, contract, lake, aside, left_out))


def _aside(lake: Lake, contract: Contract, folder: str) -> Lake:
    """The lake as this table reads it, with places of its own for what it writes."""
    own = {z: f"{folder}/{z}" for z in ("quarantine", "ledger", contract.layer)}
    others = {t: lake.table(t) for t in contract.upstream}
    aside = Lake({**lake.zones, **own}, lake.storage, others)
    rows = ledger.of_tables(lake, list(dict.fromkeys(contract.upstream)))
    for table in {row.table for row in rows}:
        ledger.append(aside, [r for r in rows if r.table == table])
    return aside


def _of_rows(
    spark: SparkSession, contract: Contract, lake: Lake, aside: Lake, left_out: list[str]
) -> Iterator[Finding]:
    from pyspark.sql import functions as F

    dropped = set(_OF_A_RUN)
    if contract.grain == "aggregate":  # which of its days a slice is of depends on their order
        dropped |= {"_partition", "_arrival_date"}
    names = [c.name for c in contract.columns]
    names += [n for n, _ in technical_columns(contract) if n not in dropped]
    ours, anew = (present(spark, lake_.table(contract.table), lake_) for lake_ in (lake, aside))
    if ours is None or anew is None:
        if ours is not None and (n := ours.count()):
            yield Finding(contract.table, "rows that its inputs do not make", 0, n)
        return
    if left_out and "_partition" in ours.columns:
        older = ours.where(F.col("_partition").isin(*left_out))
        if contract.keyed:
            keys = list(contract.key)
            older = older.select(*keys).distinct()
            ours, anew = (f.join(older, keys, "left_anti") for f in (ours, anew))
        else:
            ours, anew = (f.where(~F.col("_partition").isin(*left_out)) for f in (ours, anew))
    by = "_partition" if "_partition" in names else None
    yield from _unequal(contract.table, "rows", ours.select(*names), anew.select(*names), by)


def _of_superseded(
    spark: SparkSession,
    contract: Contract,
    sources: Mapping[str, Upstream],
    lake: Lake,
    aside: Lake,
    left_out: list[str],
) -> Iterator[Finding]:
    """The records that would win if others left: which ones are kept aside decides what a later
    run makes of the table."""
    from pyspark.sql import functions as F

    keyed = keyed_sources(contract, sources)
    present_ = origins(spark, contract, keyed) if keyed else None
    names = [c.name for c in contract.columns if c.name not in HISTORY_COLUMNS]
    names += [n for n, _ in technical_columns(contract) if n not in _OF_A_RUN]
    same = [*contract.key, contract.sequence, "_row_hash", "_partition"]
    frames: list[DataFrame | None] = []
    for lake_ in (lake, aside):
        newest = newest_batches(ledger.history(lake_, contract.table))
        rows = superseded.records(spark, contract, lake_, newest, present_)
        table = present(spark, lake_.table(contract.table), lake_)
        if rows is None or table is None:
            frames.append(None)
            continue
        # What has come back is there too, and no more than once; some was kept more than once.
        rows = rows.join(table.select(*dict.fromkeys(same)), list(dict.fromkeys(same)), "left_anti")
        rows = rows.where(~F.col("_partition").isin(*left_out)) if left_out else rows
        frames.append(rows.dropDuplicates(list(dict.fromkeys(same))).select(*names))
    some = next((f for f in frames if f is not None), None)
    if some is None:
        return
    ours, anew = (some.limit(0) if f is None else f for f in frames)
    yield from _unequal(contract.table, "superseded records", ours, anew, "_partition")


def _of_quarantine(
    spark: SparkSession, contract: Contract, lake: Lake, aside: Lake, left_out: list[str]
) -> Iterator[Finding]:
    from pyspark.sql import functions as F

    # Which of its days a rejected slice is of depends on their order, as with those in the table.
    by = None if contract.grain == "aggregate" else "partition"
    frames = []
    for lake_ in (lake, aside):
        rows = present(spark, lake_.quarantine(contract.table), lake_)
        if rows is None:
            rows = spark.createDataFrame([], "partition string, rules array<string>, record string")
        if left_out:
            rows = rows.where(~F.col("partition").isin(*left_out))
        frames.append(rows.select(*_QUARANTINE, *([by] if by else [])))
    ours, anew = frames
    yield from _unequal(contract.table, "quarantined rows", ours, anew, by)


def _unequal(
    table: str, what: str, ours: DataFrame, anew: DataFrame, by: str | None
) -> Iterator[Finding]:
    """Rows that are there too often, and rows that are missing, by partition where there are any."""
    from pyspark.sql import functions as F

    def written(name: str, type_: str) -> Column:  # arrays cannot be grouped by on every engine
        if not type_.startswith("array"):
            return F.col(name)
        return F.to_json(F.transform(F.col(name), lambda v: v.cast("string"))).alias(name)

    columns = [written(*c) for c in ours.dtypes]
    both = ours.select(*columns, F.lit(1).alias("_n"))
    both = both.unionByName(anew.select(*columns, F.lit(-1).alias("_n")))
    names = [n for n in both.columns if n != "_n"]
    unequal = both.groupBy(*names).agg(F.sum("_n").alias("_n")).where("_n != 0")
    partition = F.col(by) if by else F.lit("")
    found = unequal.groupBy(partition.alias("partition")).agg(
        F.sum(F.greatest("_n", F.lit(0))).alias("more"),
        F.sum(F.greatest(-F.col("_n"), F.lit(0))).alias("less"),
    )
    for row in sorted(found.toArrow().to_pylist(), key=lambda r: r["partition"] or ""):
        where = row["partition"] or ""
        if row["more"]:
            yield Finding(table, f"{what} that its inputs do not make", 0, row["more"], where)
        if row["less"]:
            yield Finding(table, f"{what} that its inputs make", row["less"], 0, where)


def reconciled(
    engine: Engine, contracts: dict[str, Contract], contract: Contract, lake: Lake
) -> list[Finding]:
    """The disagreements that the ledger and the log tell; where there are none, the differences to
    the table computed again."""
    found = reconcile(engine.spark, contract, lake)
    return found or differences(engine, contracts, contract, lake)
