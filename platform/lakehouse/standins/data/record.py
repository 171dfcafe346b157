"""What a delivery remembers of each day: the counts from which the answer sheet follows.

Here: the tally of one table and partition, and its JSON form. Not here: how answers follow from
tallies (`answers.py`), and what is planted (the sources, `faults.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Tally:
    """One delivered table and partition, counted while it is generated.

    `repeated` names the valid records whose key is delivered more than once, in this partition or
    in an earlier one: [key, sequence, copies]. `earlier` names, for such keys, the record that
    came first: [key, partition, sequence]. All other valid records have a key of their own.
    """

    dataset: str
    partition: str
    read: int = 0
    unreadable: int = 0
    quarantined: int = 0
    filtered: int = 0
    bronze_rules: Counter[str] = field(default_factory=Counter)
    silver_rules: Counter[str] = field(default_factory=Counter)
    repeated: list[list[Any]] = field(default_factory=list)
    earlier: list[list[Any]] = field(default_factory=list)
    drift: dict[str, list[str]] = field(default_factory=dict)
    planted: Counter[str] = field(default_factory=Counter)
    sensor_hours: int = 0
    """Sensor readings only: pairs of sensor and hour that this partition brings."""

    def quarantine(self, rows: int, rules: Iterable[str]) -> None:
        """Rows that silver turns away, each breaking all of these rules."""
        self.quarantined += rows
        self.breaks(rows, rules)

    def breaks(self, rows: int, rules: Iterable[str]) -> None:
        """Rows that break these silver rules, their outcome being counted elsewhere."""
        for rule in rules:
            if rows:
                self.silver_rules[rule] += rows

    def unread(self, rows: int, rules: Iterable[str]) -> None:
        """Rows that bronze cannot read."""
        self.unreadable += rows
        for rule in rules:
            if rows:
                self.bronze_rules[rule] += rows

    def plant(self, kind: str, rows: int) -> None:
        if rows:
            self.planted[kind] += rows

    def repeat(self, key: str, sequence: int, copies: int = 1) -> None:
        self.repeated.append([key, int(sequence), copies])

    def follows(self, key: str, partition: str, sequence: int) -> None:
        self.earlier.append([key, partition, int(sequence)])


@dataclass(frozen=True)
class DayRecord:
    """All tallies of one delivered day, and what was written."""

    day: str
    tallies: tuple[Tally, ...]
    files: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        return {
            "day": self.day,
            "files": self.files,
            "bytes": self.bytes,
            "tallies": [
                {k: v for k, v in vars(t).items() if v not in ({}, [], 0)} for t in self.tallies
            ],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> DayRecord:
        tallies = []
        for entry in value["tallies"]:
            for counter in ("bronze_rules", "silver_rules", "planted"):
                entry[counter] = Counter(entry.get(counter, {}))
            tallies.append(Tally(**entry))
        return cls(value["day"], tuple(tallies), value["files"], value["bytes"])
