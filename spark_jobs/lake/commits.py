"""Committing data files to a table of the lake.

Every commit of a batch goes through `commit`, on every engine: the engine writes Parquet files, the
log entry is made here, by delta-rs, against the version that the batch was computed from. A
concurrent commit therefore always surfaces as ConflictError, never as a lost update.

Belongs here: what the log says of a file, and the commit itself. Does not belong here: what a batch
means (publish.py), or opening a table (delta.py).
Protocol: https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from spark_jobs.errors import ConflictError
from spark_jobs.lake import opened
from spark_jobs.lake.delta import ActiveFile, values_in
from spark_jobs.lake.storage import Storage, describe

# Bounds of longer strings are cut, the upper one made greater than whatever begins like it.
_LONGEST_STAT = 64
_LAST_CHARACTER = "\U0010ffff"
_CLEANED_EVERY = 10


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


def removals(files: Iterable[ActiveFile]) -> list[RemoveAction]:
    """Remove actions for files of the current version."""
    now = int(time.time() * 1000)
    return [RemoveAction(f.path, True, now, f.size, dict(f.partition)) for f in files]


def commit(
    table: DeltaTable,
    storage: Storage,
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
        opened.renew(table, storage)
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
