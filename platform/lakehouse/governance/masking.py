"""What may be shown of rows: values of columns whose class allows it, and no others.

Belongs here: masking of samples and messages by the contracts' classification. Does not belong
here: protecting the tables themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spark_jobs import quoting
from spark_jobs.contract.model import Contract

MASK = "•••"
_LONGEST = 400
# The platform's columns that say where a row came from, and nothing that is in it.
_PLATFORM = (
    "_source_system",
    "_source_file",
    "_run_ts",
    "_batch_id",
    "_partition",
    "_arrival_date",
)


@dataclass(frozen=True)
class Masking:
    """`shown`: names, in lower case, whose values may be shown; every other name is masked, those
    that no contract knows too. `rules`: the checks that look at a masked column."""

    shown: frozenset[str]
    rules: frozenset[str]

    @classmethod
    def of(cls, contract: Contract, contracts: Mapping[str, Contract]) -> Masking:
        """A value may be shown if its column has a class that says so, here and in every contract
        that it is copied from or to: records in quarantine carry the source's names."""
        known: dict[str, bool] = {n.lower(): True for n in _PLATFORM}
        concealed = set(contract.concealed)

        def learn(of: Contract) -> None:
            for column in of.columns:
                name = column.name.lower()
                known[name] = known.get(name, True) and not column.concealed

        learn(contract)
        concealed |= {
            s.rpartition(".")[2] for c in contract.columns if c.concealed for s in c.sources
        }
        for source in contract.inputs:
            learn(contracts[source.table])
        for other in contracts.values():
            for column in other.columns:
                if column.pii:
                    read = (s.rpartition(".") for s in column.sources)
                    concealed |= {name for table, _, name in read if table == contract.table}
        shown = {n for n, may in known.items() if may} - {n.lower() for n in concealed}
        rules = {r.name for r in contract.rules if r.column and r.column.lower() not in shown}
        rules |= {c.type_check for c in contract.columns if c.name.lower() not in shown}
        return cls(frozenset(shown), frozenset(rules))

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
                "source_file": quoting.plain((q.get("source_file") or "").rpartition("/")[2]),
            }
            for q in chosen[:rows]
        ]

    def record(self, text: str) -> str:
        """A quarantined record with all values masked that may not be shown. One that does not
        parse is withheld as a whole: nobody can say where in it they are."""
        try:
            parsed = json.loads(text)
        except (TypeError, ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            return f"{MASK} ({len(text or '')} characters that do not parse)"
        masked = {
            quoting.name(k): v if v is None or self._may_show(k, v) else MASK
            for k, v in parsed.items()
        }
        text = json.dumps(masked, ensure_ascii=False)
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"

    def _may_show(self, name: str, value: Any) -> bool:
        """An object within a value has names of its own, which no contract knows."""
        return name.lower() in self.shown and not isinstance(value, dict)
