"""The ledger: one row per table, partition and run. It is what was done, and what need not be
done again.

Belongs here: appending to and reading the `batches` table, and what a row is there. Does not belong
here: counting, or a row as a value (row.py).
"""

from __future__ import annotations

import base64
import json
import zlib
from array import array
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from spark_jobs.lake import commits, delta, making, opened
from spark_jobs.lake.row import LedgerRow, PartitionState
from spark_jobs.lake.storage import Lake, Storage, describe

R = TypeVar("R", bound=PartitionState)

# How each field of a row is kept, by its type; what stands for a field that a row is older than.
_KEPT_AS = {
    "str": pa.string(),
    "Status": pa.string(),
    "int": pa.int64(),
    "int | None": pa.int64(),
    "float": pa.float64(),
    "datetime": pa.timestamp("us", "UTC"),
    "tuple[str, ...]": pa.list_(pa.string()),
}
_ABSENT: dict[str, Any] = {"str": "", "int": 0, "tuple[str, ...]": ()}
_FIELDS = {f.name: str(f.type) for f in fields(LedgerRow)}
SCHEMA = pa.schema([(name, _KEPT_AS[type_]) for name, type_ in _FIELDS.items()])
# The key under which a data commit carries its ledger rows.
CARRIED = "ledger"
_RACERS = 4
# Small appends add up: beyond this many files a table's part of the ledger is compacted.
_MANY_FILES = 16
_FILES_KEPT = 512
_kept: dict[tuple[str, str], pa.Table] = {}
_ledgers: dict[str, _Opened] = {}
STATE = tuple(f.name for f in fields(PartitionState))


def carried(rows: list[LedgerRow]) -> str:
    """Rows as the text that a data commit carries, for a run that dies before it records them.
    Packed, since a backfill of hours has hundreds of rows, and every reader opens the log."""
    text = json.dumps([_values(row) | {"started_at": row.started_at.isoformat()} for row in rows])
    return base64.b64encode(zlib.compress(text.encode())).decode()


def _unpacked(text: str) -> list[LedgerRow]:
    """The rows that a commit carries; a commit may be older than some columns of the ledger."""
    out = []
    for values in json.loads(zlib.decompress(base64.b64decode(text))):
        values["started_at"] = datetime.fromisoformat(values["started_at"])
        values["revived_in"] = tuple(values.get("revived_in") or ())
        out.append(LedgerRow(**{n: _or_absent(values.get(n), of) for n, of in _FIELDS.items()}))
    return out


def _values(row: LedgerRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _FIELDS}


def _or_absent(value: Any, of: str) -> Any:
    return _ABSENT.get(of) if value is None else value


def to_arrow(rows: list[LedgerRow]) -> pa.Table:
    return pa.Table.from_pylist([_values(row) for row in rows], schema=SCHEMA)


def of_arrow(rows: pa.Table, kind: type[R]) -> list[R]:
    """Rows as values; of a PartitionState only its columns are looked at."""
    columns = []
    for f in fields(kind):
        values = rows.column(f.name).to_pylist()
        if f.name == "revived_in":
            values = [tuple(v or ()) for v in values]
        elif None in values:
            values = [_or_absent(v, str(f.type)) for v in values]
        columns.append(values)
    return list(map(kind, *columns))


def unrecorded(table: DeltaTable, recorded: list[LedgerRow]) -> list[LedgerRow]:
    """The rows that commits of a table carry and that were never recorded.

    `recorded` are the table's rows in the ledger. Only commits since the newest version in them are
    read, and a few before it, since runs that raced may have recorded each other's version.
    """
    known = {row.batch_id for row in recorded}
    newest = max((row.delta_version or 0 for row in recorded), default=0)
    out = []
    for commit in reversed(opened.history(table, _since(table, newest))):
        if CARRIED in commit and commit["batch_id"] not in known:
            rows = _unpacked(commit[CARRIED])
            out += [replace(row, delta_version=commit["version"]) for row in rows]
    return out


def versions(table: DeltaTable, batches: list[LedgerRow]) -> list[int]:
    """The versions of a table that some of its recorded batches committed, as far as its log goes
    back. Not what the records say: runs that raced may have recorded each other's version."""
    if not batches:
        return []
    wanted = {row.batch_id for row in batches}
    oldest = min(row.delta_version or 0 for row in batches)
    history = opened.history(table, _since(table, oldest))
    return sorted(c["version"] for c in history if c.get("batch_id") in wanted)


def _since(table: DeltaTable, version: int) -> int:
    """How many commits of a table there may be since a version. All of them, where the table has
    been built anew since: then its versions are fewer."""
    newer = table.version() - version + _RACERS
    return newer if newer > 0 else table.version() + 1


def append(lake: Lake, rows: list[LedgerRow]) -> None:
    """Records rows of one table, in one commit."""
    uri = lake.ledger("batches")
    # As this run has seen it: whoever appends commits after whatever others have appended since.
    known = _ledgers.get(uri) or _known(lake)
    added = to_arrow(rows)
    if known is None:
        table = making.append(uri, added, lake.storage, partition_by=["table"])
    else:
        table = known.table
        try:
            opened.renew(table, lake.storage)
            write_deltalake(
                table,
                added,
                mode="append",
                schema_mode="merge",
                post_commithook_properties=commits.after_commit(known.version + 1),
            )
        except (DeltaError, OSError) as error:
            raise describe(error, uri) from error
        _keep_own(known, added)
    compact(table, rows[0].table)
    _ledgers[uri] = _Opened.of(table, lake.storage)


def _keep_own(before: _Opened, added: pa.Table) -> None:
    """Keeps what was appended, as if it had been read: the one file that is new, if nobody else has
    committed meanwhile."""
    table = before.table
    new = dict(delta.files_by(table, "table")).keys() - dict(before.parts).keys()
    if table.version() == before.version + 1 and len(new) == 1:
        _keep({(table.table_uri, new.pop()): added.drop_columns(["table"])})


def compact(table: DeltaTable, name: str) -> None:
    """Compacts one table's part of a table of the ledger, if it has many files."""
    if len(table.file_uris(file_pruning_predicate=[("table", "=", name)])) <= _MANY_FILES:
        return
    try:
        table.optimize.compact(partition_filters=[("table", "=", name)])
    except CommitFailedError:
        # Another run is compacting the same files; one of the two is enough.
        return


def history(lake: Lake, table: str | None = None) -> list[LedgerRow]:
    """Every row of a table (or of all), oldest first; none if nothing ever ran."""
    return once(of_arrow(_rows(lake, [table] if table else None), LedgerRow))


def newest(lake: Lake) -> list[PartitionState]:
    """The state of each partition of every table, from its newest row; oldest first."""
    rows = _rows(lake, columns=(*STATE, "started_at"))
    last: dict[tuple[str, str], PartitionState] = {}
    for state in of_arrow(rows, PartitionState):
        key = (state.table, state.partition)
        last.pop(key, None)
        last[key] = state
    return list(last.values())


def revived(lake: Lake) -> set[str]:
    """The tables of which a batch brought records back into a window."""
    rows = _rows(lake, columns=("table", "revived_in", "started_at"))
    of_each = zip(
        rows.column("table").to_pylist(), rows.column("revived_in").to_pylist(), strict=True
    )
    return {table for table, came_back in of_each if came_back}


def _rows(
    lake: Lake, tables: Collection[str] | None = None, columns: tuple[str, ...] | None = None
) -> pa.Table:
    """The rows of some tables, or of all, oldest first; those columns, or all.

    File by file, and not as a data set: to describe one takes longer than to read these files.
    """
    schema = pa.schema([f for f in SCHEMA if columns is None or f.name in columns])
    known = _known(lake)
    parts = [] if known is None else known.parts
    wanted = {path: of for path, of in parts if tables is None or of in tables}
    if known is None or not wanted:
        return schema.empty_table()
    if columns is None:
        read = _read_once(known.table, lake.storage, list(wanted))
    else:
        kept = [c for c in columns if c != "table"]
        read = delta.read_files(known.table, lake.storage, list(wanted), kept)
    rows = [_complete(part, of, schema) for part, of in zip(read, wanted.values(), strict=True)]
    return pa.concat_tables(rows).sort_by("started_at")


@dataclass
class _Opened:
    """The ledger at a version; `parts` are its data files, each with the table that it tells of."""

    table: DeltaTable
    version: int
    seal: opened.Seal | None
    parts: list[tuple[str, str]]

    @classmethod
    def of(cls, table: DeltaTable, storage: Storage) -> _Opened:
        seal = opened.seal(table, storage)
        return cls(table, table.version(), seal, delta.files_by(table, "table"))


def _known(lake: Lake) -> _Opened | None:
    """The ledger at its newest version; None if there is none.

    Every batch commits to it, and every table asks it. A process opens it once and then reads the
    commits that were added, as long as they were added to the log that it has read.
    """
    uri = lake.ledger("batches")
    known = _ledgers.get(uri)
    now = None if known is None else opened.tip(known.table, lake.storage)
    if known is not None and now is not None and now.seal is not None and now.seal == known.seal:
        if not now.newer:
            return known
        opened.update(known.table, lake.storage)
        found: DeltaTable | None = known.table
    else:
        found = delta.open_table(uri, lake.storage)
    if found is None:
        _ledgers.pop(uri, None)
        return None
    _ledgers[uri] = _Opened.of(found, lake.storage)
    return _ledgers[uri]


def _read_once(table: DeltaTable, storage: Storage, paths: list[str]) -> list[pa.Table]:
    """Data files of a ledger. One never changes, so that a process reads each of them once,
    whatever is committed in between."""
    known = {path: _kept.get((table.table_uri, path)) for path in paths}
    new = [path for path, rows in known.items() if rows is None]
    if new:
        known.update(zip(new, delta.read_files(table, storage, new), strict=True))
        _keep({(table.table_uri, path): known[path] for path in new})
    return list(known.values())


def _keep(files: dict[tuple[str, str], pa.Table]) -> None:
    if len(_kept) + len(files) > _FILES_KEPT:
        _kept.clear()
    _kept.update(files)


def _complete(rows: pa.Table, table: str, schema: pa.Schema) -> pa.Table:
    """The rows of a file of one table, which may be older than some columns of the ledger."""
    columns = [
        _repeated(table, rows.num_rows)
        if f.name == "table"
        else _cast(rows.column(f.name), f.type)
        if f.name in rows.column_names
        else pa.nulls(rows.num_rows, f.type)
        for f in schema
    ]
    return pa.table(columns, schema=schema)


def _repeated(text: str, times: int) -> pa.Array:
    """As pa.repeat, which brings pandas."""
    value = text.encode()
    ends = array("i", range(0, (times + 1) * len(value), len(value)))
    return pa.StringArray.from_buffers(times, pa.py_buffer(ends), pa.py_buffer(value * times))


def _cast(values: pa.ChunkedArray, to: pa.DataType) -> pa.ChunkedArray:
    return values if values.type == to else values.cast(to)


def of_tables(lake: Lake, tables: list[str]) -> list[LedgerRow]:
    """The rows of some tables, oldest first, as they were recorded: runs that raced may have
    recorded one twice."""
    return of_arrow(_rows(lake, tables), LedgerRow) if tables else []


def once(rows: Iterable[LedgerRow]) -> list[LedgerRow]:
    """Each record once: a run that was slow, and not dead, may have been recorded by another too."""
    found: dict[tuple[str, str, str], LedgerRow] = {}
    for row in rows:
        found.setdefault((row.table, row.batch_id, row.partition), row)
    return list(found.values())


def latest(lake: Lake, table: str) -> dict[str, LedgerRow]:
    """The newest row of each partition of a table."""
    return {row.partition: row for row in history(lake, table)}


def earlier_reads(reads: Iterable[tuple[str, int]], before: str, last: int = 7) -> list[int]:
    """Rows read by the `last` partitions that precede `before`, for volume comparison; `reads` are
    partitions with the rows that they read, oldest first."""
    sizes = {p: n for p, n in reads if p < before and n}
    return [sizes[p] for p in sorted(sizes)[-last:]]


def now() -> datetime:
    return datetime.now(UTC)
