"""A bounded drain: what a stream has from where the last one ended up to now lands, each record once.

Belongs here: the order of shards, writing their records, and advancing positions. Does not belong
here: how a stream is asked (kinesis/, kafka/), how records become files (form.py), or what follows (the
landing asset).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from typing import Protocol

from lakehouse.sources.streams.form import Form, Held
from lakehouse.sources.streams.positions import Position, Progress
from spark_jobs.stream_records import StreamRecord

_SHARDS_AT_ONCE = 8


@dataclass(frozen=True)
class Batch:
    """Records of a shard in their order. `behind`: how far the tip was, in the stream's own measure.
    `through`, in the last batch: all that arrived before has been read. `ended`: and a closed shard has
    no more. `last`: the last position that was passed, if there was no record at it."""

    records: list[StreamRecord]
    behind: int
    through: str = ""
    ended: bool = False
    last: str = ""


class Shard(Protocol):
    """A shard that can be read. Its parents have to be read to their ends before."""

    @property
    def name(self) -> str: ...
    @property
    def parents(self) -> tuple[str, ...]: ...

    def read(self, after: str | None) -> Iterator[Batch]:
        """Batches of what follows a record, up to the tip that the shard had when the drain began."""
        ...

    def waiting(self, after: str | None) -> int | None:
        """How many records follow one; None where nobody knows."""
        ...


class Landing(Protocol):
    """Where files go."""

    def write(self, partition: str, name: str, blocks: Iterable[bytes]) -> None:
        """Writes a file as a whole or not at all. One that is there stays: it has the same records."""
        ...


class DeadLetters(Protocol):
    """Where else records go that are no JSON objects, beside landing and the quarantine."""

    def keep(self, records: list[tuple[StreamRecord, str]]) -> None:
        """Returns when they are durable."""
        ...


@dataclass
class Drained:
    """What a drain did. `silent` are windows that had no record. By shard: `oldest`, the seconds for
    which its oldest record had waited, and `behind`, how far it was from its tip at the end, in the
    stream's own measure."""

    records: int = 0
    bytes: int = 0
    files: int = 0
    dead_letters: int = 0
    seconds: float = 0
    oldest: dict[str, float] = field(default_factory=dict)
    behind: dict[str, int] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    by_partition: Counter[str] = field(default_factory=Counter)


def drain(
    shards: Iterable[Shard],
    progress: Progress,
    landing: Landing,
    form: Form,
    dead_letters: DeadLetters | None = None,
) -> Drained:
    """Drains shards side by side, children after their parents. Raises what went wrong with one of them
    when the others that had begun are done; what has landed by then counts."""
    began = time.monotonic()
    positions = progress.positions
    todo = {s.name: s for s in shards if not positions.get(s.name, Position()).ended}
    order = TopologicalSorter({n: set(s.parents) & todo.keys() for n, s in todo.items()})
    order.prepare()
    result, running, errors = Drained(), dict[Future[_Shard], str](), list[BaseException]()
    with ThreadPoolExecutor(_SHARDS_AT_ONCE) as threads:
        while True:
            for name in order.get_ready() if not errors else ():
                one = _Shard(todo[name], progress, landing, form, dead_letters)
                running[threads.submit(one.drain)] = name
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                if error := future.exception():
                    errors.append(error)
                elif future.result().add_to(result):
                    order.done(name)  # else its children wait for the drain that finds its end
    if errors:
        raise errors[0]
    result.seconds = time.monotonic() - began
    return result


@dataclass
class _Shard:
    """One shard while it is drained."""

    shard: Shard
    progress: Progress
    landing: Landing
    form: Form
    dead_letters: DeadLetters | None
    position: Position = field(default_factory=Position)
    landed_through: str = ""
    oldest: float | None = None
    behind: int = 0
    records: int = 0
    bytes: int = 0
    files: int = 0
    dead: int = 0
    by_partition: Counter[str] = field(default_factory=Counter)

    def drain(self) -> _Shard:
        self.position = self.progress.positions.get(self.shard.name, Position())
        if self.position.until is not None:
            self._repeat(self.position.until)
        held = Held(self.form)
        for batch in self.shard.read(self.position.after):
            held.add(batch.records)
            self.behind = batch.behind
            if self.oldest is None and batch.records:
                self.oldest = age(batch.records[0])
            if held.full or batch.through:
                held = self._land(held)
            if batch.through:
                after = batch.last or self.position.until or self.position.after
                at_end = Position(after=after, through=batch.through, ended=batch.ended)
                self._advance(at_end)
        self._land(held)
        if self.position.until is not None:
            self._advance(Position(after=self.position.until, through=self.landed_through))
        return self

    def _repeat(self, until: str) -> None:
        """Reads the records of files again that may have been written or not, and no others."""
        held = Held(self.form)
        for batch in self.shard.read(self.position.after):
            held.add([r for r in batch.records if _number(r.position) <= _number(until)])
            if batch.records and _number(batch.records[-1].position) >= _number(until):
                break
        self._write(held)
        self._advance(Position(after=until, through=self.position.through))

    def _land(self, held: Held) -> Held:
        """Stores what will be written, with it that what was written before is durable; then writes.
        Returns what holds the records that follow."""
        if held.first is None or held.last is None:
            return held
        after = self.position.until or self.position.after
        through = self.landed_through or self.position.through or held.first.arrived
        self._advance(Position(after=after, through=through, until=held.last.position))
        self._write(held)
        self.landed_through = max(through, held.last.arrived)
        return Held(self.form)

    def _write(self, held: Held) -> None:
        for partition, file in held.files.items():
            if file.dead and self.dead_letters:
                self.dead_letters.keep(file.dead)
            name = f"{self.shard.name}-{file.first}-{file.last}.json"
            self.landing.write(partition, name.replace("/", "_"), file.blocks)
            self.records += file.records
            self.bytes += file.bytes
            self.files += 1
            self.dead += len(file.dead)
            self.by_partition[partition] += file.records

    def _advance(self, position: Position) -> None:
        self.progress.advance(self.shard.name, position)
        self.position = position

    def add_to(self, result: Drained) -> bool:
        """Adds what this did; returns whether the shard has ended."""
        result.records += self.records
        result.bytes += self.bytes
        result.files += self.files
        result.dead_letters += self.dead
        result.by_partition += self.by_partition
        result.oldest[self.shard.name] = self.oldest or 0.0
        result.behind[self.shard.name] = self.behind
        return self.position.ended


def _number(position: str) -> tuple[int, ...]:
    """Positions are numbers of many digits, one of several records that were sent as one two."""
    return tuple(map(int, position.split(":")))


def age(record: StreamRecord) -> float:
    """The seconds since it arrived."""
    arrived = datetime.fromisoformat(record.arrived)
    return max(0.0, (datetime.now(UTC) - arrived).total_seconds())


def iso(at: datetime) -> str:
    """The time as records have it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
