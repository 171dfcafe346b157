"""Streams through Dagster: whatever is killed while producers write, silver is what they sent.

Here: whole runs, from a stream to silver, in processes that die. Not here: each step of a drain
(test_kinesis.py, test_kafka.py), or each step of a table (test_crash.py).
"""

from __future__ import annotations

import base64
import json
import signal
import uuid
from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from lakehouse.sources.kafka.topic import KafkaTopic
from lakehouse.standins.servers.aws import REGION, Aws
from lakehouse.standins.servers.kafka.broker import Broker
from tests import processes
from tests.integration import stream_lake
from tests.integration.kinesis_streams import NAME, Stream
from tests.integration.stream_lake import (
    Sent,
    define,
    differences,
    paused,
    producing,
    run_and_die,
)
from tests.lakes import TinyLake

pytestmark = pytest.mark.slow
KILLS = [
    (step, number)
    for step, numbers in {
        "a position": range(1, 9),
        "a landing file": range(1, 5),
        "a commit": range(1, 7),
        "a ledger row": range(1, 5),
    }.items()
    for number in numbers
]
"""Before and after each; all of them are in a run of two shards, of a table and its quarantine, and of
silver."""


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))


def killed(root: Path, changes: Mapping[int, Callable[[], Any]]) -> None:
    """Kills a run at each step, some of them after something has changed in the middle of its drain."""
    for turn, (step, number) in enumerate(KILLS):
        for file in ("reached", "go on"):
            (root / file).unlink(missing_ok=True)
        process = processes.start(run_and_die, root, step, number, turn in changes)
        if turn in changes:
            with paused(root):
                changes[turn]()
        assert processes.finish(process) == -signal.SIGKILL, f"no step {number} of {step}"


def finished(lake: TinyLake, sent: Sent) -> None:
    """One more run has every record once, and silver is what the oracle says."""
    assert processes.finish(processes.start(stream_lake.run, lake.root)) == 0
    assert not differences(lake, "events", sent)


def test_kills_while_shards_split_and_merge_leave_silver_as_its_oracle(
    aws: Aws, tmp_path: Path
) -> None:
    stream, sent = Stream(aws.url, tmp_path), Sent()
    stream.create()
    connection = {"region": REGION, "endpoint": aws.url, "calls_per_second": 1000}
    source = {"kind": "kinesis", "stream": NAME}
    lake = define(tmp_path, {"events": source}, {"kinesis": connection})

    def send(records: list[tuple[bytes, str]]) -> None:
        entries = [{"Data": data, "PartitionKey": key} for data, key in records]
        answer = stream.client.put_records(StreamName=NAME, Records=entries)
        assert answer["FailedRecordCount"] == 0

    with producing(sent, send):
        changes = dict(zip(range(0, len(KILLS), 3), cycle((stream.split, stream.merge))))
        killed(tmp_path, changes)
    finished(lake, sent)


@pytest.mark.jvm
def test_kills_and_a_broker_that_restarts_leave_silver_as_its_oracle(
    kafka: Broker, tmp_path: Path
) -> None:
    topic, sent = f"events.{uuid.uuid4().hex[:8]}", Sent()
    config = {"message.timestamp.type": "LogAppendTime"}
    made = [NewTopic(name, 2, 1, config=config) for name in (topic, f"{topic}.dead")]
    admin = AdminClient({"bootstrap.servers": kafka.plain})
    for created in admin.create_topics(made).values():
        created.result()
    connection = {"bootstrap": kafka.plain, "protocol": "PLAINTEXT"}
    source = {"kind": "kafka", "topic": topic, "dead_letters": f"{topic}.dead"}
    lake = define(tmp_path, {"events": source}, {"kafka": connection})
    producer = Producer({"bootstrap.servers": kafka.plain, "enable.idempotence": True})

    def send(records: list[tuple[bytes, str]]) -> None:
        for data, key in records:
            producer.produce(topic, data, key)
        producer.poll(0)

    def restart() -> None:
        kafka.kill()
        kafka.start()

    with producing(sent, send):
        killed(tmp_path, dict.fromkeys((3, 10, 17), restart))
    assert producer.flush(60) == 0
    finished(lake, sent)
    letters = (json.loads(row["record"])[0] for row in lake.quarantined("bronze.events"))
    assert dead_letters(kafka, f"{topic}.dead") == {
        (about["shard"], about["position"], about["reason"], base64.b64decode(about["base64"]))
        for about in letters
    }


def dead_letters(kafka: Broker, topic: str) -> set[tuple[str, ...]]:
    """What the topic has: a drain that was killed may have sent one twice, and then alike."""
    reader = KafkaTopic.open({"bootstrap.servers": kafka.plain}, topic)
    ends = {shard.number: shard.high for shard in reader.shards}
    consumer = Consumer({"bootstrap.servers": kafka.plain, "group.id": "any"})
    consumer.assign([TopicPartition(topic, number, 0) for number in ends])
    found = set()
    for message in consumer.consume(sum(ends.values()), timeout=30):
        of = {name: value.decode() for name, value in message.headers()}
        found.add((of["shard"], of["position"], of["reason"], message.value()))
    consumer.close()
    return found
