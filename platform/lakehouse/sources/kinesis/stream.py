"""One stream: its shards, and whether anything of them is gone before it was read.

Belongs here: listing, and the gap. Does not belong here: reading a shard (shard.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from lakehouse.sources.kinesis.shard import KinesisShard
from lakehouse.sources.streams.drain import iso
from lakehouse.sources.streams.positions import Position
from spark_jobs import quoting
from spark_jobs.errors import InputError


@dataclass(frozen=True)
class KinesisStream:
    """A stream as it is now. `created` tells it from one of the same name that was deleted."""

    name: str
    created: str
    retention: timedelta
    shards: tuple[KinesisShard, ...]

    @classmethod
    def open(
        cls, client: Any, name: str, *, calls_per_second: float = 5, records_per_call: int = 10_000
    ) -> KinesisStream:
        """Asks for the stream and all pages of its shards, each of which takes five calls a second."""
        found = client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        start = datetime.now(UTC)
        shards = tuple(
            KinesisShard(
                client,
                name,
                shard["ShardId"],
                tuple(
                    shard[key] for key in ("ParentShardId", "AdjacentParentShardId") if key in shard
                ),
                closed="EndingSequenceNumber" in shard["SequenceNumberRange"],
                start=start,
                seconds_between_calls=1 / calls_per_second,
                records_per_call=records_per_call,
            )
            for shard in _listed(client, name)
        )
        retention = timedelta(hours=found["RetentionPeriodHours"])
        return cls(name, iso(found["StreamCreationTimestamp"]), retention, shards)

    @property
    def whole(self) -> bool:
        return self.created > iso(datetime.now(UTC) - self.retention)

    def refuse_gap(self, positions: Mapping[str, Position], at: datetime | None = None) -> None:
        """Raises InputError if records have left the stream before they were read."""
        at = at or datetime.now(UTC)
        horizon = iso(at - self.retention)
        lost = gaps(self.shards, positions, horizon)
        if not lost:
            return
        oldest = min(lost.values())
        hours = (at - self.retention - datetime.fromisoformat(oldest)).total_seconds() / 3600
        raise InputError(
            f"stream {self.name}: what arrived from {oldest} to {horizon} ({hours:.1f} hours) has left"
            f" it before it was read: it keeps records for {self.retention.total_seconds() / 3600:g}"
            f" hours. Shards: {quoting.names(sorted(lost))}. Nothing was read. Get what is missing from"
            " its producer, and go on with `lakehouse stream reset`."
        )


def gaps(
    shards: Iterable[KinesisShard], positions: Mapping[str, Position], horizon: str
) -> dict[str, str]:
    """Shards of which records may be gone, with the time through which they had been read.

    A shard that is gone itself, and had not been read to its end, is one of them. One that was never
    read has been there since its parents ended, and if nobody knows these, since the last drain.
    """
    listed = {shard.name: shard for shard in shards}
    through = {name: p.through for name, p in positions.items() if not p.ended}
    last = max((p.through for p in positions.values()), default="")
    for name in (listed.keys() - positions.keys()) if positions else ():
        known = [positions[p].through for p in listed[name].parents if p in positions]
        through[name] = min(known, default=last)
    return {n: since for n, since in through.items() if since < horizon or n not in listed}


def _listed(client: Any, stream: str) -> Iterator[Mapping[str, Any]]:
    """All shards. The client's paginator names the stream on every page, which Kinesis refuses."""
    page = client.list_shards(StreamName=stream)
    yield from page["Shards"]
    while token := page.get("NextToken"):
        page = client.list_shards(NextToken=token)
        yield from page["Shards"]
