"""One partition of a topic: its messages after an offset, up to the end that it had when it was listed.

Belongs here: consuming, and a broker that goes away meanwhile. Does not belong here: which partition is
read when (streams/drain.py). No offset is ever committed to the group: positions are kept with landing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import repeat
from typing import Any

from lakehouse.sources.streams.drain import Batch, iso
from spark_jobs.errors import InputError, StorageError
from spark_jobs.stream_records import StreamRecord

_MOST = 5_000
_WAIT_SECONDS = 0.2  # for as many, or as long: at the end there are no more
_PATIENCE_SECONDS = 60.0
_LATEST = 253_370_764_800_000
"""The year 9999, in milliseconds: nearly the end of all calendars. Producers may send any number."""


@dataclass(frozen=True)
class KafkaPartition:
    """A partition whose messages had offsets from `low` to before `high` when it was `listed`."""

    config: Mapping[str, Any]
    topic: str
    number: int
    low: int
    high: int
    listed: datetime
    producer_clock: bool = False
    patience: float = _PATIENCE_SECONDS

    @property
    def name(self) -> str:
        return f"{self.topic}-{self.number}"

    @property
    def parents(self) -> tuple[str, ...]:
        return ()

    def read(self, after: str | None) -> Iterator[Batch]:
        """What is not there is no message: offsets of transactions' marks and of what compaction has
        removed are passed over. Messages of transactions that are still open are left to the next
        drain, with all behind them."""
        from confluent_kafka import Consumer, TopicPartition

        begin = self.high - self.waiting(after)
        listed = iso(self.listed)
        if begin >= self.high:
            yield Batch([], 0, listed)
            return
        consumer = Consumer(dict(self.config))
        try:
            consumer.assign([TopicPartition(self.topic, self.number, begin)])
            heard = time.monotonic()
            next_ = begin
            while True:
                most = min(_MOST, self.high - next_)  # it waits for as many
                messages = consumer.consume(most, timeout=_WAIT_SECONDS)
                if messages:
                    heard = time.monotonic()
                told = [m for m in messages if m.error() is not None]
                at_end = any(self._is_end(m) for m in told)
                if told:
                    messages = [m for m in messages if m.error() is None]
                records = self._records(messages)
                (place,) = consumer.position([TopicPartition(self.topic, self.number)])
                next_ = max(place.offset, begin)
                done = at_end or next_ >= self.high
                last = str(next_ - 1) if next_ > begin else ""
                yield Batch(records, self.high - next_, listed if done else "", last=last)
                if done:
                    return
                if time.monotonic() - heard > self.patience:
                    raise StorageError(
                        f"topic {self.topic}, partition {self.number}: no message for"
                        f" {self.patience:g} s, and {self.high - next_:,} are left. What was read has"
                        " landed. It is tried again; if that does not help, look at the brokers.",
                        permanent=False,
                    )
        finally:
            consumer.close()

    def waiting(self, after: str | None) -> int:
        """The offsets that are left, those of marks of transactions included."""
        return max(0, self.high - (self.low if after is None else int(after) + 1))

    def _is_end(self, message: Any) -> bool:
        """Whether it says that there is no more. Raises what no waiting mends."""
        error = message.error()
        if error is None:
            return False
        if error.name() == "_PARTITION_EOF":
            return True
        if error.name() in ("_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE") or error.fatal():
            raise InputError(
                f"topic {self.topic}, partition {self.number}: {error.str()}. Messages have left it"
                " while it was read; what was read before has landed."
            )
        return False  # a broker is away: the client finds it again, or another one

    def _records(self, messages: Sequence[Any]) -> list[StreamRecord]:
        from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

        stamps = [m.timestamp() for m in messages]
        kinds = {kind for kind, _ in stamps}
        trusted = self.producer_clock and all(at >= 0 for _, at in stamps)
        if not (kinds <= {TIMESTAMP_LOG_APPEND_TIME} or trusted):
            raise InputError(
                f"topic {self.topic}: its messages have the times of their producers, and not those at"
                " which they arrived. Set message.timestamp.type=LogAppendTime for the topic, or"
                " `clock: producer` in the contract's source if these can be trusted."
            )
        keys = [m.key() for m in messages]
        columns = zip(
            [m.value() or b"" for m in messages],
            repeat(self.name),
            [str(m.offset()) for m in messages],
            [_iso(at) for _, at in stamps],
            [None if k is None else k.decode("utf-8", "backslashreplace") for k in keys],
        )
        return list(map(_record, columns))


_record: Any = partial(tuple.__new__, StreamRecord)  # as `_make` does, without a call of Python


@lru_cache(maxsize=4096)
def _iso(milliseconds: int) -> str:
    """Messages of a moment have the same. One of a later year than any lands in that hour, as in
    any hour that is no partition, and does not stop what is behind it."""
    return iso(datetime.fromtimestamp(min(milliseconds, _LATEST) / 1000, UTC))
