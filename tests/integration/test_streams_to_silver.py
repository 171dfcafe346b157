"""Streams through Dagster: whatever is killed while producers write, silver is what they sent.

Here: whole runs, from a stream to silver, in processes that die. Not here: each step of a drain
(test_kinesis.py, test_kafka.py), or each step of a table (test_crash.py).
"""

from __future__ import annotations

import signal
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from lakehouse.standins.servers.aws import REGION, Aws
from lakehouse.standins.servers.kafka.broker import Broker
from spark_jobs.stream_records import sent as bytes_of
from tests import processes
from tests.integration import stream_lake
from tests.integration.kinesis_streams import NAME, Stream
from tests.integration.stream_lake import BRONZE, SILVER, Sent, define, producing, wait_for
from tests.lakes import TinyLake

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_SOURCES", str(tmp_path / "sources.yaml"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))


def killed(root: Path, step: str, number: int) -> None:
    process = processes.start(stream_lake.run, root, step, number)
    assert processes.finish(process) == -signal.SIGKILL, f"no step {number} of {step}"


def finished(lake: TinyLake, sent: Sent) -> None:
    """One more run has every record once, and silver is what the oracle says."""
    assert processes.finish(processes.start(stream_lake.run, lake.root)) == 0
    assert len(lake.rows(BRONZE)) == sent.records - len(sent.letters)
    found = {row["id"]: (row["version"], row["text"]) for row in lake.rows(SILVER)}
    assert found == sent.newest and len(lake.rows(SILVER)) == len(found)
    letters = [bytes_of(row["record"]) for row in lake.quarantined(BRONZE)]
    assert sorted(map(bytes, filter(None, letters))) == sorted(sent.letters)


def test_kills_while_shards_split_and_merge_leave_silver_as_its_oracle(
    aws: Aws, tmp_path: Path
) -> None:
    stream, sent = Stream(aws.url, tmp_path), Sent()
    stream.create()
    connection = {"region": REGION, "endpoint": aws.url, "calls_per_second": 1000}
    lake = define(tmp_path, {"kind": "kinesis", "stream": NAME}, connection)

    def send(records: list[tuple[bytes, str]]) -> None:
        entries = [{"Data": data, "PartitionKey": key} for data, key in records]
        answer = stream.client.put_records(StreamName=NAME, Records=entries)
        assert answer["FailedRecordCount"] == 0

    with producing(sent, send):
        killed(tmp_path, "a landing file", 1)
        stream.split()
        killed(tmp_path, "a position", 6)
        killed(tmp_path, "a commit", 2)
        stream.merge()
        killed(tmp_path, "a ledger row", 3)
    finished(lake, sent)


@pytest.mark.jvm
def test_kills_and_a_broker_that_restarts_leave_silver_as_its_oracle(
    kafka: Broker, tmp_path: Path
) -> None:
    topic, sent = f"events.{uuid.uuid4().hex[:8]}", Sent()
    made = NewTopic(topic, 2, 1, config={"message.timestamp.type": "LogAppendTime"})
    admin = AdminClient({"bootstrap.servers": kafka.plain})
    admin.create_topics([made])[topic].result()
    connection = {"bootstrap": kafka.plain, "protocol": "PLAINTEXT"}
    lake = define(tmp_path, {"kind": "kafka", "topic": topic}, connection)
    producer = Producer({"bootstrap.servers": kafka.plain, "enable.idempotence": True})

    def send(records: list[tuple[bytes, str]]) -> None:
        for data, key in records:
            producer.produce(topic, data, key)
        producer.poll(0)

    with producing(sent, send):
        killed(tmp_path, "a landing file", 2)
        process = processes.start(_run_and_wait, tmp_path)
        wait_for(tmp_path / "reached")
        kafka.kill()
        kafka.start()
        (tmp_path / "go on").touch()
        assert processes.finish(process) == 0
        killed(tmp_path, "a commit", 3)
    assert producer.flush(60) == 0
    finished(lake, sent)


def _run_and_wait(root: Path) -> None:
    stream_lake.run(root, "a position", 3, pause=True)
