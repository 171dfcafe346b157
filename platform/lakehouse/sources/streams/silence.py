"""Windows in which a stream had no record: they are answered too, and the answer is empty.

Belongs here: how far all shards have been read, and which windows that passes. Does not belong here:
draining (drain.py), or the file that says so (stream_datasets.py).

Tables of a day wait for all of its hours. An hour in which nothing arrived would never be delivered, and
they would wait for it for ever. A record that comes late takes the empty answer's place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from lakehouse.sources.streams.drain import Shard
from lakehouse.sources.streams.positions import Position
from spark_jobs.window import FORMATS, Scheme, Window

_FIRST = timedelta(days=7)


def read_through(shards: Iterable[Shard], positions: Mapping[str, Position]) -> str:
    """The time before which everything has landed that arrived, in whichever shard; empty if one of
    them has not been read to its tip."""
    known = [positions.get(shard.name, Position()) for shard in shards]
    if any(p.until is not None or not p.through for p in known):
        return ""
    return min((p.through for p in known if not p.ended), default="")


def beginning(known: Iterable[str], at: datetime, scheme: Scheme, *, whole: bool = False) -> str:
    """The first window that a stream answers for: that of the earliest of the times that are known of
    it, or of now, but no earlier than some days and no later than now. Producers may tell times of any
    year. Nothing was before the first record of a stream that is `whole`, so it answers for all of that
    day."""
    told = min(map(datetime.fromisoformat, known), default=at)
    earliest = min(max(told, at - _FIRST), at)
    since = Window.of(earliest.strftime(FORMATS["daily" if whole else scheme]))
    return since.inside(scheme)[0].key


def passed(first: str, through: str, scheme: Scheme) -> Iterator[Window]:
    """The windows of a scheme that had ended at a time, from one on. That may be of another scheme,
    which the dataset had before: its day is not answered once more."""
    window, at = Window.of(first), datetime.fromisoformat(through)
    window = (window.inside(scheme) or [window.around(scheme).following])[0]
    while window.end <= at:
        yield window
        window = window.following
