"""How far the shards of a stream have landed.

Belongs here: the value per shard, and advancing it under the store's optimistic version. Does not belong
here: where positions are stored.

Before a file is written, the position of its last record is stored as `until`; after it is durable, as
`after`. So whoever goes on after a crash reads exactly the records of the files that may be there, and
gives them the same names. And a second drain of the stream loses the race for the version before it
has written anything.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import BaseModel, ConfigDict

STREAM, TOUCHED = "stream", "touched"
"""Keys beside those of shards: what tells this stream from one of the same name before it, and the
partitions with files that nobody has been told of."""


class Position(BaseModel):
    """`after`: the last record that has landed; None before the first. `through`: every record that
    arrived before this time has. `until`: the last record of files that are being written, which
    begin after `after`. `ended`: the shard is closed, and all of it has landed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: str | None = None
    through: str = ""
    until: str | None = None
    ended: bool = False

    def text(self) -> str:
        return self.model_dump_json(exclude_defaults=True)


class PositionStore(Protocol):
    """Positions of every dataset, each set with a version that counts its changes."""

    def read(self, dataset: str) -> tuple[dict[str, str], int]:
        """The positions and their version; nothing and 0 for a dataset that has none."""
        ...

    def write(self, dataset: str, positions: Mapping[str, str], version: int) -> int:
        """Replaces the positions if they still have this version; returns the next one. Raises
        ConflictError if they have another."""
        ...


@dataclass
class Progress:
    """The positions of one stream while it is drained, by several threads at once."""

    store: PositionStore
    dataset: str
    _stored: dict[str, str] = field(default_factory=dict)
    _version: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, store: PositionStore, dataset: str, stream: str) -> Progress:
        """Those of a stream, which `stream` tells from an earlier one of the same name: its positions
        mean nothing in this one."""
        stored, version = store.read(dataset)
        if stored.get(STREAM) != stream:
            stored = {STREAM: stream} | {k: v for k, v in stored.items() if k == TOUCHED}
        return cls(store, dataset, stored, version)

    @property
    def positions(self) -> dict[str, Position]:
        with self._lock:
            shards = {k: v for k, v in self._stored.items() if k not in (STREAM, TOUCHED)}
        return {shard: Position.model_validate_json(text) for shard, text in shards.items()}

    @property
    def touched(self) -> list[str]:
        """The partitions with files that nobody has been told of, from drains that died too."""
        with self._lock:
            return sorted(filter(None, self._stored.get(TOUCHED, "").split(",")))

    def advance(self, shard: str, position: Position, touched: Iterable[str] = ()) -> None:
        """Raises ConflictError if another drain has stored something since this one began."""
        partitions = {*self.touched, *touched}
        with self._lock:
            partitions |= set(filter(None, self._stored.get(TOUCHED, "").split(",")))
            self._save(
                self._stored | {shard: position.text(), TOUCHED: ",".join(sorted(partitions))}
            )

    def told(self, partitions: Iterable[str]) -> None:
        """Forgets partitions, once what follows from their files has been asked for."""
        left = sorted(set(self.touched) - set(partitions))
        with self._lock:
            self._save(self._stored | {TOUCHED: ",".join(left)})

    def _save(self, positions: dict[str, str]) -> None:
        self._version = self.store.write(self.dataset, positions, self._version)
        self._stored = positions
