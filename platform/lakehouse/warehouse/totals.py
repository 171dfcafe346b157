"""What a table's rows add up to, told alike by the lake and by the warehouse.

Belongs here: the one query that both run, in two dialects, and the arithmetic of its answers: totals of
rows that came and went add up to the totals of the whole. Does not belong here: running it.

Counted are rows and values per column, summed are numbers, and every row's scalar values are hashed,
with its key among them, and the hashes summed. A row that is missing, doubled, or differs in a value is
therefore seen, whatever the order of rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from spark_jobs.contract.model import Column, Contract

Dialect = Literal["duckdb", "redshift"]
_DIGITS = 12  # of each hash: the sum of a thousand million of them has less than 38 digits
_TEXT = {
    ("duckdb", "date"): "strftime({0}, '%Y-%m-%d')",
    ("duckdb", "timestamp"): "strftime({0}, '%Y-%m-%d %H:%M:%S.%f')",
    ("redshift", "date"): "to_char({0}, 'YYYY-MM-DD')",
    ("redshift", "timestamp"): "to_char({0}, 'YYYY-MM-DD HH24:MI:SS.US')",
}


@dataclass(frozen=True)
class Totals:
    """What rows add up to: by name, `rows`, `hash`, and of columns `count(…)` and `sum(…)`."""

    values: Mapping[str, Decimal] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return int(self.values.get("rows", 0))

    def plus(self, other: Totals) -> Totals:
        return self._with(other, 1)

    def minus(self, other: Totals) -> Totals:
        return self._with(other, -1)

    def _with(self, other: Totals, sign: int) -> Totals:
        names = dict.fromkeys((*self.values, *other.values))
        zero = Decimal(0)
        return Totals(
            {n: self.values.get(n, zero) + sign * other.values.get(n, zero) for n in names}
        )

    def differences(self, found: Totals) -> list[str]:
        """What `found` has otherwise, as `name: expected, found`. Names of columns, and no values
        but sums of many."""
        return [
            f"{name}: {self.values.get(name, 0)} expected, {found.values.get(name, 0)} found"
            for name in dict.fromkeys((*self.values, *found.values))
            if self.values.get(name, 0) != found.values.get(name, 0)
        ]

    def to_json(self) -> str:
        return json.dumps({n: str(v) for n, v in self.values.items()})

    @classmethod
    def from_json(cls, text: str) -> Totals:
        return cls({n: Decimal(v) for n, v in json.loads(text).items()})

    @classmethod
    def of(cls, contract: Contract, row: Sequence[object]) -> Totals:
        """Of an answer to `query`; a sum over no rows is null there."""
        return cls(
            {
                name: Decimal(str(value or 0))
                for name, value in zip(_names(contract), row, strict=True)
            }
        )


def query(contract: Contract, relation: str, dialect: Dialect) -> str:
    """The totals of a relation with the contract's columns, as one row."""
    hashed = "|| '|' ||".join(_text(c, dialect) for c in _scalar(contract))
    digits = f"substring(md5({hashed}), 1, {_DIGITS})"
    number = f"strtol({digits}, 16)" if dialect == "redshift" else f"('0x' || {digits})::bigint"
    parts = ["count(*)", f"sum(cast({number} as decimal(38,0)))"]
    for c in contract.columns:
        parts.append(f'count("{c.name}")')
        if _summed(c):
            parts.append(f'sum(cast("{c.name}" as decimal(38,{_scale(c)})))')
    return f"select {', '.join(parts)} from {relation}"


def _names(contract: Contract) -> list[str]:
    names = ["rows", "hash"]
    for c in contract.columns:
        names.append(f"count({c.name})")
        if _summed(c):
            names.append(f"sum({c.name})")
    return names


def _scalar(contract: Contract) -> list[Column]:
    return [c for c in contract.columns if not c.type.startswith("array")]


def _summed(column: Column) -> bool:
    return column.type in ("int", "bigint") or column.type.startswith("decimal")


def _scale(column: Column) -> str:
    return column.type[8:-1].split(",")[1] if column.type.startswith("decimal") else "0"


def _text(column: Column, dialect: Dialect) -> str:
    """A value as the same text in both; no text is a null."""
    name = f'"{column.name}"'
    if column.type == "boolean":
        text = f"case when {name} then 'true' when not {name} then 'false' end"
    elif column.type == "string":
        text = name
    else:
        form = _TEXT.get((dialect, column.type), "cast({0} as varchar)")
        text = form.format(name)
    return f"coalesce({text}, '~')"
