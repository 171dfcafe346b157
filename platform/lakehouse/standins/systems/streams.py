"""Streams that records are put into: Kinesis, and a topic of Kafka.

Belongs here: their settings, and records for them, with the time that the sample has. Does not belong
here: the servers (servers/).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lakehouse.standins.servers import aws
from lakehouse.standins.servers.kafka import broker
from spark_jobs.contract.source import Kafka, Kinesis
from spark_jobs.window import Window

_SHARDS, _KEYS, _AT_ONCE = 2, 16, 500
_NEVER = str(2**63 - 1)
_SECONDS = 60.0


@dataclass(frozen=True)
class KinesisStreams:
    """The account's streams, with the clock of the sample. `client` is boto3's."""

    cloud: aws.Aws
    client: Any
    kind: str = "kinesis"

    @property
    def connection(self) -> Mapping[str, Any]:
        return {"region": aws.REGION, "endpoint": self.cloud.url, "calls_per_second": 1000}

    @property
    def variables(self) -> Mapping[str, str]:
        return {}

    def create(self, streams: Iterable[str]) -> None:
        for stream in streams:
            self.client.create_stream(StreamName=stream, ShardCount=_SHARDS)

    def put(self, source: Kinesis, folder: Path) -> Counter[str]:
        self.cloud.set_kinesis_clock(_middle(folder).isoformat())
        records = [
            {"Data": text, "PartitionKey": str(n % _KEYS)} for n, text in enumerate(_lines(folder))
        ]
        for first in range(0, len(records), _AT_ONCE):
            some = records[first : first + _AT_ONCE]
            self.client.put_records(StreamName=source.stream, Records=some)
        return Counter()


@dataclass(frozen=True)
class KafkaTopics:
    """A cluster. Its clock is today's, and no other: messages have the time of the sample from their
    producer, and are kept however old that is."""

    service: broker.Broker
    kind: str = "kafka"

    @property
    def connection(self) -> Mapping[str, Any]:
        return {
            "bootstrap": self.service.guarded,
            "protocol": "SASL_PLAINTEXT",
            "user": {"secret": "KAFKA_USER"},
            "password": {"secret": "KAFKA_PASSWORD"},
        }

    @property
    def variables(self) -> Mapping[str, str]:
        return {"KAFKA_USER": broker.USER, "KAFKA_PASSWORD": self.service.password}

    def create(self, topics: Iterable[str]) -> None:
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        config = {"retention.ms": "-1", "message.timestamp.after.max.ms": _NEVER}
        admin = AdminClient({"bootstrap.servers": self.service.plain})
        asked = admin.create_topics([NewTopic(t, _SHARDS, 1, config=config) for t in topics])
        for answer in asked.values():
            answer.result()

    def put(self, source: Kafka, folder: Path) -> Counter[str]:
        from confluent_kafka import Producer

        at = int(_middle(folder).timestamp() * 1000)
        of = {"bootstrap.servers": self.service.plain, "enable.idempotence": True, "log_level": 3}
        producer = Producer(of)
        for n, text in enumerate(_lines(folder)):
            producer.produce(source.topic, text, str(n % _KEYS), timestamp=at)
            if n % _AT_ONCE == 0:
                producer.flush(_SECONDS)
        if left := producer.flush(_SECONDS):
            raise RuntimeError(f"topic {source.topic}: the broker has not taken {left} messages")
        return Counter()


def _lines(folder: Path) -> Iterator[bytes]:
    for file in sorted(folder.iterdir()):
        yield from file.read_bytes().splitlines()


def _middle(folder: Path) -> datetime:
    window = Window.of(folder.name)
    return window.start + (window.end - window.start) / 2
