"""Makes a staged batch visible: one Delta commit per table and batch, or none.

Belongs here: the publish modes and which files a commit adds and removes. Does not belong here:
what the rows are (audit.py) and how the log is written (commits.py).

Each mode is idempotent, and gives one table whatever the order of the batches:

- `replace_partition`: the slices of a column (`_partition` unless the contract names another)
  that the batch holds are replaced.
- `upsert`: rows are merged by key; resolution.py has found what is new, newer, beaten or gone.
- `scd2`: every version of a key is a row; validity is recomputed for the keys that the batch
  touches from all their versions (Kimball's type 2).
- `snapshot`: the batch is the table.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from spark_jobs.batch import pinned
from spark_jobs.batch.folder import Folder
from spark_jobs.batch.layout import PUBLISHED, physical, table_columns
from spark_jobs.contract.model import Contract
from spark_jobs.errors import StorageError
from spark_jobs.lake import commits, delta, making, opened
from spark_jobs.lake.storage import Storage
from spark_jobs.report import Counts

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

KEPT, HISTORY, REVIVED = "kept", "history", "revived"
# What a batch brings, as opposed to rows of the table that it wrote again, and marks of deletion.
BROUGHT = ("insert", "update", HISTORY)


@dataclass(frozen=True)
class Published:
    """What a publish committed; `version` is None and the counts are 0 if nothing had to be."""

    version: int | None = None
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Target:
    """A table that is being written: its location, its log at the version the batch was computed
    from, its columns, its physical partition columns, how its store is reached, and the columns that
    the log says nothing of."""

    uri: str
    table: DeltaTable
    columns: tuple[str, ...]
    by: tuple[str, ...]
    storage: Storage
    concealed: frozenset[str] = frozenset()

    def rows(self, spark: SparkSession) -> DataFrame:
        return pinned.rows(spark, self.table, self.uri, self.storage)

    def folder(self, name: str) -> Folder:
        """A folder for data files that no commit references yet."""
        return Folder(self.storage, self.uri, name, self.by)

    def write(self, rows: DataFrame, folder: Folder, outcome: str) -> None:
        """Writes rows, with the table's columns, as such data files."""
        folder.write(rows.select(*self.columns), outcome)


def target(
    contract: Contract,
    uri: str,
    storage: Storage,
    engine: str | None = None,
    known: DeltaTable | None = None,
) -> Target:
    """Opens the table of a contract, or takes it as it is `known`; creates it, empty, if it is not
    there. Columns that the contract has gained since are added to the table's schema. An empty table
    takes whatever shape the contract has: the first runs of a new table often fail, and bind nobody.

    On a shared store it belongs to the `engine` that made it: engines cut files, and write their
    statistics and types, in ways of their own, and what one of them cannot read would stop the other.

    Raises SchemaError if the table holds rows in a shape that the contract no longer has, and
    EngineError if it belongs to another engine.
    """
    columns = table_columns(contract)
    by = physical(contract)
    table = known or delta.open_table(uri, storage)
    owner = engine if "://" in uri else None
    if table is not None and owner is not None:
        making.ensure_engine(table, contract.table, owner)
    fits = table is not None and making.fits(table, columns, by)
    if table is None or not (fits or delta.active_files(table)):
        table = making.create_table(
            uri,
            columns,
            by,
            name=contract.table,
            description=contract.description,
            storage=storage,
            replace=table is not None,
            engine=owner,
        )
    else:
        making.ensure_layout(table, by)
        making.add_columns(table, columns)
    return Target(uri, table, tuple(n for n, _ in columns), by, storage, contract.concealed)


def publish(
    spark: SparkSession,
    contract: Contract,
    to: Target,
    folder: Folder,
    partitions: list[str],
    counts: Counts,
    metadata: dict[str, str],
    slices: list[Any],
) -> Published:
    """Commits the staged batch in `folder`. Raises ConflictError if the table has moved on.

    `slices` are values of the publish column that the batch computed anew, for tables that read
    touched slices: one that has no row any more is replaced by nothing.
    """
    mode = contract.publish.mode
    files = delta.active_files(to.table)
    if mode == "snapshot":
        return commit(to, folder, ["insert"], files, metadata)
    if mode == "replace_partition":
        column = contract.publish.column or "_partition"
        values: list[Any] = list(partitions)
        if contract.publish.column:
            staged = folder.frame(spark, "insert")
            values = [*_distinct(staged, column), *slices]
        return replace_slices(spark, to, folder, column, values, metadata)
    if not (counts.published or counts.withdrawn or counts.revived):
        return Published()
    if mode == "scd2":
        return _publish_history(spark, contract, to, folder, files, metadata)
    replaced = _rewrite_without(
        spark, to, folder, files, _replaced(spark, to, folder, contract.key)
    )
    return commit(to, folder, [*PUBLISHED, REVIVED, KEPT], replaced, metadata)


def _replaced(
    spark: SparkSession, to: Target, folder: Folder, key: tuple[str, ...]
) -> DataFrame | None:
    """The keys of which the table's row gives way to another, or to nothing."""
    rows = folder.frame(spark, "update", "delete", "left")
    return None if rows is None else rows.select(*key).distinct()


def replace_slices(
    spark: SparkSession,
    to: Target,
    folder: Folder,
    column: str,
    values: Iterable[Any],
    metadata: dict[str, str],
) -> Published:
    """Replaces all rows whose `column` is one of `values` by the staged inserts.

    Files that lie wholly within the slices are dropped unread; the other rows of files that
    straddle a slice are kept by writing them again.
    """
    from pyspark.sql import functions as F

    wanted = set(values)
    nulls = None in wanted
    wanted.discard(None)
    replaced, straddling = [], []
    for f in delta.active_files(to.table):
        low, high = f.bounds.get(column, (None, None))
        null = f.nulls.get(column, 0)
        if column in f.partition:
            low = high = next((v for v in wanted if str(v) == f.partition[column]), None)
            null = f.rows if f.partition[column] is None else 0
            if low is None and not null:
                continue
        if null == f.rows:
            replaced += [f] if nulls else []
        elif low is None:
            straddling.append(f)
        elif low == high and low in wanted and (nulls or not null):
            replaced.append(f)
        elif (nulls and null) or any(low <= v <= high for v in wanted):
            straddling.append(f)
    if straddling:
        affected = _same_partitions(straddling, delta.active_files(to.table))
        outside = F.coalesce(~F.col(column).isin(*wanted), F.lit(not nulls))
        to.write(_in_partitions(to, spark, affected).where(outside), folder, KEPT)
        replaced = list({f.path: f for f in (*replaced, *affected)}.values())
    return commit(to, folder, ["insert", KEPT], replaced, metadata)


def _publish_history(
    spark: SparkSession,
    contract: Contract,
    to: Target,
    folder: Folder,
    files: list[delta.ActiveFile],
    metadata: dict[str, str],
) -> Published:
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    sequence = contract.sequence
    entity = [k for k in contract.key if k != sequence]
    new = folder.frame(spark, *PUBLISHED, REVIVED)
    left = folder.frame(spark, "left")
    versions = None
    if new is not None:
        ends = {"valid_to": F.lit(None).cast("timestamp"), "is_current": F.lit(True)}
        versions = new.withColumns(ends).select(*to.columns)
    going = [f.select(*contract.key) for f in (versions, left) if f is not None]
    keys = going[0] if len(going) == 1 else going[0].unionByName(going[1])
    touched = keys.select(*entity).distinct()
    if files:
        old = to.rows(spark).join(touched, entity, "left_semi")
        old = old.join(keys.distinct(), list(contract.key), "left_anti").select(*to.columns)
        versions = old if versions is None else versions.unionByName(old)
    assert versions is not None  # without files there is nothing that could have left
    following = F.lead(sequence).over(Window.partitionBy(*entity).orderBy(sequence))
    versions = versions.withColumn("valid_to", following)
    current = F.col("valid_to").isNull()
    if contract.publish.delete_column:
        current = current & ~F.coalesce(F.col(contract.publish.delete_column), F.lit(False))
    to.write(versions.withColumn("is_current", current), folder, HISTORY)
    replaced = _rewrite_without(spark, to, folder, files, touched) if files else []
    return commit(to, folder, [HISTORY, KEPT], replaced, metadata)


def _rewrite_without(
    spark: SparkSession,
    to: Target,
    folder: Folder,
    files: list[delta.ActiveFile],
    keys: DataFrame | None,
) -> list[delta.ActiveFile]:
    """Writes again, without the rows of some keys, the physical partitions that hold any of them;
    returns the files that this replaces."""
    if keys is None:
        return []
    affected, on = files, keys.columns
    if to.by:
        (column,) = to.by
        hit = to.rows(spark).join(keys, on, "left_semi")
        values = {v if v is None else str(v) for v in _distinct(hit, column)}
        affected = [f for f in files if f.partition[column] in values]
    if affected:
        kept = _in_partitions(to, spark, affected).join(keys, on, "left_anti")
        to.write(kept, folder, KEPT)
    return affected


def _same_partitions(
    some: list[delta.ActiveFile], every: list[delta.ActiveFile]
) -> list[delta.ActiveFile]:
    wanted = {tuple(sorted(f.partition.items())) for f in some}
    return [f for f in every if tuple(sorted(f.partition.items())) in wanted]


def _in_partitions(to: Target, spark: SparkSession, files: list[delta.ActiveFile]) -> DataFrame:
    from pyspark.sql import functions as F

    rows = to.rows(spark)
    for column in to.by:
        values = {f.partition[column] for f in files}
        days = sorted(v for v in values if v is not None)
        inside = F.col(column).isin(*[F.lit(v).cast("date") for v in days])
        if None in values:
            inside = inside | F.col(column).isNull()
        rows = rows.where(inside)
    return rows


def _distinct(rows: DataFrame | None, column: str) -> list[Any]:
    if rows is None:
        return []
    return rows.select(column).distinct().toArrow().column(0).to_pylist()


def commit(
    to: Target,
    folder: Folder,
    outcomes: list[str],
    replaced: list[delta.ActiveFile],
    metadata: dict[str, str],
) -> Published:
    """Adds the staged files of some outcomes and drops `replaced`, in one commit if there is any."""
    sizes = folder.files(*outcomes)
    files = {path: (sizes[path], footer) for path, footer in folder.footers(*outcomes).items()}
    adds = commits.describe_files(folder.name, files, to.table.schema(), to.by, to.concealed)
    if not adds and not replaced:
        return Published()
    version = commits.commit(to.table, to.storage, adds, commits.removals(replaced), metadata)
    return Published(version, len(adds), sum(a.size for a in adds))


def discard_leftovers(to: Target, folder: Folder) -> None:
    """Removes the staged files of a batch that the table does not hold.

    The log is asked, and not the caller: a commit may have landed although its reply was lost, and
    then these files are the table. If the log does not answer, the files stay for a vacuum.
    """
    if folder.is_untouched:
        return
    # Whatever ended the batch is what the caller wants to know; uncommitted files harm nobody.
    with contextlib.suppress(DeltaError, OSError, StorageError):
        live = _committed(to, folder)
        if not live:  # not as far as this table knows
            opened.update(to.table, to.storage)
            live = _committed(to, folder)
        folder.remove(folder.outcomes - live if live else None)


def _committed(to: Target, folder: Folder) -> set[str]:
    """The outcomes of a batch that the table holds, at the version at which it is open."""
    parts = [f.path.split("/") for f in delta.active_files(to.table)]
    return {path[1].partition("=")[2] for path in parts if path[0] == folder.name}
