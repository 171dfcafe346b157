"""One topic: its partitions with their ends as they are now, and whether messages are gone unread.

Belongs here: what is asked of the cluster once. Does not belong here: reading a partition
(partition.py).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lakehouse.sources.kafka.partition import KafkaPartition
from lakehouse.sources.streams.positions import Position
from spark_jobs.errors import InputError, StorageError

_SECONDS = 30.0


@dataclass(frozen=True)
class KafkaTopic:
    """A topic as it is now. `created` tells it from one of the same name that was deleted: its id."""

    name: str
    created: str
    shards: tuple[KafkaPartition, ...]

    @classmethod
    def open(
        cls, config: Mapping[str, Any], name: str, *, producer_clock: bool = False
    ) -> KafkaTopic:
        """Asks for the topic, and for the first and the next offset of each partition. `config` is
        librdkafka's: the address, and how to log in."""
        from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
        from confluent_kafka.admin import AdminClient

        consuming = {
            **config,
            "logger": logging.getLogger(__name__),
            "group.id": "lakehouse",  # one has to be given: offsets are kept elsewhere
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "queued.max.messages.kbytes": 16384,
            "check.crcs": True,
        }
        consumer = Consumer(consuming)
        try:
            admin = AdminClient(dict(config))  # without it there is no answer
            found = admin.describe_topics(TopicCollection([name]), request_timeout=_SECONDS)
            described = found[name].result()
            shards, listed = [], datetime.now(UTC)
            for partition in sorted(p.id for p in described.partitions):
                at = TopicPartition(name, partition)
                low, high = consumer.get_watermark_offsets(at, timeout=_SECONDS)
                shards.append(
                    KafkaPartition(consuming, name, partition, low, high, listed, producer_clock)
                )
        except KafkaException as error:
            raise _unreachable(name, error) from error
        finally:
            consumer.close()
        return cls(name, str(described.topic_id), tuple(shards))

    @property
    def whole(self) -> bool:
        return all(shard.low == 0 for shard in self.shards)

    def refuse_gap(self, positions: Mapping[str, Position]) -> None:
        """Raises InputError if messages have left the topic before they were read, or if it is shorter
        than it was."""
        lost, shorter = [], []
        for shard in self.shards:
            after = positions.get(shard.name, Position()).after
            if after is None:
                continue
            if int(after) + 1 < shard.low:
                lost.append(
                    f"{shard.name}: {shard.low - int(after) - 1:,} offsets from {int(after) + 1}"
                )
            elif int(after) >= shard.high:
                shorter.append(f"{shard.name}: read up to {after}, and it ends before {shard.high}")
        if lost or shorter:
            what = "have left it before they were read" if lost else "are not there any more"
            raise InputError(
                f"topic {self.name}: messages {what} ({'; '.join(lost or shorter)}). Nothing was read."
                " Get what is missing from its producer, and go on with"
                " `lakehouse stream reset`."
            )


def _unreachable(name: str, error: Any) -> Exception:
    about = error.args[0]
    if about.name() in ("UNKNOWN_TOPIC_OR_PART", "TOPIC_AUTHORIZATION_FAILED"):
        return InputError(f"topic {name}: {about.str()}. Create it, or allow this user to read it.")
    return StorageError(
        f"topic {name}: its cluster did not answer as it should ({about.name()}: {about.str()}). Nothing"
        " was read. It is tried again; if that does not help, check the address and the credentials.",
        permanent=about.name() in ("_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED"),
    )
