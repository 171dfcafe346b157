"""A stream of the stand-in, its producers, and a drain of it that may be killed at any step.

Belongs here: what a test says in one line of a stream, and the process that dies. Does not belong here:
what must hold (test_kinesis.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import boto3

from lakehouse.sources.cursors import SqliteStore
from lakehouse.sources.kinesis.stream import KinesisStream
from lakehouse.sources.streams.drain import Drained, drain
from lakehouse.sources.streams.form import Form
from lakehouse.sources.streams.positions import Progress
from lakehouse.standins.servers.aws import CREDENTIALS, REGION
from tests.processes import die

NAME, DATASET = "sensor-readings", "sensor_readings"


class Crash(BaseException):
    """A process that ends here."""


@cache
def client(url: str) -> Any:
    return boto3.client(
        "kinesis",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )


@dataclass(frozen=True)
class Folder:
    root: Path

    def write(self, partition: str, name: str, lines: Iterable[bytes]) -> None:
        file = self.root / partition / name
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_name(f".{name}")
            unfinished.write_bytes(b"".join(lines))
            os.replace(unfinished, file)


@dataclass
class Stream:
    """A stream, and the place where it lands."""

    url: str
    root: Path
    form: Form = field(default_factory=lambda: Form(file_bytes=800))
    sent: list[dict[str, Any]] = field(default_factory=list)

    @property
    def client(self) -> Any:
        return client(self.url)

    def create(self, shards: int = 2) -> None:
        self.client.create_stream(StreamName=NAME, ShardCount=shards)

    def put(self, count: int) -> None:
        """Readings, each of which is a record of its own."""
        new = [{"id": len(self.sent) + n, "sensor_id": f"sensor_{n % 7}"} for n in range(count)]
        self.sent += new
        records = [{"Data": json.dumps(r).encode(), "PartitionKey": r["sensor_id"]} for r in new]
        for begin in range(0, count, 500):
            self.client.put_records(StreamName=NAME, Records=records[begin : begin + 500])

    def open(self) -> KinesisStream:
        """With small answers, so that a shard takes many, and as often as one likes."""
        return KinesisStream.open(self.client, NAME, calls_per_second=1000, records_per_call=10)

    def open_shards(self) -> list[Mapping[str, Any]]:
        found = KinesisStream.open(self.client, NAME)
        hashes = {
            s["ShardId"]: s["HashKeyRange"]
            for s in self.client.describe_stream(StreamName=NAME)["StreamDescription"]["Shards"]
        }
        return [{"id": s.name, **hashes[s.name]} for s in found.shards if not s.closed]

    def split(self, which: int = 0) -> None:
        shard = self.open_shards()[which]
        middle = (int(shard["StartingHashKey"]) + int(shard["EndingHashKey"])) // 2
        self.client.split_shard(
            StreamName=NAME, ShardToSplit=shard["id"], NewStartingHashKey=str(middle)
        )

    def merge(self) -> None:
        one, other = sorted(self.open_shards(), key=lambda s: int(s["StartingHashKey"]))[:2]
        self.client.merge_shards(
            StreamName=NAME, ShardToMerge=one["id"], AdjacentShardToMerge=other["id"]
        )

    @property
    def store(self) -> SqliteStore:
        return SqliteStore(self.root / "positions.sqlite")

    @property
    def landing(self) -> Folder:
        return Folder(self.root / "landing")

    def progress(self, found: KinesisStream) -> Progress:
        return Progress.of(self.store, DATASET, found.created)

    def drain(self, hook: Callable[[str], None] = lambda step: None) -> Drained:
        """Drains to now, as the landing asset does; `hook` is told each step before and after it."""
        found = self.open()
        progress = self.progress(found)
        found.refuse_gap(progress.positions)
        progress.cursors = Hooked(progress.cursors, "advance", "position", hook)
        landing: Any = Hooked(self.landing, "write", "file", hook)
        return drain(found.shards, progress, landing, self.form)

    def landed(self) -> list[dict[str, Any]]:
        files = sorted((self.root / "landing").glob("*/*.json"))
        return [json.loads(text) for f in files for text in f.read_text().splitlines()]

    def landed_ids(self) -> list[int]:
        return sorted(r["id"] for r in self.landed())


class Hooked:
    """Something one method of which is a step that a process may die before or after."""

    def __init__(self, of: Any, method: str, step: str, hook: Callable[[str], None]) -> None:
        self._of, self._method, self._step, self._hook = of, method, step, hook

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        if name != self._method:
            return found

        def hooked(*arguments: Any) -> Any:
            self._hook(f"before {self._step}")
            result = found(*arguments)
            self._hook(f"after {self._step}")
            return result

        return hooked


@dataclass
class At:
    """Ends a process at its step of this number: its other threads do not get any further either.
    At none if that is 0."""

    number: int
    end: Callable[[], None]
    seen: int = 0

    def __call__(self, step: str) -> None:
        self.seen += 1
        if 0 < self.number <= self.seen:
            self.end()


def crash() -> None:
    raise Crash


def drain_and_die(url: str, root: Path, step: int) -> None:
    """The process that a test kills."""
    Stream(url, root).drain(At(step, die))
