"""Keeps the records of a keyed table that lost to a row of another partition.

Belongs here: the table of superseded records beside each keyed table. Does not belong here: which
record wins (resolution.py).

A record that lost wins again when the row that beat it is withdrawn, rejected or corrected. Its own
partition is not computed then, so the record is kept, whole. The table is only ever added to before
the keyed table is committed, and a record counts as long as the batch that it names (`_batch_id`)
is still the newest of its partition: whatever a run that died has added is either what the table
says anyway, or names a batch that never came to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from spark_jobs.batch.folder import Folder
from spark_jobs.batch.publish import Target, commit, discard_leftovers, target
from spark_jobs.batch.resolution import ASIDE
from spark_jobs.contract.model import Contract
from spark_jobs.lake import delta
from spark_jobs.lake.storage import Lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# Beyond this many files, and beyond two for each physical partition, the records that still count are
# written anew: one file for each is what that leaves.
_MANY_FILES = 40
_COMPACTED, _DISPLACED = "compacted", "displaced"


def records(
    spark: SparkSession,
    contract: Contract,
    lake: Lake,
    newest: Mapping[str, str],
    origins: DataFrame | None,
) -> DataFrame | None:
    """The superseded records that still count; None if there are none.

    `newest` names the newest batch of each partition. `origins` are, for a table that reads a keyed
    one, the records that are there now (`_origin`, `_partition`): one that has moved to another
    partition is not made of this one any more.
    """
    table = delta.open_table(lake.superseded(contract.table), lake.storage)
    if table is None or not delta.active_files(table):
        return None
    found = target(contract, lake.superseded(contract.table), lake.storage).rows(spark)
    rows = found.join(
        _frame(spark, newest).withColumnsRenamed({"partition": "_partition", "batch": "_batch_id"}),
        ["_partition", "_batch_id"],
        "left_semi",
    )
    return rows if origins is None else rows.join(origins, ["_origin", "_partition"], "left_semi")


def _frame(spark: SparkSession, newest: Mapping[str, str]) -> DataFrame:
    return spark.createDataFrame(sorted(newest.items()), "partition string, batch string")


def keep(
    spark: SparkSession,
    contract: Contract,
    lake: Lake,
    table: Target,
    folder: Folder,
    newest: Mapping[str, str],
    metadata: Mapping[str, str],
    *,
    displaces: bool,
) -> None:
    """Adds the superseded records of a batch that is staged in `folder` of its table, and the rows
    of the table that it `displaces`; before the batch is committed.

    Raises ConflictError if another run added some at the same time.
    """
    lost = [o for o in ASIDE if o in folder.outcomes]
    displaced = _displaced(spark, contract, table, folder, newest) if displaces else None
    if not lost and displaced is None:
        return
    to = target(contract, lake.superseded(contract.table), lake.storage)
    aside = to.folder(folder.name)
    try:
        for outcome in lost:
            aside.copy(folder, outcome)
        if displaced is not None:
            to.write(displaced, aside, _DISPLACED)
        replaced = delta.active_files(to.table)
        folders = {tuple(sorted(f.partition.items())) for f in replaced}
        if len(replaced) <= max(_MANY_FILES, 2 * len(folders)):
            replaced = []
        elif (counting := records(spark, contract, lake, newest, None)) is not None:
            if to.by:
                counting = counting.repartition(*to.by)
            to.write(counting, aside, _COMPACTED)
        commit(to, aside, [*lost, _DISPLACED, _COMPACTED], replaced, dict(metadata))
    finally:
        discard_leftovers(to, aside)


def _displaced(
    spark: SparkSession,
    contract: Contract,
    table: Target,
    folder: Folder,
    newest: Mapping[str, str],
) -> DataFrame | None:
    """The rows of the table whose place a row of another partition takes; under the newest batch of
    their own, which has written them or found them unchanged."""
    from pyspark.sql import functions as F

    rows = folder.frame(spark, "update", "delete")
    if rows is None:
        return None
    winners = rows.where("_displaces").select(*contract.key)
    found = table.rows(spark).join(winners, list(contract.key), "left_semi")
    batches = _frame(spark, newest)
    found = found.join(batches, F.col("_partition") == F.col("partition"), "left")
    return found.withColumn("_batch_id", F.coalesce("batch", "_batch_id")).select(*table.columns)
