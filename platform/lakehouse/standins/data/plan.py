"""What makes one sample delivery the same every time: its seed, scale, first day and hashed draws.

Here: the settings of a delivery and the pure functions that turn (seed, purpose, id) into numbers.
Not here: data, files, faults. Every value is a hash of the id that it belongs to, never the next
number of a running generator: so a day comes out the same whether it is generated alone or among
others, and delivering more days later changes nothing of the earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b

import numpy as np
import pyarrow as pa

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
CYCLE = 14
"""Days over which one full set of TPC-H orders is spread, and after which dated faults recur."""


@dataclass(frozen=True)
class Draw:
    """Uniform draws for one purpose: one hashed value per id, independent of all other purposes."""

    salt: int

    def bits(self, ids: np.ndarray) -> np.ndarray:
        """64 well-mixed bits per id (the finaliser of splitmix64 over id and salt)."""
        with np.errstate(over="ignore"):
            x = np.asarray(ids).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            x = x + np.uint64(self.salt)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            return x ^ (x >> np.uint64(31))

    def unit(self, ids: np.ndarray) -> np.ndarray:
        """A float in [0, 1) per id."""
        return (self.bits(ids) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def below(self, ids: np.ndarray, n: int) -> np.ndarray:
        """An integer in [0, n) per id."""
        return (self.unit(ids) * n).astype(np.int64)

    def one_of(self, ids: np.ndarray, choices: Sequence[str]) -> pa.Array:
        """One of the choices per id, as an Arrow string array."""
        return pa.array(choices, pa.string()).take(pa.array(self.below(ids, len(choices))))

    def first(self, ids: np.ndarray, n: int) -> np.ndarray:
        """Positions of the n ids that a shuffle of them would put first, in that order."""
        order = self.bits(ids)
        n = min(n, len(order))
        if n == 0:
            return np.empty(0, np.int64)
        head = np.argpartition(order, n - 1)[:n] if n < len(order) else np.arange(len(order))
        return head[np.argsort(order[head], kind="stable")]


@dataclass(frozen=True)
class Plan:
    """The settings of one delivery. The same plan gives the same bytes of data."""

    seed: int
    scale: float
    start: date
    faults: bool

    def day(self, index: int) -> date:
        return self.start + timedelta(days=index)

    def partition(self, index: int) -> str:
        return self.day(index).isoformat()

    def midnight(self, index: int) -> int:
        """Microseconds since the epoch at 00:00 UTC of the day."""
        return epoch_us(self.day(index))

    def draw(self, *purpose: object) -> Draw:
        text = ":".join(str(part) for part in (self.seed, *purpose))
        return Draw(int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big"))

    def history(self, ids: np.ndarray, purpose: str) -> np.ndarray:
        """A moment per id in the January before the first day: when old records last changed."""
        year = self.start.year if self.start >= date(self.start.year, 2, 1) else self.start.year - 1
        january = epoch_us(date(year, 1, 1))
        return january + self.draw(purpose, "history").below(ids, 31 * 86_400) * 1_000_000

    def moments(self, ids: np.ndarray, purpose: str, index: int) -> np.ndarray:
        """A moment per id within the day, to the millisecond, leaving its last hour free."""
        ms = self.draw(purpose, "moment").below(ids, 23 * 3_600_000)
        return self.midnight(index) + ms * 1_000


def epoch_us(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000


def timestamps(us: np.ndarray) -> pa.Array:
    """Microseconds since the epoch as Arrow timestamps in UTC."""
    return pa.array(np.asarray(us, np.int64), pa.timestamp("us", tz="UTC"))
