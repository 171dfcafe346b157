"""A topic for records that are no JSON objects, beside landing and the quarantine.

Belongs here: producing them. Does not belong here: judging them (stream_records.py).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spark_jobs.errors import StorageError
from spark_jobs.stream_records import StreamRecord

_SECONDS = 60.0


@dataclass(frozen=True)
class DeadLetterTopic:
    """The topic's messages are the bytes that were sent, with where they were and why they are here as
    headers. A drain that is repeated after a crash may produce one twice, with the same headers."""

    config: Mapping[str, Any]
    topic: str

    def keep(self, records: list[tuple[StreamRecord, str]]) -> None:
        """Returns when all are on the brokers. Raises StorageError if one is not."""
        from confluent_kafka import Producer

        lost: list[str] = []

        def told(error: Any, _: Any) -> None:
            if error is not None:
                lost.append(error.str())

        producer = Producer(
            {**self.config, "logger": logging.getLogger(__name__), "enable.idempotence": True}
        )
        for record, reason in records:
            headers = {"shard": record.shard, "position": record.position, "reason": reason}
            producer.produce(
                self.topic, record.data, record.key, on_delivery=told, headers=dict(headers)
            )
            producer.poll(0)
        left = producer.flush(_SECONDS)
        if lost or left:
            raise StorageError(
                f"topic {self.topic}: {len(lost) + left:,} of {len(records):,} dead letters could not be"
                f" kept ({lost[0] if lost else 'no answer'}). Their positions have not advanced; they"
                " are tried again.",
                permanent=False,
            )
