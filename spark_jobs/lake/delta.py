"""Tables of the lake as whoever opens them finds them: their files, and their rows.

Belongs here: opening a table, whether others can read its files as they are, and reading them. Does
not belong here: making or altering one (making.py), committing to one (commits.py), or what a batch
means (publish.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from spark_jobs import quoting
from spark_jobs.errors import InputError, StorageError
from spark_jobs.lake import opened
from spark_jobs.lake.storage import Storage, recognized

if TYPE_CHECKING:
    import pyarrow.dataset as pads  # brings pandas, which most commands do without

Found = TypeVar("Found")

_READ_AT_ONCE = 8
# Features of readers under which a data file's rows are the table's rows.
_PLAIN_FEATURES = frozenset({"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"})
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"

_ARROW = {
    "string": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
}


@dataclass(frozen=True)
class ActiveFile:
    """A data file that the table's current version references; `bounds` and `nulls` (how many)
    are of the columns of which the log knows them."""

    path: str
    size: int
    rows: int
    partition: Mapping[str, str | None]
    bounds: Mapping[str, tuple[Any, Any]]
    nulls: Mapping[str, int] = field(default_factory=dict)


def arrow_type(physical: str) -> pa.DataType:
    """The Arrow type of a contract's physicalType."""
    if physical.startswith("decimal"):
        precision, scale = physical[8:-1].split(",")
        return pa.decimal128(int(precision), int(scale))
    if physical.startswith("array"):
        return pa.list_(_ARROW[physical[6:-1]])
    return _ARROW[physical]


def open_table(uri: str, storage: Storage) -> DeltaTable | None:
    """The table at its newest version, or None if there is none.

    Raises StorageError if the log is damaged, or if data files lie there without any log: that is
    a lost table, not a new one.
    """
    if (table := opened.taken(uri, storage)) is not None:
        return table
    if opened.is_still_absent(uri, storage):
        return None
    try:
        return _opened(uri, storage)
    except TableNotFoundError:
        pass
    if not storage.tree(uri):
        opened.note_absent(uri)
        return None
    try:
        # Somebody else may have made it meanwhile: the log of a new table exists before its files do.
        return _opened(uri, storage)
    except TableNotFoundError:
        raise StorageError(
            f"{uri}: data files without a Delta log. Restore the _delta_log folder, or move"
            " the folder away to rebuild the table by a backfill."
        ) from None


def open_tables(uris: Iterable[str], storage: Storage) -> list[DeltaTable | None]:
    """Several tables side by side: an object store takes its time for each of the requests that a log
    takes, one after another."""
    asked = [(copy_context(), uri) for uri in uris]  # in which each is noted for the next run
    with ThreadPoolExecutor(_READ_AT_ONCE) as threads:
        return list(threads.map(lambda one: one[0].run(open_table, one[1], storage), asked))


def _opened(uri: str, storage: Storage) -> DeltaTable:
    try:
        found = DeltaTable(uri, storage_options=storage.delta_options(uri))
        return opened.lend(found, uri, storage)
    except TableNotFoundError:
        raise
    except (DeltaError, OSError, ValueError) as error:
        raise recognized(error, uri) or StorageError(
            f"{uri}: the Delta log cannot be read ({quoting.said(error)}). Restore the _delta_log"
            " folder from a backup, or move the table away and rebuild it by a backfill."
        ) from error


def open_plain(table: str, uri: str, storage: Storage) -> DeltaTable:
    """A table that a warehouse is to have, at its newest version.

    Raises InputError if there is none, and StorageError if the warehouse cannot read its files.
    """
    found = open_table(uri, storage)
    if found is None:
        raise InputError(
            f"{table}: there is no table at {uri}. Materialize {table.replace('.', '/')} first."
        )
    ensure_plain(found)
    return found


def ensure_plain(table: DeltaTable) -> None:
    """Raises StorageError unless the rows of the data files are the table's rows, as whoever reads the
    files by themselves takes them for."""
    beyond = _beyond_plain(table)
    if beyond:
        raise StorageError(
            f"{table.table_uri}: the table uses {', '.join(sorted(beyond))}, which the warehouse cannot"
            " read. Turn the feature off."
        )


def is_plain(table: DeltaTable) -> bool:
    """Whether the rows of the data files are the table's rows."""
    return not _beyond_plain(table)


def _beyond_plain(table: DeltaTable) -> set[str]:
    return set(table.protocol().reader_features or ()) - _PLAIN_FEATURES


def dataset(table: DeltaTable, storage: Storage) -> pads.Dataset:
    """The rows of the table's version, for Arrow.

    Through Arrow's own file system: by default delta-rs gives Arrow files that are Python objects,
    which its threads still hold when the interpreter ends, and that aborts the process.
    """
    fs, root = storage.filesystem(unquote(table.table_uri))  # delta-rs names tables by encoded URIs
    return table.to_pyarrow_dataset(filesystem=pafs.SubTreeFileSystem(root, fs))


def read(
    table: DeltaTable,
    storage: Storage,
    *,
    where: pads.Expression | None = None,
    columns: list[str] | None = None,
) -> pa.Table:
    """The rows of the table's version that meet `where`."""
    return dataset(table, storage).to_table(columns=columns, filter=where)


def files_by(table: DeltaTable, column: str) -> list[tuple[str, str]]:
    """The data files of the table's version, each with its value of a partition column."""
    actions = table.get_add_actions(flatten=True)
    # Not pa.table, which brings pandas to ask whether it is one of its.
    actions = pa.RecordBatchReader.from_stream(actions).read_all()
    paths, values = (actions.column(n).to_pylist() for n in ("path", f"partition.{column}"))
    return list(zip(paths, values, strict=True))


def read_files(
    table: DeltaTable,
    storage: Storage,
    paths: Iterable[str],
    columns: Collection[str] | None = None,
) -> list[pa.Table]:
    """The rows of some data files, each without its partition columns; of the columns those that a
    file has, or all."""
    fs, root = storage.filesystem(unquote(table.table_uri))

    def read_one(path: str) -> pa.Table:
        with pq.ParquetFile(f"{root.rstrip('/')}/{unquote(path)}", filesystem=fs) as file:
            return file.read(columns=None if columns is None else list(columns))

    with ThreadPoolExecutor(_READ_AT_ONCE) as threads:
        return list(threads.map(read_one, paths))


def active_files(table: DeltaTable) -> list[ActiveFile]:
    """The files of the table's version, with their statistics."""
    out = []
    for row in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        out.append(
            ActiveFile(
                path=row["path"],
                size=row["size_bytes"],
                rows=row.get("num_records") or 0,
                partition={
                    k.removeprefix("partition."): _text(v)
                    for k, v in row.items()
                    if k.startswith("partition.")
                },
                bounds={
                    k.removeprefix("min."): (v, row.get("max." + k.removeprefix("min.")))
                    for k, v in row.items()
                    if k.startswith("min.") and v is not None
                },
                nulls={
                    k.removeprefix("null_count."): v
                    for k, v in row.items()
                    if k.startswith("null_count.") and v is not None
                },
            )
        )
    return out


def footers(folder: str, files: Mapping[str, int], storage: Storage) -> dict[str, pq.FileMetaData]:
    """The footers of Parquet files, given by their paths in a folder and their sizes."""
    return _each(folder, files, storage, _footer)


def read_whole(
    folder: str, files: Mapping[str, int], storage: Storage
) -> dict[str, tuple[pq.FileMetaData, pa.Table]]:
    """The same with the rows of each, without what stands in the names of its folders."""
    return _each(folder, files, storage, lambda file: (file.metadata, file.to_table()))


def read_active(table: DeltaTable, files: list[ActiveFile], storage: Storage) -> pa.Table:
    """The rows of some files of the table's version, with the table's columns."""
    schema, uri = pa.schema(table.schema()), unquote(table.table_uri).rstrip("/")
    sizes = {unquote(f.path): f.size for f in files}
    values = {unquote(f.path): f.partition for f in files}
    found = read_whole(uri, sizes, storage)
    parts = [_complete(rows, values[path], schema) for path, (_, rows) in found.items()]
    return pa.concat_tables(parts) if parts else schema.empty_table()


def _complete(rows: pa.Table, values: Mapping[str, str | None], schema: pa.Schema) -> pa.Table:
    """The rows of a file, which may be older than some columns, and lacks those of its partition."""
    columns = []
    for f in schema:
        if f.name in values:
            value = pa.scalar(values[f.name], pa.string()).cast(f.type)
            columns.append(pa.repeat(value, rows.num_rows))
        elif f.name in rows.column_names:
            columns.append(rows.column(f.name).cast(f.type))
        else:
            columns.append(pa.nulls(rows.num_rows, f.type))
    return pa.table(columns, schema=schema)


def _footer(file: pads.ParquetFileFragment) -> pq.FileMetaData:
    return file.metadata


def _each(
    folder: str,
    files: Mapping[str, int],
    storage: Storage,
    read_one: Callable[[pads.ParquetFileFragment], Found],
) -> dict[str, Found]:
    def opened_one(file: tuple[str, int]) -> Found:
        return read_one(storage.parquet(f"{folder}/{file[0]}", file[1]))

    # Side by side: an object store takes its time for each, and a batch may have thousands.
    with ThreadPoolExecutor(_READ_AT_ONCE) as threads:
        return dict(zip(files, threads.map(opened_one, files.items()), strict=True))


def values_in(path: str) -> dict[str, str | None]:
    """What stands in the names of a file's folders, `column=value`."""
    parts = dict(p.split("=", 1) for p in path.split("/")[:-1] if "=" in p)
    return {k: None if v == NULL_PARTITION else unquote(v) for k, v in parts.items()}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
