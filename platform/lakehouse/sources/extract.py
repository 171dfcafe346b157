"""One extraction: the rows of a partition from a source into landing, and how far that reaches.

Belongs here: the order of the steps, which a crash between any two of them leaves repairable. Does not
belong here: a source, a format (files.py), or a store of positions (cursors.py).

    claim the position -> files -> manifest -> position

Files that no manifest lists do not count. A manifest whose position was never stored is found by the
next extraction, which goes on from there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from lakehouse.sources.cursors import Cursor, Cursors, ensure_current
from lakehouse.sources.files import Folder, batch_rows, records
from lakehouse.sources.source import Meter, Source
from spark_jobs.lake import manifest as manifests
from spark_jobs.lake.manifest import Manifest
from spark_jobs.window import Window

if TYPE_CHECKING:
    from lakehouse.sources.source import Batch
    from spark_jobs.contract.source import Source as Declared
    from spark_jobs.lake.storage import Storage

SINCE, UNTIL, PARTITION = "since", "until", "partition"
_DIGEST = 16


@dataclass(frozen=True)
class Dataset:
    """A dataset of landing, and the source that it is extracted from."""

    source: Source
    declared: Declared
    columns: tuple[str, ...]
    storage: Storage
    landing: str
    overlap: timedelta = timedelta(0)

    @property
    def name(self) -> str:
        return self.declared.dataset

    def folder(self, partition: str) -> Folder:
        uri = f"{self.landing}/{self.name}/{partition}"
        return Folder(self.storage, uri, self.declared, self.columns)


@dataclass(frozen=True)
class Extracted:
    """What became of a partition. `known` are rows that an earlier extraction had landed; `landed` is
    false if there was nothing to do."""

    partition: str
    landed: bool
    manifest: Manifest
    rows: int = 0
    known: int = 0
    bytes: int = 0
    seconds: float = 0.0
    meter: Meter = field(default_factory=Meter)


def extract(
    dataset: Dataset,
    partition: str,
    cursors: Cursors,
    now: datetime,
    *,
    again: bool = False,
    full: bool = False,
) -> Extracted:
    """Lands what a partition does not have yet: the rows up to the end of its window, or up to now.
    Without anything before it, those are all rows that there are.

    `again` lands a partition anew, `full` with all rows up to its end; its manifest then lists the new
    files alone. Raises ConflictError if another extraction of the dataset has begun meanwhile.
    """
    began, meter = time.monotonic(), Meter()
    window, folder = Window.of(partition), dataset.folder(partition)
    until = min(window.end, now)
    cursor = _repaired(dataset, cursors)
    before = manifests.read(dataset.storage, folder.uri)
    done = before if before is not None and before.positions is not None else None
    if done and not (again or full) and _time(done, UNTIL) >= until:
        return Extracted(partition, False, done)
    claimed = cursors.advance(cursor, cursor.positions)
    if before is None:
        manifests.write(dataset.storage, folder.uri, Manifest())  # from here on it says what counts
    span = _span(dataset, cursor, window, until, done, again=again, full=full)
    pull = _Pull(dataset, span, _seen(dataset, cursor, window, span))
    first, last = _said(span.since), _said(span.until)
    files = folder.write(pull.rows(meter), _stem(span), first, last)
    tail = pull.write_tail(folder)
    ensure_current(cursors, claimed)
    if done and span.goes_on:
        whole = Manifest((*done.files, *files), {SINCE: _said(_since(done)), UNTIL: last}, tail)
    else:
        whole = Manifest(tuple(files), {SINCE: first, UNTIL: last}, tail)
    manifests.write(dataset.storage, folder.uri, whole)
    if not cursor.positions or span.until > _reached(cursor):
        cursors.advance(claimed, {UNTIL: last, PARTITION: partition})
    rows, size = sum(f.rows for f in files), sum(f.bytes for f in files)
    seconds = time.monotonic() - began
    return Extracted(partition, True, whole, rows, pull.known, size, seconds, meter)


@dataclass(frozen=True)
class _Span:
    """The time that is asked for. `goes_on`: the partition's files stay, and new ones follow them."""

    since: datetime | None
    until: datetime
    goes_on: bool


def _span(
    dataset: Dataset,
    cursor: Cursor,
    window: Window,
    until: datetime,
    done: Manifest | None,
    *,
    again: bool,
    full: bool,
) -> _Span:
    reads = dataset.source.reads
    if reads == "window":
        return _Span(window.start, until, False)
    if reads == "all" or full:
        return _Span(None, until, False)
    if done and not again:
        return _Span(_time(done, UNTIL), until, True)
    if done:  # what came in addition then, because nobody had asked for a while, comes again
        since = _since(done)
        return _Span(min(since, window.start) if since else None, until, False)
    if not cursor.positions:
        return _Span(None, until, False)
    return _Span(min(window.start, _reached(cursor)), until, False)


class _Pull:
    """The rows of a span, without those that were landed before; remembers those at its end."""

    def __init__(self, dataset: Dataset, span: _Span, seen: frozenset[bytes]) -> None:
        self._dataset, self._span, self._seen = dataset, span, seen
        self._tail: set[bytes] = set()
        self.known = 0

    def rows(self, meter: Meter) -> Iterator[Batch]:
        source, since = self._dataset.source, self._span.since
        asked = since - self._dataset.overlap if since and source.reads == "changes" else since
        for batch in source.pull(asked, self._span.until, meter):
            fresh = self._fresh(batch) if source.changed else batch
            if batch_rows(fresh):
                yield fresh

    def _fresh(self, batch: Batch) -> Batch:
        """Leaves out what the pull before this one has landed."""
        column = str(self._dataset.source.changed)
        since, end = self._span.since, self._span.until - self._dataset.overlap
        changed = [instant(v) for v in _values(batch, column)]
        edges = [
            i for i, at in enumerate(changed) if at >= end or (since is not None and at < since)
        ]
        if not edges:
            return batch
        known = set()
        for i, row in zip(edges, records(_rows(batch, edges)), strict=True):
            digest = _digest(row)
            if changed[i] >= end:
                self._tail.add(digest)
            if since is not None and changed[i] < since and digest in self._seen:
                known.add(i)
        self.known += len(known)
        return _rows(batch, [i for i in range(len(changed)) if i not in known]) if known else batch

    def write_tail(self, folder: Folder) -> str | None:
        """Keeps what tells rows of the end of this span from those that are committed late."""
        if not self._tail:
            return None
        content = b"".join(sorted(self._tail))
        name = f"_tail-{hashlib.sha256(content).hexdigest()[:16]}"
        folder.storage.write(f"{folder.uri}/{name}", [content])
        return name


def _seen(dataset: Dataset, cursor: Cursor, window: Window, span: _Span) -> frozenset[bytes]:
    """The digests of the rows that the pull which ended where this span begins has landed there."""
    if dataset.source.changed is None or span.since is None or not dataset.overlap:
        return frozenset()
    previous = Window(window.start - (window.end - window.start), window.scheme)
    for key in dict.fromkeys([window.key, cursor.positions.get(PARTITION, ""), previous.key]):
        folder = dataset.folder(key).uri
        found = manifests.read(dataset.storage, folder) if key else None
        if found and found.tail and found.positions and _time(found, UNTIL) == span.since:
            fs, path = dataset.storage.filesystem(f"{folder}/{found.tail}")
            with fs.open_input_file(path) as stream:
                content = stream.read()
            return frozenset(content[i : i + _DIGEST] for i in range(0, len(content), _DIGEST))
    return frozenset()


def _repaired(dataset: Dataset, cursors: Cursors) -> Cursor:
    """The cursor, advanced to what has landed if a crash has kept it from that."""
    cursor = cursors.read(dataset.name)
    at = cursor.positions.get(PARTITION, "")
    keys = dataset.storage.folders(f"{dataset.landing}/{dataset.name}")
    for key in sorted((k for k in keys if k >= at and not k.startswith((".", "_"))), reverse=True):
        found = manifests.read(dataset.storage, dataset.folder(key).uri)
        if found is None or found.positions is None:
            continue
        if not cursor.positions or _time(found, UNTIL) > _reached(cursor):
            return cursors.advance(cursor, {UNTIL: found.positions[UNTIL], PARTITION: key})
        break
    return cursor


def _reached(cursor: Cursor) -> datetime:
    return datetime.fromisoformat(cursor.positions[UNTIL])


def _time(manifest: Manifest, which: str) -> datetime:
    return datetime.fromisoformat((manifest.positions or {})[which])


def _since(manifest: Manifest) -> datetime | None:
    said = (manifest.positions or {})[SINCE]
    return datetime.fromisoformat(said) if said else None


def _said(at: datetime | None) -> str:
    return at.isoformat() if at else ""


def _stem(span: _Span) -> str:
    first = f"{span.since:%Y%m%dT%H%M%S}" if span.since else "all"
    return f"{first}-{span.until:%Y%m%dT%H%M%S}"


def instant(value: Any) -> datetime:
    """A time of change, as text with its offset or as Arrow has it. Raises ValueError without one."""
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise ValueError("a row says no time of its last change, with an offset from UTC")
    return at


def _values(batch: Batch, column: str) -> list[Any]:
    if isinstance(batch, Sequence):
        return [row[column] for row in batch]
    return batch.column(column).to_pylist()


def _rows(batch: Batch, at: list[int]) -> Any:
    """Some rows of a batch, as a batch of the same kind."""
    return [batch[i] for i in at] if isinstance(batch, Sequence) else batch.take(at)


def _digest(row: Mapping[str, Any]) -> bytes:
    text = repr(sorted(row.items()))
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST).digest()
