"""A stream of Kinesis by its connection and its declaration.

Belongs here: the client. Does not belong here: shards (stream.py), or reading one (shard.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lakehouse.sources.kinesis.stream import KinesisStream

if TYPE_CHECKING:
    from lakehouse.settings.sources import KinesisConnection
    from lakehouse.sources.streams.stream import Stream
    from spark_jobs.contract.source import Kinesis

_MOST_PER_CALL = 10_000


@dataclass(frozen=True)
class _Kinesis:
    connection: KinesisConnection
    name: str
    dead_letters: None = None

    def open(self, *, glance: bool = False) -> KinesisStream:
        return KinesisStream.open(
            self._client,
            self.name,
            calls_per_second=self.connection.calls_per_second,
            records_per_call=1 if glance else _MOST_PER_CALL,
        )

    def put(self, data: bytes, key: str) -> tuple[str, str]:
        sent = self._client.put_record(StreamName=self.name, Data=data, PartitionKey=key)
        return sent["ShardId"], sent["SequenceNumber"]

    @cached_property
    def _client(self) -> Any:
        import boto3

        region, endpoint = self.connection.region, self.connection.endpoint
        return boto3.client("kinesis", region_name=region, endpoint_url=endpoint)


def stream(connection: KinesisConnection, declared: Kinesis) -> Stream:
    return _Kinesis(connection, declared.stream)
