"""Making a table of the lake, and changing what it is: its columns, its layout, the engine that owns it.

Belongs here: an empty table, also one that several runs make and append to at once, and whether one
that is there fits. Does not belong here: its rows (delta.py), or commits of batches (commits.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import unquote

import pyarrow as pa
import tenacity
from deltalake import DeltaTable, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from spark_jobs.errors import EngineError, SchemaError
from spark_jobs.lake import opened
from spark_jobs.lake.delta import arrow_type
from spark_jobs.lake.storage import Storage, describe

# The property of a table that names the engine whose files it takes.
_ENGINE = "lakehouse.engine"
# On a shared store: whoever opens a table asks for each commit since its last checkpoint by itself.
_SHARED = {"delta.checkpointInterval": "10"}

looking_again = tenacity.retry(
    retry=tenacity.retry_if_exception_type(CommitFailedError),
    stop=tenacity.stop_after_attempt(12),
    wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=5),
    reraise=True,
)
"""For a write that another one got in the way of: from opening the table on, once more."""
_making = threading.Lock()
_made_here: set[str] = set()


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
