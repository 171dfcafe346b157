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
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from lakehouse.sources.cursors import Cursor, Cursors

STREAM = "stream"
"""The key beside those of shards: what tells this stream from one of the same name before it."""
UNANSWERED = "unanswered"
"""Another: the first window that has not been answered yet, if only with nothing."""


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


@dataclass
class Progress:
    """The positions of one stream while it is drained, by several threads at once."""

    cursors: Cursors
    cursor: Cursor
    _unknown: Cursor | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, cursors: Cursors, dataset: str, stream: str) -> Progress:
        """Those of a stream, which `stream` tells from an earlier one of the same name: its positions
        mean nothing in this one."""
        cursor = cursors.read(dataset)
        if cursor.positions.get(STREAM) != stream:
            cursor = Cursor(dataset, {STREAM: stream}, cursor.version)
        return cls(cursors, cursor)

    @property
    def positions(self) -> dict[str, Position]:
        others = (STREAM, UNANSWERED)
        stored = self.cursor.positions.items()
        return {k: Position.model_validate_json(text) for k, text in stored if k not in others}

    @property
    def unanswered(self) -> str:
        """The first window that has not been answered; empty before the first drain."""
        return self.cursor.positions.get(UNANSWERED, "")

    def answer(self, up_to: str) -> None:
        """Stores that the windows before this one have been answered, as `advance` stores."""
        self._store(UNANSWERED, up_to)

    def advance(self, shard: str, position: Position) -> None:
        self._store(shard, position.text())

    def _store(self, key: str, text: str) -> None:
        """Raises ConflictError if another drain has stored something since this one began.

        What an advance has raised may have come after it was stored: nobody knows until it is read. So
        the next one, of another thread, looks first, and does not take its own drain for another.
        """
        with self._lock:
            if self._unknown and self.cursors.read(self.cursor.dataset) == self._unknown:
                self.cursor = self._unknown
            positions = {**self.cursor.positions, key: text}
            self._unknown = Cursor(self.cursor.dataset, positions, self.cursor.version + 1)
            self.cursor = self.cursors.advance(self.cursor, positions)
            self._unknown = None
