"""Personal data never reaches an event log: which columns hold it, and masking what is shown.

Belongs here: masking of samples and messages by the contracts' classification. Does not belong
here: protecting the tables themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spark_jobs.contract import Contract

MASK = "•••"
_LONGEST = 400


@dataclass(frozen=True)
class Masking:
    """`columns`: names, in lower case, under which this table or its source has personal data;
    `rules`: the checks that look at such a column."""

    columns: frozenset[str]
    rules: frozenset[str]

    @classmethod
    def of(cls, contract: Contract, contracts: Mapping[str, Contract]) -> Masking:
        """A column is personal if its own contract says so, if it is the source of one that is,
        or if it is copied from one: records in quarantine carry the source's names."""
        columns = {c.name for c in contract.columns if c.pii}
        columns |= {s.rpartition(".")[2] for c in contract.columns if c.pii for s in c.sources}
        for other in contracts.values():
            for column in other.columns:
                if column.pii:
                    read = (s.rpartition(".") for s in column.sources)
                    columns |= {name for table, _, name in read if table == contract.table}
        rules = {r.name for r in contract.rules if r.column in columns}
        rules |= {f"{c}_type" for c in columns}
        return cls(frozenset(c.lower() for c in columns), frozenset(rules))

    def text(self, check: str, detail: str) -> str:
        """The detail of a check, unless it may quote personal data."""
        return MASK if detail and check in self.rules else detail

    def sample(
        self, quarantined: Iterable[Mapping[str, Any]], *, rule: str | None = None, rows: int = 10
    ) -> list[dict[str, Any]]:
        """A few quarantined rows (of one rule, or of all) that may be shown."""
        chosen = [q for q in quarantined if rule is None or rule in (q.get("rules") or ())]
        return [
            {
                "partition": q.get("partition"),
                "rules": list(q.get("rules") or ()),
                "record": self.record(q.get("record") or ""),
                "source_file": (q.get("source_file") or "").rpartition("/")[2],
            }
            for q in chosen[:rows]
        ]

    def record(self, text: str) -> str:
        """A quarantined record with its personal values masked. One that does not parse is
        withheld as a whole if it may hold any: nobody can say where in it they are."""
        try:
            parsed = json.loads(text)
        except (TypeError, ValueError):
            parsed = None
        if isinstance(parsed, dict):
            return _short(json.dumps(self._mask(parsed), ensure_ascii=False))
        if self.columns:
            return f"{MASK} ({len(text or '')} characters that do not parse)"
        return _short(text or "")

    def _mask(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            if name == "_rescued":  # columns that no contract classifies
                return dict.fromkeys(value, MASK)
            return {k: self._mask(v, k) for k, v in value.items()}
        if isinstance(value, list) and name.lower() not in self.columns:
            return [self._mask(v) for v in value]
        if name == "_rescued" and value:
            return MASK
        if value is None or name.lower() not in self.columns:
            return value
        return MASK


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
