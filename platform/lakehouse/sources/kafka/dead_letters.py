"""A topic for records that are no JSON objects, beside landing and the quarantine.

Belongs here: their messages. Does not belong here: judging them (stream_records.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.sources.kafka.produce import produce
from spark_jobs.stream_records import StreamRecord


@dataclass(frozen=True)
class DeadLetterTopic:
    """The topic's messages are the bytes that were sent, with where they were and why they are here as
    headers. A drain that is repeated after a crash may produce one twice, with the same headers."""

    config: Mapping[str, Any]
    topic: str

    def keep(self, records: list[tuple[StreamRecord, str]]) -> None:
        """Returns when all are on the brokers. Raises StorageError if one is not."""
        produce(
            self.config,
            self.topic,
            [
                (r.data, r.key, {"shard": r.shard, "position": r.position, "reason": reason})
                for r, reason in records
            ],
        )
