"""Sending messages, and hearing that the brokers have them.

Belongs here: producing. Does not belong here: what is sent (dead_letters.py, the command line).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from spark_jobs.errors import StorageError

_SECONDS = 60.0


def produce(
    config: Mapping[str, Any],
    topic: str,
    messages: Iterable[tuple[bytes, str | None, Mapping[str, str]]],
) -> list[tuple[str, str]]:
    """Sends messages, each with key and headers; returns their partitions and offsets. Raises
    StorageError if the brokers do not have all of them."""
    from confluent_kafka import Producer

    lost: list[str] = []
    places: list[tuple[str, str]] = []

    def told(error: Any, message: Any) -> None:
        if error is not None:
            lost.append(error.str())
        else:
            places.append((f"{topic}-{message.partition()}", str(message.offset())))

    logger = logging.getLogger(__name__)
    producer = Producer({**config, "logger": logger, "enable.idempotence": True})
    for data, key, headers in messages:
        producer.produce(topic, data, key, on_delivery=told, headers=dict(headers))
        producer.poll(0)
    left = producer.flush(_SECONDS)
    if lost or left:
        raise StorageError(
            f"topic {topic}: {len(lost) + left:,} messages could not be kept"
            f" ({lost[0] if lost else 'no answer'}). It is tried again; if that does not help, look at"
            " the topic and its brokers.",
            permanent=False,
        )
    return places
