"""The ledger: one row per table, partition and run. It is what was done, and what need not be
done again.

Belongs here: appending to and reading the `batches` table. Does not belong here: counting.
"""

from __future__ import annotations

import base64
import json
import zlib
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from spark_jobs.lake import delta
from spark_jobs.lake.storage import Lake, Storage, describe
from spark_jobs.report import TableReport

SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("partition", pa.string()),
        ("run_id", pa.string()),
        ("batch_id", pa.string()),
        ("status", pa.string()),
        ("started_at", pa.timestamp("us", "UTC")),
        ("seconds", pa.float64()),
        ("engine", pa.string()),
        ("contract_version", pa.string()),
        ("transform_version", pa.string()),
        ("fingerprint", pa.string()),
        ("delta_version", pa.int64()),
        # Other partitions of the table, into which records came back.
        ("revived_in", pa.list_(pa.string())),
        *[
            (name, pa.int64())
            for name in (
                "read",
                "inserted",
                "updated",
                "deleted",
                "unchanged",
                "duplicate",
                "quarantined",
                "filtered",
                "added",
                "withdrawn",
                "revived",
            )
        ],
        # The version of each table that was looked up, as JSON; null where it was not recorded.
        ("inputs", pa.string()),
        ("checks", pa.string()),
        ("error", pa.string()),
    ]
)
# The key under which a data commit carries its ledger rows.
CARRIED = "ledger"
_RACERS = 4
# Small appends add up: beyond this many files a table's part of the ledger is compacted.
_MANY_FILES = 16
_FILES_KEPT = 512
_kept: dict[tuple[str, str], pa.Table] = {}
_ledgers: dict[str, _Opened] = {}
# What there is to know of a partition without looking at what was counted and checked.
STATE = ("table", "partition", "batch_id", "status", "transform_version", "inputs", "error")


def records(report: TableReport, started_at: datetime) -> list[dict[str, Any]]:
    """The rows of a report: one for each partition with which something was done."""
    seconds = round(sum(report.seconds.values()), 3)
    return [
        {
            "table": report.table,
            "partition": p.partition,
            "run_id": report.run_id,
            "batch_id": report.batch_id,
            "status": p.status,
            "started_at": started_at,
            "seconds": seconds,
            "engine": report.engine,
            "contract_version": report.contract_version,
            "transform_version": report.transform_version,
            "fingerprint": p.fingerprint,
            "delta_version": report.delta_version,
            "revived_in": p.revived_in,
            "inputs": json.dumps(report.inputs),
            **p.counts.model_dump(),
            "checks": json.dumps([c.model_dump() for c in p.checks if not c.passed]),
            "error": p.error,
        }
        for p in report.partitions
        if p.status != "unchanged"
    ]


def carried(rows: list[dict[str, Any]]) -> str:
    """Rows as the text that a data commit carries, for a run that dies before it records them.
    Packed, since a backfill of hours has hundreds of rows, and every reader opens the log."""
    text = json.dumps([row | {"started_at": row["started_at"].isoformat()} for row in rows])
    return base64.b64encode(zlib.compress(text.encode())).decode()


def unrecorded(table: DeltaTable, recorded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that commits of a table carry and that were never recorded.

    `recorded` are the table's rows in the ledger. Only commits since the newest version in them are
    read, and a few before it, since runs that raced may have recorded each other's version.
    """
    known = {row["batch_id"] for row in recorded}
    newest = max((row["delta_version"] or 0 for row in recorded), default=0)
    out = []
    for commit in reversed(table.history(table.version() - newest + _RACERS)):
        if CARRIED in commit and commit["batch_id"] not in known:
            for row in json.loads(zlib.decompress(base64.b64decode(commit[CARRIED]))):
                started_at = datetime.fromisoformat(row["started_at"])
                out.append(row | {"started_at": started_at, "delta_version": commit["version"]})
    return out


def changes(row: dict[str, Any]) -> bool:
    """Whether a batch changed what readers see of its table; a batch that found all rows as they
    were makes nothing downstream stale."""
    names = ("inserted", "updated", "deleted", "added", "withdrawn", "revived")
    return any(row[name] for name in names)


def versions(table: DeltaTable, batches: Sequence[Mapping[str, Any]]) -> list[int]:
    """The versions of a table that some of its recorded batches committed, as far as its log goes
    back. Not what the records say: runs that raced may have recorded each other's version."""
    if not batches:
        return []
    wanted = {row["batch_id"] for row in batches}
    oldest = min(row["delta_version"] or 0 for row in batches)
    commits = table.history(table.version() - oldest + _RACERS)
    return sorted(c["version"] for c in commits if c.get("batch_id") in wanted)


def append(lake: Lake, rows: list[dict[str, Any]]) -> None:
    """Records rows of one table, in one commit."""
    uri = lake.ledger("batches")
    options = lake.storage.delta_options(uri)
    try:
        write_deltalake(
            uri,
            pa.Table.from_pylist(rows, schema=SCHEMA),
            mode="append",
            schema_mode="merge",
            partition_by=["table"],
            storage_options=options,
        )
    except (DeltaError, OSError) as error:
        raise describe(error, uri) from error
    compact(DeltaTable(uri, storage_options=options), rows[0]["table"])


def compact(table: DeltaTable, name: str) -> None:
    """Compacts one table's part of a table of the ledger, if it has many files."""
    if len(table.file_uris(file_pruning_predicate=[("table", "=", name)])) <= _MANY_FILES:
        return
    try:
        table.optimize.compact(partition_filters=[("table", "=", name)])
    except CommitFailedError:
        # Another run is compacting the same files; one of the two is enough.
        return


def history(lake: Lake, table: str | None = None) -> pa.Table:
    """Every record of a table (or of all), oldest first; empty if nothing ever ran."""
    return _once(_rows(lake, [table] if table else None))


def newest(lake: Lake) -> list[dict[str, Any]]:
    """The newest record of each partition of every table, oldest first, as far as STATE goes."""
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for row in _rows(lake, columns=(*STATE, "started_at")).select(STATE).to_pylist():
        key = (row["table"], row["partition"])
        last.pop(key, None)
        last[key] = row
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
    opened = _opened(lake)
    parts = [] if opened is None else opened.parts
    wanted = {path: of for path, of in parts if tables is None or of in tables}
    if opened is None or not wanted:
        return schema.empty_table()
    if columns is None:
        read = _read_once(opened.table, lake.storage, list(wanted))
    else:
        kept = [c for c in columns if c != "table"]
        read = delta.read_files(opened.table, lake.storage, list(wanted), kept)
    rows = [_complete(part, of, schema) for part, of in zip(read, wanted.values(), strict=True)]
    return pa.concat_tables(rows).sort_by("started_at")


@dataclass
class _Opened:
    """The ledger at a version; `parts` are its data files, each with the table that it tells of."""

    table: DeltaTable
    version: int
    seal: tuple[int, int] | None
    parts: list[tuple[str, str]]

    @classmethod
    def of(cls, table: DeltaTable, storage: Storage) -> _Opened:
        seal = delta.seal(table, storage)
        return cls(table, table.version(), seal, delta.files_by(table, "table"))


def _opened(lake: Lake) -> _Opened | None:
    """The ledger at its newest version; None if there is none.

    Every batch commits to it, and every table asks it. A process opens it once and then reads the
    commits that were added, as long as they were added to the log that it has read.
    """
    uri = lake.ledger("batches")
    known = _ledgers.get(uri)
    sealed = None if known is None else delta.seal(known.table, lake.storage)
    if known is not None and sealed is not None and sealed == known.seal:
        known.table.update_incremental()
        if known.table.version() == known.version:
            return known
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
        if len(_kept) + len(new) > _FILES_KEPT:
            _kept.clear()
        _kept.update({(table.table_uri, path): known[path] for path in new})
    return list(known.values())


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


def _once(rows: pa.Table) -> pa.Table:
    """Each record once: a run that was slow, and not dead, may have been recorded by another too."""
    keys = zip(
        *(rows.column(n).to_pylist() for n in ("table", "batch_id", "partition")), strict=True
    )
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    return rows if len(first) == rows.num_rows else rows.take(sorted(first.values()))


def of_tables(lake: Lake, tables: list[str]) -> list[dict[str, Any]]:
    """What was published by some tables, oldest first, without checks and errors."""
    rows = _rows(lake, tables).drop_columns(["checks", "error"]) if tables else pa.table({})
    out: list[dict[str, Any]] = rows.to_pylist()
    return out


def latest(lake: Lake, table: str) -> dict[str, dict[str, Any]]:
    """The newest record of each partition of a table."""
    return {row["partition"]: row for row in history(lake, table).to_pylist()}


def earlier_reads(rows: Iterable[dict[str, Any]], before: str, last: int = 7) -> list[int]:
    """Rows read by the `last` partitions that precede `before`, for volume comparison."""
    sizes = {r["partition"]: r["read"] for r in rows if r["partition"] < before and r["read"]}
    return [sizes[p] for p in sorted(sizes)[-last:]]


def now() -> datetime:
    return datetime.now(UTC)
