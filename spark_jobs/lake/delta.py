"""The Delta log: opening tables, describing data files, committing.

Every commit to a lake table goes through `commit`, on every engine: the engine writes Parquet
files, the log entry is made here, by delta-rs, against the version that the batch was computed
from. A concurrent commit therefore always surfaces as ConflictError, never as a lost update.
Does not belong here: what a batch means (publish.py).
Protocol: https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import tenacity
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Schema,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from spark_jobs import quoting
from spark_jobs.errors import ConflictError, EngineError, InputError, SchemaError, StorageError
from spark_jobs.lake import opened
from spark_jobs.lake.storage import Storage, describe, recognized

if TYPE_CHECKING:
    import pyarrow.dataset as pads  # brings pandas, which most commands do without

Found = TypeVar("Found")

# Bounds of longer strings are cut, the upper one made greater than whatever begins like it.
_LONGEST_STAT = 64
_LAST_CHARACTER = "\U0010ffff"
_READ_AT_ONCE = 8
_CLEANED_EVERY = 10
# Features of readers under which a data file's rows are the table's rows.
_PLAIN_FEATURES = frozenset({"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"})
# The property of a table that names the engine whose files it takes.
_ENGINE = "lakehouse.engine"
# On a shared store: whoever opens a table asks for each commit since its last checkpoint by itself.
_SHARED = {"delta.checkpointInterval": "10"}
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


looking_again = tenacity.retry(
    retry=tenacity.retry_if_exception_type(CommitFailedError),
    stop=tenacity.stop_after_attempt(12),
    wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=5),
    reraise=True,
)
"""For a write that another one got in the way of: from opening the table on, once more."""
_making = threading.Lock()
_made_here: set[str] = set()


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


def create_table(
    uri: str,
    columns: Iterable[tuple[str, str]],
    partition_by: Iterable[str],
    *,
    name: str,
    description: str,
    storage: Storage,
    replace: bool = False,
    engine: str | None = None,
) -> DeltaTable:
    """Creates an empty table, in place of one that is there if `replace`, for an `engine` if it is to
    have one alone. The log exists before the first data file does, so that a crash never leaves files
    that nobody can tell from a lost table."""
    schema = Schema.from_arrow(pa.schema([pa.field(n, arrow_type(t)) for n, t in columns]))
    made = _made(
        uri,
        storage,
        schema=schema,
        mode="overwrite" if replace else "ignore",
        partition_by=list(partition_by),
        name=name,
        description=description,
        configuration={} if engine is None else {_ENGINE: engine, **_SHARED},
        raise_if_key_not_exists=False,  # properties are others' too
    )
    if made.version() == 0:
        opened.committed(made, 0, {})  # nothing of a batch
    return opened.lend(made, uri, storage)


def append(
    uri: str,
    rows: pa.Table,
    storage: Storage,
    *,
    partition_by: Iterable[str] = (),
    configuration: Mapping[str, str | None] | None = None,
) -> DeltaTable:
    """Appends rows to a table that several runs append to at once. It is made where there is none, so
    that its log exists before the first data file does."""
    how = {"partition_by": list(partition_by), "configuration": dict(configuration or {})}
    try:
        return _append(uri, rows, storage, how)
    except (DeltaError, OSError) as error:
        raise describe(error, uri) from error


@looking_again
def _append(uri: str, rows: pa.Table, storage: Storage, how: Mapping[str, Any]) -> DeltaTable:
    table = shared_table(uri, rows.schema, storage, **how)
    write_deltalake(table, rows, mode="append")
    return table


def shared_table(uri: str, schema: pa.Schema, storage: Storage, **how: Any) -> DeltaTable:
    """A table that several runs write at once, at its newest version; an empty one is made where there
    is none. Of two processes that make it at once, the later one commits its metadata once more, and
    who has opened it before has to open it again (`looking_again`)."""
    try:
        return DeltaTable(uri, storage_options=storage.delta_options(uri))
    except TableNotFoundError:
        return _made(uri, storage, mode="ignore", schema=Schema.from_arrow(schema), **how)


def _made(
    uri: str, storage: Storage, *, mode: Literal["ignore", "overwrite"], **how: Any
) -> DeltaTable:
    """An empty table, or the one that another thread, or process, has made at the same time."""
    options = storage.delta_options(uri)
    with _making:
        if mode == "ignore" and uri in _made_here:
            with suppress(TableNotFoundError):
                return DeltaTable(uri, storage_options=options)
        _made_here.add(uri)
        try:
            return DeltaTable.create(uri, mode=mode, storage_options=options, **how)
        except (DeltaError, OSError) as error:
            if mode == "ignore":
                with suppress(DeltaError, OSError):
                    return DeltaTable(uri, storage_options=options)
            raise describe(error, uri) from error


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


def ensure_engine(table: DeltaTable, name: str, engine: str) -> None:
    """Raises EngineError if a table belongs to another engine."""
    owner = table.metadata().configuration.get(_ENGINE)
    if owner is not None and owner != engine:
        raise EngineError(
            f"{unquote(table.table_uri).rstrip('/')}: {name} is written by the {owner} engine, and"
            f" this run is on {engine}. A table on a shared store has one engine. Choose {owner} for"
            " it (engine in its contract, or engine.name in the settings), or, when no run of it is"
            f" left, hand it over: lakehouse hand-over {name} --to {engine}",
            permanent=True,
        )


def hand_over(table: DeltaTable, engine: str) -> None:
    """From here on the table belongs to that engine."""
    try:
        table.alter.set_table_properties({_ENGINE: engine}, raise_if_not_exists=False)
    except (DeltaError, OSError) as error:
        raise describe(error, table.table_uri) from error


def fits(
    table: DeltaTable, columns: Iterable[tuple[str, str]], partition_by: tuple[str, ...]
) -> bool:
    """Whether the table has these columns, with these types, and this layout."""
    existing = {f.name: f.type for f in pa.schema(table.schema())}
    layout = tuple(table.metadata().partition_columns)
    return layout == partition_by and all(existing.get(n) == arrow_type(t) for n, t in columns)


def ensure_layout(table: DeltaTable, partition_by: tuple[str, ...]) -> None:
    """Raises SchemaError if the table's files are laid out by other columns."""
    layout = tuple(table.metadata().partition_columns)
    if layout != partition_by:
        raise SchemaError(
            f"{table.table_uri}: laid out by {', '.join(layout) or 'nothing'}, the contract says"
            f" physicalPartition {', '.join(partition_by) or 'none'}. Give the contract a new major"
            " version and rebuild the table: move its folder away, then backfill it."
        )


def add_columns(table: DeltaTable, columns: Iterable[tuple[str, str]]) -> None:
    """Adds the columns that the table does not have yet; they are null in existing rows.

    Raises SchemaError if a column that it has is of another type: that is a breaking change, for
    which the table is rebuilt by a backfill.
    """
    existing = {f.name: f.type for f in pa.schema(table.schema())}
    wanted = [pa.field(n, arrow_type(t)) for n, t in columns]
    for f in wanted:
        if f.name in existing and pa.field(f.name, existing[f.name]).type != f.type:
            raise SchemaError(
                f"{table.table_uri}: column {f.name} is {existing[f.name]} in the table and {f.type}"
                " in the contract. Give the contract a new major version and rebuild the table:"
                " move its folder away, then backfill it."
            )
    missing = [f for f in wanted if f.name not in existing]
    if missing:
        table.alter.add_columns(Schema.from_arrow(pa.schema(missing)).fields)


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


def describe_files(
    batch: str,
    files: Mapping[str, tuple[int, pq.FileMetaData]],
    schema: Schema,
    partition_by: Iterable[str],
    concealed: frozenset[str] = frozenset(),
) -> list[AddAction]:
    """Add actions for files of a table's folder `batch`, given by their paths in there, with sizes and
    footers: row counts and bounds come from those, partition values from folders `column=value`. Of
    `concealed` texts the log gets the bounds of all texts: the true ones are values of rows. Other
    types keep theirs: an engine takes them for the least and the greatest value without a look at the
    rows."""
    types = {f.name: f.type for f in pa.schema(schema)}
    partition_by = list(partition_by)
    return [
        AddAction(
            path=f"{batch}/{path}",
            size=size,
            partition_values={c: values_in(path)[c] for c in partition_by},
            modification_time=int(time.time() * 1000),
            data_change=True,
            stats=_stats(footer, types, concealed),
        )
        for path, (size, footer) in files.items()
        if footer.num_rows
    ]


def _stats(
    metadata: pq.FileMetaData, types: Mapping[str, pa.DataType], concealed: frozenset[str]
) -> str:
    """Delta's per-file statistics, with bounds for every column that has a value: delta-rs takes a
    bound that is not there for one that no value meets, and filters rows away."""
    low: list[str] = []
    high: list[str] = []
    nulls: dict[str, int] = {}
    for i in range(metadata.num_columns):
        name = metadata.schema.column(i).path
        groups = [
            metadata.row_group(g).column(i).statistics for g in range(metadata.num_row_groups)
        ]
        if name not in types or any(s is None or not s.has_null_count for s in groups):
            continue
        nulls[name] = sum(s.null_count for s in groups)
        valued = [s for s in groups if s.num_values]
        told = name not in concealed or types[name] != pa.string()
        if bounds := _bounds(valued, types[name], told=told):
            low.append(f"{json.dumps(name)}: {_lower(bounds[0])}")
            high.append(f"{json.dumps(name)}: {_upper(bounds[1])}")
    return (
        f'{{"numRecords": {metadata.num_rows}, "minValues": {{{", ".join(low)}}},'
        f' "maxValues": {{{", ".join(high)}}}, "nullCount": {json.dumps(nulls)}}}'
    )


def _bounds(
    groups: list[pq.Statistics], type_: pa.DataType, *, told: bool
) -> tuple[Any, Any] | None:
    """The least and the greatest value of a column; those of its type where they are not to be
    `told`, or a footer does not tell them, as with very long text. None if there is no value, or
    one of a year unknown to Python."""
    if not groups:
        return None
    if told and all(s.has_min_max for s in groups):
        try:
            return min(s.min for s in groups), max(s.max for s in groups)
        except OverflowError:
            return None
    if pa.types.is_decimal(type_):
        most = Decimal(10**type_.precision - 1).scaleb(-type_.scale)
        return -most, most
    if pa.types.is_integer(type_):
        return -(2 ** (type_.bit_width - 1)), 2 ** (type_.bit_width - 1) - 1
    return {pa.string(): ("", _LAST_CHARACTER), pa.bool_(): (False, True)}.get(type_)


def _lower(value: Any) -> str:
    return _json(value[:_LONGEST_STAT] if isinstance(value, str) else value)


def _upper(value: Any) -> str:
    if isinstance(value, str) and len(value) > _LONGEST_STAT:
        value = value[:_LONGEST_STAT] + _LAST_CHARACTER
    return _json(value)


def _json(value: Any) -> str:
    """A bound as JSON; a decimal as an exact number, which no float is."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        value = value if value.tzinfo else value.replace(tzinfo=UTC)
        text = value.astimezone(UTC).isoformat(timespec="microseconds")
        return json.dumps(text.replace("+00:00", "Z"))
    return json.dumps(value.isoformat() if isinstance(value, date) else value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def removals(files: Iterable[ActiveFile]) -> list[RemoveAction]:
    """Remove actions for files of the current version."""
    now = int(time.time() * 1000)
    return [RemoveAction(f.path, True, now, f.size, dict(f.partition)) for f in files]


def commit(
    table: DeltaTable,
    adds: list[AddAction],
    removes: list[RemoveAction],
    metadata: Mapping[str, str],
) -> int:
    """Commits files to the version that `table` was opened at; returns the new version.

    A reply may be lost, or be one to a repeated request, which finds the commit there: the log is
    asked whose it is. Raises ConflictError if it is another's: the caller recomputes its batch on the
    newer version, because rows that were new may no longer be.
    """
    before = table.version()
    try:
        table.create_write_transaction(
            [*adds, *removes],
            "append",
            table.schema(),
            table.metadata().partition_columns,
            commit_properties=CommitProperties(
                custom_metadata=dict(metadata), max_commit_retries=0
            ),
            post_commithook_properties=after_commit(before + 1),
        )
    except CommitFailedError as error:
        if not _is_ours(table, before, metadata):
            raise ConflictError(
                f"{table.table_uri}: another run committed after version {before}"
            ) from error
    except (DeltaError, OSError) as error:
        if not _is_ours(table, before, metadata):
            raise describe(error, table.table_uri) from error
    else:
        table.update_incremental()
        opened.committed(table, before + 1, metadata)
    return before + 1


def after_commit(version: int) -> PostCommitHookProperties:
    """What delta-rs does after the commit of a version: it looks for expired entries of the log once
    in a while, and not each time, since it lists all of the log for that."""
    due = version % _CLEANED_EVERY == 0
    return PostCommitHookProperties(cleanup_expired_logs=None if due else False)


def _is_ours(table: DeltaTable, before: int, metadata: Mapping[str, str]) -> bool:
    """Whether the commit that follows a version is of the batch of `metadata`; no if the log does not
    say. The table is then at its newest version."""
    try:
        table.update_incremental()
        newer = table.version() - before
        commits = opened.history(table, newer) if newer else []
    except (DeltaError, OSError):
        return False
    ours = metadata["batch_id"]
    return any(c["version"] == before + 1 and c.get("batch_id") == ours for c in commits)
