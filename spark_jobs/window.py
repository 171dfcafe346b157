"""Arrival windows: what a partition key stands for, and how windows of one scheme lie in another.

Belongs here: the value and its arithmetic. Does not belong here: which windows exist or have data.

A key is the beginning of its window, in UTC, as far as the scheme tells windows apart. So keys sort
by time, and the key of a window begins with the key of every window that it lies in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

Scheme = Literal["daily", "hourly"]

FORMATS: dict[Scheme, str] = {"daily": "%Y-%m-%d", "hourly": "%Y-%m-%dT%H"}
LENGTHS: dict[Scheme, timedelta] = {"daily": timedelta(days=1), "hourly": timedelta(hours=1)}
# The partition key of tables that have no windows.
WHOLE = "all"
_NAMED = 8


@dataclass(frozen=True, order=True)
class Window:
    """The time in which the rows of one partition arrived, from `start` up to `end`."""

    start: datetime
    scheme: Scheme

    @classmethod
    def of(cls, key: str) -> Window:
        """The window of a partition key. Raises ValueError if it is none."""
        try:
            # strptime, which would say the shape, takes ten times as long.
            start = datetime.fromisoformat(key).replace(tzinfo=UTC)
        except ValueError:
            start = None
        for scheme, shape in FORMATS.items():
            if start is not None and start.strftime(shape) == key:
                return cls(start, scheme)
        raise ValueError(f"{key!r} is no partition key; keys look like 2026-10-05 or 2026-10-05T13")

    @property
    def end(self) -> datetime:
        return self.start + LENGTHS[self.scheme]

    @property
    def key(self) -> str:
        return self.start.strftime(FORMATS[self.scheme])

    @property
    def following(self) -> Window:
        return Window(self.end, self.scheme)

    def inside(self, scheme: Scheme) -> list[Window]:
        """The windows of a scheme that this one is made of: of its own scheme itself, of a finer
        one those within, of a coarser one none."""
        if LENGTHS[scheme] > LENGTHS[self.scheme]:
            return []
        count = LENGTHS[self.scheme] // LENGTHS[scheme]
        return [Window(self.start + i * LENGTHS[scheme], scheme) for i in range(count)]

    def around(self, scheme: Scheme) -> Window:
        """The window of a scheme, not finer than its own, in which this one lies."""
        return Window.of(self.start.strftime(FORMATS[scheme]))


def windows(first: str, last: str) -> list[str]:
    """The keys from first to last, both of one scheme and included."""
    window, end, out = Window.of(first), Window.of(last), []
    while window <= end:
        out.append(window.key)
        window = window.following
    return out


def inside(key: str, scheme: Scheme | None) -> list[str]:
    """The keys of the windows of a scheme that a partition is made of; the partition itself where
    one of the two has no windows."""
    try:
        window = Window.of(key)
    except ValueError:
        return [key]
    if scheme is None or scheme == window.scheme:
        return [key]
    return [w.key for w in window.inside(scheme)]


def ranges(keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Splits keys of one scheme into ranges without holes, as (first, last)."""
    ordered = sorted({Window.of(key) for key in keys})
    start = 0
    for i, window in enumerate(ordered):
        if i + 1 == len(ordered) or window.following != ordered[i + 1]:
            yield ordered[start].key, window.key
            start = i + 1


def named(keys: Iterable[str]) -> str:
    """Keys for people: neighbours as a range, and no more than a few of them."""
    found = [a if a == b else f"{a} to {b}" for a, b in ranges(keys)]
    more = [f"{len(found) - _NAMED} more"] if len(found) > _NAMED else []
    return ", ".join([*found[:_NAMED], *more])
