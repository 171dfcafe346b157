"""Which faults a delivery plants, how many a day, and how a fault gets into a record.

Here: the vocabulary (`Fault`), the shares, the calendar of faults that concern a whole file, and
the two ways to spoil data (a column of a table, a field of a record). Not here: the faults of a
particular source; each source lists its own next to its columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.standins.data.plan import CYCLE, Draw
from lakehouse.standins.data.record import Tally

NEVER_DELIVERED = 9_000_000_000
"""Keys from here on belong to no record that is ever delivered."""

# Faults of whole files fall on one day of every fourteen (0 = the first day).
BYTE_ORDER_MARK = 2  # customer_behavior opens with one
ORDERS_EXTRA_COLUMN = 4
ACCOUNTS_EXTRA_FIELD = 5
ORDERS_PRICE_AS_TEXT = 6
ORDERS_WITHOUT_COMMENT = 8
BEHAVIOR_WITHOUT_URL_2 = 9


@dataclass(frozen=True)
class Fault:
    """One way in which a record can be wrong.

    `effect`: silver turns the row away ("quarantine"), bronze cannot read it ("unreadable"), or
    the row stays and is counted ("warn"). `breaks` are the rules that then fire.
    """

    kind: str
    column: str
    value: object
    breaks: tuple[str, ...]
    effect: Literal["quarantine", "unreadable", "warn"] = "quarantine"

    def count(self, tally: Tally, rows: int) -> None:
        tally.plant(self.kind, rows)
        if self.effect == "quarantine":
            tally.quarantine(rows, self.breaks)
        elif self.effect == "unreadable":
            tally.unread(rows, self.breaks)
        else:
            tally.breaks(rows, self.breaks)


Planted = list[tuple[Fault, np.ndarray]]
"""Faults with the positions of the rows that they spoil; no row appears twice."""


def missing(column: str, silver: str | None = None, *also: str) -> Fault:
    """A required column left empty."""
    return Fault("null", column, None, (f"{silver or column}_not_null", *also))


def falls_on(index: int, day_of_cycle: int) -> bool:
    return index % CYCLE == day_of_cycle


def how_many(rows: int, share: float, from_rows: int = 40) -> int:
    """Faults for a partition: the share, at least one where a single one stays a small part."""
    return max(int(rows * share), 1 if rows >= from_rows else 0)


def shares(total: int, kinds: int, index: int) -> list[int]:
    """Split a day's faults over their kinds; what does not divide moves on by the day."""
    return [total // kinds + ((kind - index) % kinds < total % kinds) for kind in range(kinds)]


def distribute(positions: np.ndarray, faults: Sequence[Fault], total: int, index: int) -> Planted:
    """Give the first `total` positions one fault each."""
    planted: Planted = []
    at = 0
    for fault, count in zip(
        faults, shares(min(total, len(positions)), len(faults), index), strict=True
    ):
        if count:
            planted.append((fault, positions[at : at + count]))
            at += count
    return planted


def rows_of(planted: Planted, size: int, *effects: str) -> np.ndarray:
    """Mask of the rows that have a fault with one of these effects."""
    mask = np.zeros(size, bool)
    for fault, positions in planted:
        if fault.effect in effects:
            mask[positions] = True
    return mask


def spoil_table(table: pa.Table, planted: Planted) -> pa.Table:
    """The table with the faults put in place."""
    for fault, positions in planted:
        mask = np.zeros(len(table), bool)
        mask[positions] = True
        at = table.schema.get_field_index(fault.column)
        field = table.schema.field(at)
        spoiled = pc.if_else(pa.array(mask), pa.scalar(fault.value, field.type), table.column(at))
        table = table.set_column(at, field, spoiled)
    return table


def spoil_records(records: list[dict[str, Any]], planted: Planted) -> set[int]:
    """Put the faults into records in place; returns the positions to be cut short as text."""
    cut: set[int] = set()
    for fault, positions in planted:
        for position in positions:
            if fault.effect == "unreadable":
                cut.add(int(position))
            else:
                records[position][fault.column] = fault.value
    return cut


def shuffled(draw: Draw, ids: np.ndarray, usable: np.ndarray, n: int) -> np.ndarray:
    """Up to n positions of usable rows, in a fixed random order."""
    candidates = np.flatnonzero(usable)
    return candidates[draw.first(np.asarray(ids)[candidates], n)]
