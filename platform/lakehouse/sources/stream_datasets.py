"""The streams that an environment drains, each with its place in landing.

Belongs here: putting a contract, a connection and a protocol together, and what can be done with a
stream. Does not belong here: the protocols (kinesis/, kafka/), or draining (streams/).
"""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lakehouse.sources.cursors import Cursors, cursors_of
from lakehouse.sources.registry import drained
from lakehouse.sources.streams.drain import Drained, Shard, age, drain, iso
from lakehouse.sources.streams.form import Form
from lakehouse.sources.streams.positions import STREAM, Position, Progress
from lakehouse.sources.streams.silence import beginning, passed, read_through
from lakehouse.sources.streams.stream import OpenStream, Stream
from spark_jobs import quoting
from spark_jobs.contract.model import Contract
from spark_jobs.contract.source import Stream as Declared
from spark_jobs.errors import InputError
from spark_jobs.lake import manifest
from spark_jobs.lake.manifest import Manifest
from spark_jobs.stream_records import StreamRecord
from spark_jobs.window import Window

if TYPE_CHECKING:
    from lakehouse.settings.model import Settings
    from lakehouse.settings.operations import PartitionSettings
    from spark_jobs.lake.storage import Storage
    from spark_jobs.window import Scheme


@dataclass(frozen=True)
class Lag:
    """What a shard has that has not landed: for how many seconds its oldest record waits, 0 if there is
    none, and how many there are, where the stream tells."""

    shard: str
    seconds: float
    records: int | None


@dataclass(frozen=True)
class LandingFiles:
    """The folder of a dataset."""

    storage: Storage
    uri: str

    def write(self, partition: str, name: str, blocks: Iterable[bytes]) -> None:
        """Writes what is not there yet. That the partition has nothing is not said any more then."""
        folder = f"{self.uri}/{partition}"
        if not self.storage.exists(f"{folder}/{name}"):
            self.storage.write(f"{folder}/{name}", blocks)
        self._withdraw_nothing(folder)

    def answer_with_nothing(self, window: Window) -> bool:
        """Says that a partition has no rows, unless there is something; returns whether it has none."""
        folder = f"{self.uri}/{window.key}"
        if found := self._found(folder):
            return found == {manifest.NAME}
        span = {"since": window.start.isoformat(), "until": window.end.isoformat()}
        manifest.write(self.storage, folder, Manifest(positions=span))
        # A drain that was overtaken may write here all the same. Each of the two looks after it has
        # written, so the later one sees the other.
        if self._found(folder) != {manifest.NAME}:
            self._withdraw_nothing(folder)
            return False
        return True

    def _found(self, folder: str) -> set[str]:
        files, folders = self.storage.listing(folder, manifest.NAME)
        return {*folders, *(file.name for file in files)}

    def _withdraw_nothing(self, folder: str) -> None:
        with suppress(FileNotFoundError):  # another shard's file, as late as this one, was quicker
            said = manifest.read(self.storage, folder)
            if said is not None and not said.files:
                self.storage.remove_file(f"{folder}/{manifest.NAME}")


@dataclass(frozen=True)
class StreamDataset:
    """A dataset that is a stream. `partitions` says which days have any; all have by default."""

    declared: Declared
    stream: Stream
    scheme: Scheme
    cursors: Cursors
    files: LandingFiles
    partitions: PartitionSettings | None = None

    @property
    def name(self) -> str:
        return self.declared.dataset

    def drain(self) -> Drained:
        """Lands what there is up to now. Raises InputError if something is gone that was not read."""
        stream = self.stream.open()
        progress = Progress.of(self.cursors, self.name, stream.created)
        stream.refuse_gap(progress.positions)
        form = Form(self.scheme, {str(of): name for of, name in self.declared.fields.items()})
        if not progress.unanswered:
            progress.answer(self._beginning(stream, progress.positions))
        done = drain(stream.shards, progress, self.files, form, self.stream.dead_letters)
        done.silent = self._answer_silence(stream.shards, progress)
        return done

    def _beginning(self, stream: OpenStream, positions: Mapping[str, Position]) -> str:
        """The first window that is answered if nothing arrived in it: since the last drain, or since the
        oldest record there is."""
        known = [p.through for p in positions.values() if p.through]
        if not positions:
            known = [r.arrived for s in stream.shards if (r := _oldest(s, None))]
        whole = stream.whole and not positions
        return beginning(known, datetime.now(UTC), self.scheme, whole=whole)

    def _answer_silence(self, shards: Iterable[Shard], progress: Progress) -> list[str]:
        """Answers windows that are over and of which nothing has landed; then stores that it has."""
        through = read_through(shards, progress.positions)
        over = list(passed(progress.unanswered, through, self.scheme)) if through else []
        silent = [w.key for w in over if self._exists(w) and self.files.answer_with_nothing(w)]
        if over:
            progress.answer(over[-1].following.key)
        return silent

    def _exists(self, window: Window) -> bool:
        days, day = self.partitions, window.start.date()
        return days is None or (days.start <= day and (days.end is None or day < days.end))

    def lag(self) -> list[Lag]:
        """What has not landed, by shard. A shard whose parents have not is left to them."""
        stream = self.stream.open(glance=True)
        positions = self._positions(stream)
        todo = {s.name: s for s in stream.shards if not positions.get(s.name, Position()).ended}
        return [
            _lag(shard, positions.get(name, Position()).after)
            for name, shard in todo.items()
            if not todo.keys() & set(shard.parents)
        ]

    def tail(
        self, count: int, shard: str | None = None, *, landed: bool = False
    ) -> list[StreamRecord]:
        """The newest records that have not landed; with `landed`, of all that the stream still has."""
        stream = self.stream.open()
        positions = {} if landed else self._positions(stream)
        found = (
            record
            for each in stream.shards
            if shard in (None, each.name) and not positions.get(each.name, Position()).ended
            for batch in each.read(positions.get(each.name, Position()).after)
            for record in batch.records
        )
        return sorted(deque(found, count), key=lambda record: record.arrived)

    def put(self, data: bytes, key: str) -> tuple[str, str]:
        """Sends a record; returns its shard and position."""
        return self.stream.put(data, key)

    def again(self) -> tuple[str, int | None]:
        """What a reset has land once more: everything since the oldest record that the stream has, and
        how many that are, where it tells."""
        shards = self.stream.open(glance=True).shards
        lags = [_lag(shard, None) for shard in shards]
        oldest = max((lag.seconds for lag in lags), default=0.0)
        counts = [lag.records for lag in lags if lag.records is not None]
        since = iso(datetime.now(UTC) - timedelta(seconds=oldest)) if oldest else ""
        return since, sum(counts) if counts else None

    def reset(self) -> None:
        """Forgets how far the stream has landed: the next drain begins at its oldest record."""
        cursor = self.cursors.read(self.name)
        self.cursors.advance(cursor, {STREAM: cursor.positions.get(STREAM, "")})

    def _positions(self, stream: OpenStream) -> dict[str, Position]:
        return Progress.of(self.cursors, self.name, stream.created).positions


def _lag(shard: Shard, after: str | None) -> Lag:
    oldest = _oldest(shard, after)
    return Lag(shard.name, age(oldest) if oldest else 0.0, shard.waiting(after))


def _oldest(shard: Shard, after: str | None) -> StreamRecord | None:
    """The first record that follows one, if there is any."""
    for batch in shard.read(after) if shard.waiting(after) != 0 else ():
        if batch.records:
            return batch.records[0]
    return None


class Streams:
    """The streams of an environment by dataset. None is connected to before it is used."""

    def __init__(self, settings: Settings, contracts: Mapping[str, Contract]) -> None:
        self._settings = settings
        self.readers = drained(settings, contracts)

    def __getitem__(self, dataset: str) -> StreamDataset:
        if dataset not in self.readers:
            raise InputError(
                f"{dataset}: no stream that is drained in {self._settings.environment}; there are"
                f" {quoting.names(list(self.readers)) or 'none'}. Give its kind of source a connection"
                " in the settings (sources)."
            )
        contract, settings = self.readers[dataset][0], self._settings
        declared = contract.delivered
        assert isinstance(declared, Declared) and contract.partitioning
        kind = importlib.import_module(f"lakehouse.sources.{declared.kind}.connection")
        stream = kind.stream(settings.sources.connection(declared.kind), declared)
        files = LandingFiles(settings.storage, f"{settings.zones['landing']}/{dataset}")
        cursors, days = cursors_of(settings), settings.partitions
        return StreamDataset(declared, stream, contract.partitioning, cursors, files, days)
