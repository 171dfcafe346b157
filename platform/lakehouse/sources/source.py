"""What a source is to the rest of the platform: something that yields rows of a span of time.

Belongs here: the protocol, and what a pull is measured by. Does not belong here: any source, or what
becomes of its rows (extract.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

Batch: TypeAlias = "pa.RecordBatch | Sequence[Mapping[str, Any]]"
"""Rows, as few at a time as memory has room for."""

Reads = Literal["changes", "window", "all"]
"""What a pull brings: rows that changed since the one before it; those of its own window, whatever there
was before; or all rows as they are."""


@dataclass
class Meter:
    """What a pull has taken so far: a source counts its requests, and says what they cost if it can."""

    requests: int = 0
    cost_usd: float | None = None


class Source(Protocol):
    """One dataset of a source. `changed` is the column of its rows that says when a row changed last,
    where `reads` is `changes`; it is landed only if a contract has it."""

    reads: Reads
    changed: str | None

    def pull(self, since: datetime | None, until: datetime, meter: Meter) -> Iterator[Batch]:
        """The rows of the time from `since` (None: from the beginning) to before `until`, both in UTC.
        The same question has the same rows in the same order, as long as they do not change there.

        Raises what its client raises, and retries what may succeed the next time.
        """
        ...

    def check(self) -> None:
        """Returns if the connection and its secret are good for this dataset, and raises if not."""
        ...
