"""How long an event takes from its producer to silver, while others come at a fixed rate.

Belongs here: the producer, the loop of drain, bronze and silver, and what the events have waited. Does
not belong here: what a drain costs (streams.py), or when a sensor asks for one.

An event has the time at which it was made as its own. It has arrived when the first version of silver is
committed that shows it. The loop begins again as soon as it is done, without the sensors' intervals and
the wait for the end of an hour: what is left is the platform's own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from deltalake import DeltaTable

from benchmarks.contenders.data_plane import report_of, zones_of
from benchmarks.measure import ContenderFailed
from benchmarks.streams import SHARDS
from benchmarks.table import Row
from benchmarks.workload import contracts
from lakehouse.settings.sources import KafkaConnection, KinesisConnection
from lakehouse.sources.cursors import SqliteStore
from lakehouse.sources.kafka import connection as kafka
from lakehouse.sources.kinesis import connection as kinesis
from lakehouse.sources.stream_datasets import LandingFiles, StreamDataset
from lakehouse.sources.streams.stream import Stream
from lakehouse.standins.servers.aws import CREDENTIALS, REGION, aws
from spark_jobs.contract.source import Kafka, Kinesis
from spark_jobs.engines.session import Engine
from spark_jobs.lake.storage import Storage

if TYPE_CHECKING:
    from spark_jobs.contract.source import Stream as Declared

RATE, SENSORS = 1_000, 50
_NAME, _TABLE = "sensor_readings", "silver.sensor_readings"
_A_TICK = 0.1
_AT_MOST = 600.0

Send = Callable[[list[bytes]], None]


def compared(seconds: int, work: Path, tell: Callable[[str], None], *, java: bool) -> list[Row]:
    """Both kinds of stream; raises ContenderFailed if an event is lost."""
    os.environ.update(CREDENTIALS)
    tell(f"o, {RATE * seconds:,} events of Kinesis")
    with _kinesis() as (stream, declared, at):
        rows = [_row("Kinesis", waited(stream, declared, _to_kinesis, at, seconds, work))]
    if not java:
        return [*rows, Row("o", "Kafka: not measured, there is no Java 17 or later")]
    tell(f"o, {RATE * seconds:,} events of Kafka")
    with _kafka() as (stream, declared, at):
        return [*rows, _row("Kafka", waited(stream, declared, _to_kafka, at, seconds, work))]


def waited(
    stream: Stream,
    declared: Declared,
    sends: Callable[[str], Send],
    address: str,
    seconds: int,
    work: Path,
) -> tuple[np.ndarray, float]:
    """The seconds of each event, in no order, and how many there were a second."""
    out = work / "latency"
    shutil.rmtree(out, ignore_errors=True)
    (out / "landing").mkdir(parents=True)
    files = LandingFiles(Storage(), str(out / "landing" / _NAME))
    positions = SqliteStore(out / "positions.sqlite")
    dataset = StreamDataset(declared, stream, "hourly", positions, files)
    zones, known = zones_of(out / "landing", out), contracts()
    spawned = multiprocessing.get_context("spawn")
    with Engine.start("sail") as engine:
        producer = spawned.Process(target=produce, args=(sends, address, seconds))
        producer.start()
        landed, until = 0, time.monotonic() + seconds + _AT_MOST
        while landed < RATE * seconds:
            done = dataset.drain()
            landed += done.records
            for table in ("bronze.sensor_readings", _TABLE) if done.records else ():
                report_of(table, engine, known, zones, sorted(done.by_partition))
            if time.monotonic() > until or producer.exitcode not in (None, 0):
                producer.kill()
                raise ContenderFailed(f"{landed:,} events of {RATE * seconds:,} have come")
        producer.join()
    return shown(str(out / "silver" / _NAME), RATE * seconds)


def shown(uri: str, expected: int) -> tuple[np.ndarray, float]:
    """By versions of silver, oldest first: what each shows that the one before it did not, and how many
    seconds these events were old when it was committed; and how many events were made a second."""
    history = sorted(DeltaTable(uri).history(), key=lambda commit: commit["version"])
    seen = np.empty(0, "datetime64[us]")
    found = []
    for commit in history:
        table = DeltaTable(uri, version=commit["version"])
        rows = table.to_pyarrow_table(columns=["reading_ts"])["reading_ts"]
        now = rows.to_numpy().astype("datetime64[us]")
        new = np.setdiff1d(now, seen)
        at = np.datetime64(commit["timestamp"], "ms")
        found.append((at - new) / np.timedelta64(1, "s"))
        seen = now
    ages = np.concatenate(found)
    if len(ages) != expected:
        raise ContenderFailed(f"silver shows {len(ages):,} events of {expected:,}")
    return ages, len(seen) / max((seen.max() - seen.min()) / np.timedelta64(1, "s"), _A_TICK)


def produce(sends: Callable[[str], Send], address: str, seconds: int) -> None:
    """Events at the rate, each with the time at which it is made, which no other has. A stream that
    takes them more slowly is sent them more slowly."""
    send, began, last = sends(address), time.monotonic(), 0
    a_tick = int(RATE * _A_TICK)
    for tick in range(int(seconds / _A_TICK)):
        time.sleep(max(0.0, began + tick * _A_TICK - time.monotonic()))
        bodies = []
        for n in range(a_tick):
            last = max(last + 1, time.time_ns() // 1000)
            made = datetime.fromtimestamp(last / 1e6, UTC)
            bodies.append(
                json.dumps(
                    {
                        "timestamp": made.isoformat(timespec="microseconds"),
                        "sensor_id": f"sensor_{n % SENSORS}",
                        "location": f"freezer {n % SENSORS}",
                        "temperature_celsius": -18.25,
                    }
                ).encode()
            )
        send(bodies)


def _to_kinesis(address: str) -> Send:
    import boto3

    client = boto3.client("kinesis", endpoint_url=address, region_name=REGION)

    def send(bodies: list[bytes]) -> None:
        records = [{"Data": b, "PartitionKey": f"{n % SENSORS}"} for n, b in enumerate(bodies)]
        answer = client.put_records(StreamName=_NAME, Records=records)
        if answer["FailedRecordCount"]:
            raise RuntimeError("records were not taken")

    return send


def _to_kafka(address: str) -> Send:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": address, "linger.ms": 5})

    def send(bodies: list[bytes]) -> None:
        for n, body in enumerate(bodies):
            producer.produce(_NAME, body, f"{n % SENSORS}")
        if producer.flush(60):
            raise RuntimeError("the broker has not taken all messages")

    return send


@contextmanager
def _kinesis() -> Iterator[tuple[Stream, Declared, str]]:
    import boto3

    with aws() as server:
        client = boto3.client("kinesis", endpoint_url=server.url, region_name=REGION)
        client.create_stream(StreamName=_NAME, ShardCount=SHARDS)
        declared = Kinesis(kind="kinesis", stream=_NAME, **_OF_BOTH)
        to = KinesisConnection(region=REGION, endpoint=server.url)
        yield kinesis.stream(to, declared), declared, server.url


@contextmanager
def _kafka() -> Iterator[tuple[Stream, Declared, str]]:
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    from lakehouse.standins.servers.kafka.broker import broker

    with broker() as server:
        admin = AdminClient({"bootstrap.servers": server.plain})
        append = {"message.timestamp.type": "LogAppendTime"}
        admin.create_topics([NewTopic(_NAME, SHARDS, 1, config=append)])[_NAME].result()
        declared = Kafka(kind="kafka", topic=_NAME, **_OF_BOTH)
        to = KafkaConnection(bootstrap=server.plain, protocol="PLAINTEXT")
        yield kafka.stream(to, declared), declared, server.plain


_OF_BOTH: dict[str, Any] = {
    "dataset": _NAME,
    "format": "json",
    "fields": {"arrived": "arrival_timestamp"},
}


def _row(of: str, found: tuple[np.ndarray, float]) -> Row:
    ages, rate = found
    middle, most = np.percentile(ages, [50, 95])
    return Row("o", f"{len(ages):,} events of {of}, {rate:,.0f} a second, from producer to silver:"
               f" p50 {middle:.1f} s, p95 {most:.1f} s")  # fmt: skip
