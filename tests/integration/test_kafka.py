"""A drain of a Kafka topic: every message lands once, whatever happens to the broker or the process.

Here: librdkafka against a real broker. Not here: the order of shards and the steps of a drain, which are
those of every stream (test_kinesis.py).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from lakehouse.cli import stream as command
from lakehouse.settings.references import Secret
from lakehouse.settings.sources import KafkaConnection
from lakehouse.sources.cursors import SqliteStore
from lakehouse.sources.kafka import connection
from lakehouse.sources.kafka.dead_letters import DeadLetterTopic
from lakehouse.sources.kafka.topic import KafkaTopic
from lakehouse.sources.stream_datasets import LandingFiles, StreamDataset
from lakehouse.sources.streams.drain import DeadLetters, Drained, drain
from lakehouse.sources.streams.form import Form
from lakehouse.sources.streams.positions import Progress
from lakehouse.standins.servers.kafka.broker import USER, Broker
from spark_jobs.contract.source import Kafka
from spark_jobs.errors import InputError, StorageError
from spark_jobs.lake.storage import Storage
from spark_jobs.stream_records import sent
from tests.integration.kinesis_streams import At, Crash, Folder, Hooked, crash

pytestmark = pytest.mark.jvm
APPEND = {"message.timestamp.type": "LogAppendTime"}


@cache
def admin(address: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": address})


def _done(asked: Mapping[Any, Any]) -> None:
    for answer in asked.values():
        answer.result()


@dataclass
class Topic:
    """A topic, and the place where it lands."""

    broker: Broker
    root: Path
    name: str = field(default_factory=lambda: f"orders_events.{uuid.uuid4().hex[:8]}")
    form: Form = field(default_factory=lambda: Form(file_bytes=600, fields={"position": "offset"}))
    dead_letters: DeadLetters | None = None

    @property
    def admin(self) -> AdminClient:
        return admin(self.broker.plain)

    @property
    def config(self) -> dict[str, Any]:
        return {"bootstrap.servers": self.broker.plain}

    def create(self, partitions: int = 2, **config: str) -> None:
        topic = NewTopic(self.name, partitions, 1, config=APPEND | config)
        _done(self.admin.create_topics([topic]))

    def put(self, first: int, count: int, partition: int = -1, **config: Any) -> None:
        producer = Producer(self.config | {"linger.ms": 5} | config)
        for n in range(first, first + count):
            at = n % 2 if partition < 0 else partition
            producer.produce(self.name, json.dumps({"id": n}).encode(), f"k{n % 5}", at)
        assert producer.flush(30) == 0

    def open(self) -> KafkaTopic:
        return KafkaTopic.open(self.config, self.name)

    def drain(self, hook: Callable[[str], None] = lambda step: None) -> Drained:
        found = self.open()
        progress = Progress.of(
            SqliteStore(self.root / "positions.sqlite"), self.name, found.created
        )
        found.refuse_gap(progress.positions)
        progress.cursors = Hooked(progress.cursors, "advance", "position", hook)
        landing: Any = Hooked(Folder(self.root / "landing"), "write", "file", hook)
        return drain(found.shards, progress, landing, self.form, self.dead_letters)

    def lines(self) -> list[str]:
        files = sorted((self.root / "landing").glob("*/[!_]*.json"))
        return [text for f in files for text in f.read_text().splitlines()]

    def ids(self) -> list[int]:
        return sorted(json.loads(text)["id"] for text in self.lines())


@pytest.fixture
def topic(kafka: Broker, tmp_path: Path) -> Topic:
    return Topic(kafka, tmp_path)


def test_a_drain_lands_what_came_since_the_last_one_and_commits_nothing(topic: Topic) -> None:
    topic.create()
    topic.put(0, 100)
    first = topic.drain()
    topic.put(100, 50)
    assert (first.records, topic.drain().records, topic.drain().records) == (100, 50, 0)
    assert topic.ids() == list(range(150)) and set(first.behind.values()) == {0}
    asked = Consumer(topic.config | {"group.id": "lakehouse"})
    (committed,) = asked.committed([TopicPartition(topic.name, 0)], timeout=30)
    asked.close()
    assert committed.offset < 0, "a group's offset says less than what has landed"
    for file in (topic.root / "landing").glob("*/*.json"):
        offsets = [json.loads(text)["offset"] for text in file.read_text().splitlines()]
        assert file.stem.split("-")[-2:] == [offsets[0], offsets[-1]]


def test_a_drain_that_crashes_at_any_step_is_finished_by_the_next(topic: Topic) -> None:
    topic.create(1)
    for n in range(5):
        topic.put(n * 50, 50, partition=0)
    every = At(0, crash)
    topic.drain(every)
    assert every.seen > 5
    for step in range(1, every.seen + 1):
        again = replace(topic, root=topic.root / str(step))
        with pytest.raises(Crash):
            again.drain(At(step, crash))
        again.drain()
        assert again.ids() == list(range(250)), step


@pytest.mark.slow
def test_a_broker_that_is_killed_while_it_is_drained_loses_and_doubles_nothing(
    topic: Topic,
) -> None:
    topic.create()
    topic.put(0, 3000)

    def restart(step: str) -> None:
        if step == "after position" and not restarted:
            restarted.append(step)
            topic.broker.kill()
            topic.broker.start()

    restarted: list[str] = []
    topic.drain(restart)
    topic.put(3000, 100)
    topic.drain()
    assert restarted and topic.ids() == list(range(3100))


def test_aborted_transactions_do_not_land_and_their_marks_are_no_gap(topic: Topic) -> None:
    topic.create(1)
    producer = Producer(topic.config | {"transactional.id": topic.name})
    producer.init_transactions(30)
    for n, end in enumerate(
        (producer.commit_transaction, producer.abort_transaction, producer.commit_transaction)
    ):
        producer.begin_transaction()
        producer.produce(topic.name, json.dumps({"id": n}).encode(), partition=0)
        producer.flush(30)
        end(30)
    topic.drain()
    assert topic.ids() == [0, 2]
    assert topic.drain().records == 0
    (shard,) = topic.open().shards
    assert shard.high == 6, "the marks have offsets"


def test_messages_that_left_the_topic_unread_fail_the_drain_and_say_how_many(topic: Topic) -> None:
    topic.create(1)
    topic.put(0, 10, partition=0)
    topic.drain()
    topic.put(10, 30, partition=0)
    assert topic.open().whole
    _done(topic.admin.delete_records([TopicPartition(topic.name, 0, 25)]))
    with pytest.raises(InputError, match="15 offsets from 10"):
        topic.drain()
    assert topic.ids() == list(range(10)) and not topic.open().whole


def test_a_topic_that_was_deleted_and_made_again_is_read_from_its_beginning(topic: Topic) -> None:
    topic.create(1)
    topic.put(0, 20, partition=0)
    topic.drain()
    _done(topic.admin.delete_topics([topic.name]))
    topic.create(1)
    topic.put(20, 5, partition=0)
    assert topic.drain().records == 5


def test_dead_letters_are_in_landing_and_in_a_topic_before_the_position_advances(
    topic: Topic,
) -> None:
    topic.create(1)
    dead = replace(topic, name=f"{topic.name}.dead")
    dead.create(1)
    topic.dead_letters = DeadLetterTopic(topic.config, dead.name)
    producer = Producer(topic.config)
    for body in (b'{"id": 1}', b"\xff\xfe", b"[1]", b'{"id": 2}'):
        producer.produce(topic.name, body, b"key", 0)
    producer.flush(30)
    assert topic.drain().dead_letters == 2
    kept = [sent(text) for text in topic.lines()]
    assert sorted(filter(None, kept)) == [b"[1]", b"\xff\xfe"]
    reader = Consumer(topic.config | {"group.id": "any", "auto.offset.reset": "earliest"})
    reader.assign([TopicPartition(dead.name, 0, 0)])
    found = {}
    while len(found) < 2:
        for message in reader.consume(2, timeout=30):
            found[message.value()] = {k: v.decode() for k, v in message.headers()}
    reader.close()
    shard = f"{topic.name}-0"
    assert found[b"\xff\xfe"] == {"shard": shard, "position": "1", "reason": "no UTF-8"}
    assert found[b"[1]"]["position"] == "2"

    topic.dead_letters = DeadLetterTopic(topic.config | {"message.timeout.ms": 2000}, "not-there")
    topic.put(3, 1, partition=0)
    producer.produce(topic.name, b"bad", partition=0)
    producer.flush(30)
    with pytest.raises(StorageError, match="messages could not be kept") as error:
        topic.drain()
    assert not error.value.permanent
    topic.dead_letters = None
    topic.drain()
    assert topic.drain().records == 0 and len(topic.lines()) == 6


def test_times_of_producers_are_refused_unless_the_contract_trusts_them(topic: Topic) -> None:
    topic.create(1, **{"message.timestamp.type": "CreateTime"})
    topic.put(0, 1, partition=0)
    with pytest.raises(InputError, match="LogAppendTime"):
        topic.drain()
    (shard,) = KafkaTopic.open(topic.config, topic.name, producer_clock=True).shards
    assert [len(b.records) for b in shard.read(None) if b.records] == [1]


def test_a_producer_without_a_calendar_does_not_stop_the_messages_behind(topic: Topic) -> None:
    ever = {"message.timestamp.after.max.ms": str(2**63 - 1)}
    topic.create(1, **{"message.timestamp.type": "CreateTime"} | ever)
    producer = Producer(topic.config)
    for n, milliseconds in enumerate((1_791_158_400_000, 10**16, 1_791_158_400_000)):
        producer.produce(topic.name, b"%d" % n, partition=0, timestamp=milliseconds)
    assert producer.flush(30) == 0
    (shard,) = KafkaTopic.open(topic.config, topic.name, producer_clock=True).shards
    found = [(r.data, r.arrived[:4]) for b in shard.read(None) for r in b.records]
    assert found == [(b"0", "2026"), (b"1", "9999"), (b"2", "2026")]


def test_a_cluster_that_asks_for_a_login_takes_the_right_one_alone(topic: Topic) -> None:
    topic.create(1)
    login = {
        "bootstrap.servers": topic.broker.guarded,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": USER,
        "sasl.password": topic.broker.password,
    }
    assert len(KafkaTopic.open(login, topic.name).shards) == 1
    with pytest.raises(InputError, match="Create it"):
        KafkaTopic.open(login, "nothing-there")


def test_a_dataset_of_a_topic_is_sent_to_measured_and_drained_with_a_login(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic.create(1)
    monkeypatch.setenv("KAFKA_API_KEY", USER)
    monkeypatch.setenv("KAFKA_API_SECRET", topic.broker.password)
    login = KafkaConnection(
        bootstrap=topic.broker.guarded,
        protocol="SASL_PLAINTEXT",
        user=Secret("KAFKA_API_KEY"),
        password=Secret("KAFKA_API_SECRET"),
    )
    source = Kafka(
        kind="kafka", dataset="orders", format="json", topic=topic.name, fields={"key": "order"}
    )
    orders = StreamDataset(
        source,
        connection.stream(login, source),
        "hourly",
        SqliteStore(topic.root / "positions.sqlite"),
        LandingFiles(Storage(), str(topic.root / "landing")),
    )
    assert orders.put(b'{"id": 1}', "k1") == (f"{topic.name}-0", "0")
    orders.put(b'{"id": 2}', "k2")
    (lag,) = orders.lag()
    assert lag.records == 2 and lag.seconds > 0
    assert [r.data for r in orders.tail(1)] == [b'{"id": 2}']
    assert orders.drain().records == 2 and orders.again()[1] == 2
    (lag,) = orders.lag()
    assert (lag.records, lag.seconds) == (0, 0.0)
    assert [json.loads(text)["order"] for text in topic.lines()] == ["k1", "k2"]
    assert topic.broker.password not in f"{orders!r} {login!r} {login.model_dump_json()}"

    monkeypatch.setattr(command, "_dataset", {"orders": orders}.__getitem__)
    question = CliRunner().invoke(command.stream, ["reset", "orders"], input="n\n")
    assert "all 2 records since" in question.output and "have them twice" in question.output
    assert question.exit_code == 1 and orders.drain().records == 0
    assert CliRunner().invoke(command.stream, ["reset", "orders", "--yes"]).exit_code == 0
    assert orders.drain().records == 2
