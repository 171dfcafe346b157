"""What a stream is to the rest of the platform, whatever its kind.

Belongs here: the protocol. A kind is implemented by the package of its name, whose module `connection`
has `stream(connection, declared)`. Does not belong here: draining (drain.py), or what else is done with
a stream (stream_datasets.py): that is the same for all kinds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from lakehouse.sources.streams.drain import DeadLetters, Shard
from lakehouse.sources.streams.positions import Position


class OpenStream(Protocol):
    """A stream as it is now. `created` tells it from one of the same name that was deleted."""

    @property
    def created(self) -> str: ...
    @property
    def shards(self) -> Sequence[Shard]: ...
    @property
    def whole(self) -> bool:
        """Whether it still has every record that it ever had."""
        ...

    def refuse_gap(self, positions: Mapping[str, Position]) -> None:
        """Raises InputError if records have left it before they were read."""
        ...


class Stream(Protocol):
    """A stream that is connected to when it is used. `dead_letters`: where else its records go that are
    no JSON objects."""

    @property
    def dead_letters(self) -> DeadLetters | None: ...

    def open(self, *, glance: bool = False) -> OpenStream:
        """Looks at it; with `glance`, to read no more than a record of each shard."""
        ...

    def put(self, data: bytes, key: str) -> tuple[str, str]:
        """Sends a record; returns its shard and position."""
        ...
