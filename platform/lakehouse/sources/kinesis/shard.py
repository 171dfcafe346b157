"""One shard: its records after a position, up to the tip that it had when the drain began.

Belongs here: iterators, their expiry, the pace, throttling. Does not belong here: which shard is read
when (streams/drain.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import tenacity

from lakehouse.sources.kinesis.aggregation import unpacked
from lakehouse.sources.streams.drain import Batch, iso
from spark_jobs.causes import is_transient
from spark_jobs.stream_records import StreamRecord

_TRIES = 10


@dataclass(frozen=True)
class KinesisShard:
    """A shard that was listed at `start`. A `closed` one is read to its end; of an open one records
    that arrived later are left to the next drain."""

    client: Any
    stream: str
    name: str
    parents: tuple[str, ...]
    closed: bool
    start: datetime
    seconds_between_calls: float = 0.2
    records_per_call: int = 10_000

    def read(self, after: str | None) -> Iterator[Batch]:
        sequence = after.partition(":")[0] if after else None
        iterator = self._iterator(sequence)
        while True:
            asked = time.monotonic()
            try:
                answer = self._get(iterator)
            except self.client.exceptions.ExpiredIteratorException:
                iterator = self._iterator(sequence)
                continue
            records = answer["Records"]
            behind = int(answer.get("MillisBehindLatest", 0))
            if records:
                sequence = records[-1]["SequenceNumber"]
            iterator = answer.get("NextShardIterator")
            late = bool(records) and records[-1]["ApproximateArrivalTimestamp"] >= self.start
            tip = not self.closed and (behind == 0 or late)
            through = iso(self.start) if tip or not iterator else ""
            yield Batch(self._records(records), behind, through, ended=not iterator)
            if tip or not iterator:
                return
            time.sleep(max(0.0, asked + self.seconds_between_calls - time.monotonic()))

    def waiting(self, after: str | None) -> int | None:
        return None  # Kinesis tells times only

    def _iterator(self, after: str | None) -> str:
        where = (
            {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
            if after
            else {"ShardIteratorType": "TRIM_HORIZON"}
        )
        return self._patiently(
            self.client.get_shard_iterator, StreamName=self.stream, ShardId=self.name, **where
        )["ShardIterator"]

    def _get(self, iterator: str) -> Any:
        return self._patiently(
            self.client.get_records, ShardIterator=iterator, Limit=self.records_per_call
        )

    def _patiently(self, ask: Any, **arguments: Any) -> Any:
        """The client repeats a few times by itself; five consumers of a shard take longer than that."""
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_transient),
            wait=tenacity.wait_random_exponential(multiplier=self.seconds_between_calls, max=10),
            stop=tenacity.stop_after_attempt(_TRIES),
            reraise=True,
        )(ask, **arguments)

    def _records(self, records: list[dict[str, Any]]) -> list[StreamRecord]:
        return [
            part
            for r in records
            for part in unpacked(
                StreamRecord(
                    r["Data"],
                    self.name,
                    r["SequenceNumber"],
                    iso(r["ApproximateArrivalTimestamp"]),
                    r["PartitionKey"],
                )
            )
        ]
