"""A topic by its connection and its declaration.

Belongs here: what a cluster is asked with. The configuration holds the password: it is made where it is
used. Does not belong here: partitions (topic.py), or reading one (partition.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.sources.kafka.dead_letters import DeadLetterTopic
from lakehouse.sources.kafka.produce import produce
from lakehouse.sources.kafka.topic import KafkaTopic

if TYPE_CHECKING:
    from lakehouse.settings.sources import KafkaConnection
    from lakehouse.sources.streams.stream import Stream
    from spark_jobs.contract.source import Kafka


@dataclass(frozen=True)
class _Kafka:
    connection: KafkaConnection
    declared: Kafka

    @property
    def dead_letters(self) -> DeadLetterTopic | None:
        topic = self.declared.dead_letters
        return DeadLetterTopic(self.connection.config(), topic) if topic else None

    def open(self, *, glance: bool = False) -> KafkaTopic:
        trusted = self.declared.clock == "producer"
        return KafkaTopic.open(
            self.connection.config(), self.declared.topic, producer_clock=trusted
        )

    def put(self, data: bytes, key: str) -> tuple[str, str]:
        (place,) = produce(self.connection.config(), self.declared.topic, [(data, key, {})])
        return place


def stream(connection: KafkaConnection, declared: Kafka) -> Stream:
    return _Kafka(connection, declared)
