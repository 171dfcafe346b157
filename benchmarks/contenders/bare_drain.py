"""Bare loops that read a stream to its end and write what they have read: no more.

Belongs here: one consumer, one file per shard and hour. Does not belong here: positions, dead letters,
resharding, gaps, and whatever else the platform does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HOUR = "%Y-%m-%dT%H"


def kinesis(client: Any, stream: str, out: Path) -> None:
    """Every record of every shard, by its hour of arrival."""
    page = client.list_shards(StreamName=stream)
    shards = page["Shards"]
    while token := page.get("NextToken"):
        page = client.list_shards(NextToken=token)
        shards += page["Shards"]
    for shard in shards:
        name = shard["ShardId"]
        iterator = client.get_shard_iterator(
            StreamName=stream, ShardId=name, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        by_hour: dict[str, list[tuple[str, bytes]]] = {}
        while True:
            answer = client.get_records(ShardIterator=iterator, Limit=10_000)
            for record in answer["Records"]:
                hour = record["ApproximateArrivalTimestamp"].astimezone(UTC).strftime(HOUR)
                by_hour.setdefault(hour, []).append((record["SequenceNumber"], record["Data"]))
            iterator = answer["NextShardIterator"]
            if answer["MillisBehindLatest"] == 0:
                break
        _write(out, name, by_hour)


def kafka(bootstrap: str, topic: str, out: Path) -> None:
    """Every message of every partition, by its hour of arrival."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bare"})
    places = [
        TopicPartition(topic, n) for n in consumer.list_topics(topic).topics[topic].partitions
    ]
    left = sum(consumer.get_watermark_offsets(place)[1] for place in places)
    consumer.assign([TopicPartition(topic, place.partition, 0) for place in places])
    found: dict[Any, dict[str, list[tuple[str, Any]]]] = {}
    while left:
        for message in consumer.consume(min(left, 5_000), timeout=0.2):
            at = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC).strftime(HOUR)
            by_hour = found.setdefault(message.partition(), {})
            by_hour.setdefault(at, []).append((str(message.offset()), message.value()))
            left -= 1
    consumer.close()
    for number, by_hour in found.items():
        _write(out, f"{topic}-{number}", by_hour)


def _write(out: Path, shard: str, by_hour: dict[str, list[tuple[str, bytes]]]) -> None:
    for hour, records in by_hour.items():
        folder = out / hour
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{shard}-{records[0][0]}-{records[-1][0]}.json"
        (folder / name).write_bytes(b"".join(data + b"\n" for _, data in records))
