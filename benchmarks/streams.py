"""What a drain of a stream costs over a loop that reads the same records and writes the same files.

Belongs here: both over one stream that is filled beforehand, of Kinesis and of Kafka. Does not belong
here: the loops (contenders/bare_drain.py), or what becomes of landing.

Both run in one process, turn by turn: the libraries are imported, and the servers warm. Neither is held
back by Kinesis' limit of five calls a second.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import boto3

from benchmarks.contenders import bare_drain
from benchmarks.measure import ContenderFailed
from benchmarks.table import Row
from lakehouse.sources.cursors import SqliteStore
from lakehouse.sources.kafka.topic import KafkaTopic
from lakehouse.sources.kinesis.stream import KinesisStream
from lakehouse.sources.stream_datasets import LandingFiles
from lakehouse.sources.streams.drain import drain
from lakehouse.sources.streams.form import Form
from lakehouse.sources.streams.positions import Progress
from lakehouse.sources.streams.stream import OpenStream
from lakehouse.standins.servers.aws import CREDENTIALS, REGION, aws
from spark_jobs.lake.storage import Storage

MOST = 1.2
SHARDS = 4
_NAME = "readings"
_FORM = Form(file_bytes=1 << 30)  # one file per shard and hour, as the loops write it

Work = Callable[[Path], None]


def compared(records: int, runs: int, work: Path, *, java: bool) -> list[Row]:
    """Medians of both for each kind of stream; raises ContenderFailed if their files differ."""
    os.environ.update(CREDENTIALS)
    rows = _kinesis(records // 10, runs, work)
    if not java:
        return [*rows, Row("n", "Kafka: not measured, there is no Java 17 or later")]
    return [*rows, *_kafka(records, runs, work)]


def _kinesis(records: int, runs: int, work: Path) -> list[Row]:
    with aws() as server:
        client = boto3.client("kinesis", endpoint_url=server.url, region_name=REGION)
        client.create_stream(StreamName=_NAME, ShardCount=SHARDS)
        sent = [{"Data": data, "PartitionKey": key} for data, key in _records(records)]
        for begin in range(0, records, 500):
            client.put_records(StreamName=_NAME, Records=sent[begin : begin + 500])
        return _raced(
            f"{records:,} records of Kinesis",
            lambda out: _drained(KinesisStream.open(client, _NAME, calls_per_second=1000), out),
            ("a loop over boto3", lambda out: bare_drain.kinesis(client, _NAME, out)),
            runs,
            work,
        )


def _kafka(records: int, runs: int, work: Path) -> list[Row]:
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    from lakehouse.standins.servers.kafka.broker import broker

    with broker() as server:
        config: dict[str, Any] = {"bootstrap.servers": server.plain}
        admin = AdminClient(config)
        append = {"message.timestamp.type": "LogAppendTime"}
        admin.create_topics([NewTopic(_NAME, SHARDS, 1, config=append)])[_NAME].result()
        producer = Producer({**config, "queue.buffering.max.messages": records + 1})
        for data, key in _records(records):
            producer.produce(_NAME, data, key)
        if producer.flush(120):
            raise ContenderFailed("the broker has not taken all messages")
        return _raced(
            f"{records:,} messages of Kafka",
            lambda out: _drained(KafkaTopic.open(config, _NAME), out),
            (
                "a loop over confluent-kafka",
                lambda out: bare_drain.kafka(server.plain, _NAME, out),
            ),
            runs,
            work,
        )


def _records(count: int) -> Iterator[tuple[bytes, str]]:
    for n in range(count):
        body: dict[str, Any] = {
            "timestamp": f"2026-10-05T07:{n // 60 % 60:02}:{n % 60:02}",
            "sensor_id": f"sensor_{n % 50}",
            "location": f"freezer {n % 50}",
            "temperature_celsius": -18.25,
        }
        yield json.dumps(body).encode(), f"sensor_{n % 50}"


def _drained(stream: OpenStream, out: Path) -> None:
    progress = Progress.of(SqliteStore(out / ".positions.sqlite"), _NAME, stream.created)
    drain(stream.shards, progress, LandingFiles(Storage(), str(out)), _FORM)


def _raced(what: str, ours: Work, bare: tuple[str, Work], runs: int, work: Path) -> list[Row]:
    contenders = {"the platform's drain": ours, bare[0]: bare[1]}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    left: dict[str, dict[str, bytes]] = {}
    for turn in range(runs + 1):  # the first warms the server and is not counted
        for name, run in contenders.items():
            out = work / "out"
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            began, cpu = time.perf_counter(), time.process_time()
            run(out)
            if turn:
                taken[name].append((time.perf_counter() - began, time.process_time() - cpu))
            left[name] = {f.name: f.read_bytes() for f in out.glob("*/*.json")}
    shutil.rmtree(work / "out")
    if left[bare[0]] != left["the platform's drain"] or not left[bare[0]]:
        raise ContenderFailed(f"{what}: the loop writes other files than the platform")
    (wall, cpu), (other, other_cpu) = (
        (median(t[0] for t in times), median(t[1] for t in times)) for times in taken.values()
    )
    return [
        Row("n", f"{what}: the platform's drain, {wall:.2f} s, {cpu:.2f} s of CPU",
            ratio=f"{wall / other:.2f}", cpu_ratio=f"{cpu / other_cpu:.2f}", target=f"<= {MOST:g}",
            met=wall <= MOST * other),
        Row("n", f"{what}: {bare[0]}, {other:.2f} s, {other_cpu:.2f} s of CPU"),
    ]  # fmt: skip
