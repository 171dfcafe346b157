"""The checks of a table: one registry of their names, what each says, and whether it closes the gate.

Belongs here: which checks a contract brings, known before any run, so that the orchestrator can declare
them. Does not belong here: evaluating one (gate.py, lookups.py) or showing it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from spark_jobs.contract.model import Contract, Rule

# When a check is made: with the audited rows of a partition, with the files that a batch has published
# (a partition that failed has none of those), or by comparing what was looked up with what is there.
Made = Literal["audit", "files", "lookups"]


@dataclass(frozen=True)
class CheckKind:
    """A check that the platform makes of every table to which it `applies`. One `of_table` is about
    the whole table as it is now, not about the partition whose run measured it."""

    name: str
    blocking: bool
    description: str | Callable[[Contract], str]
    made: Made = "audit"
    of_table: bool = False
    applies: Callable[[Contract], bool] = lambda _: True


def _is_text(contract: Contract) -> bool:
    return contract.source is not None and contract.source.format != "parquet"


ROW_COUNT = "row_count"
SCHEMA_DRIFT = "schema_drift"
KEY_UNIQUE = "key_unique"
LOOKUPS_CURRENT = "lookups_current"

KINDS = {
    kind.name: kind
    for kind in (
        CheckKind("row_balance", True, "Every row read is accounted for"),
        CheckKind(ROW_COUNT, True, "A due partition was delivered, could be read, and has rows"),
        CheckKind(
            "quarantine_rate",
            True,
            "The share of rows that left for quarantine is within its bound",
        ),
        CheckKind("few_rows", False, "A due partition has as many rows as usually come"),
        CheckKind(
            "duplicate_rate",
            False,
            "The share of rows that lost against a newer or equal one is within its bound",
        ),
        CheckKind(
            "null_rate", False, "The share of rows without a required value is within its bound"
        ),
        CheckKind(
            "freshness",
            False,
            "The newest row of a partition is not too old at the partition's end",
        ),
        CheckKind("volume", False, "The partition's size is near that of the partitions before it"),
        CheckKind(
            "small_files",
            False,
            "The table has no more files per physical partition than its size needs",
            made="files",
            of_table=True,
        ),
        CheckKind(
            "null_drift",
            False,
            "The batch has no larger share of nulls in any column than the table had before",
            made="files",
        ),
        CheckKind(
            SCHEMA_DRIFT,
            False,
            "The source delivers the columns of the contract, no more and no fewer",
            applies=lambda c: c.source is not None,
        ),
        CheckKind("parsable", False, "Every record could be parsed", applies=_is_text),
        CheckKind(
            KEY_UNIQUE, True, "No key occurs twice", applies=lambda c: c.grain == "aggregate"
        ),
        CheckKind(
            LOOKUPS_CURRENT,
            False,
            lambda c: (
                f"Rows of {', '.join(c.lookups)} that partitions of the last {c.lookback_days} days"
                " looked up are as they were"
            ),
            made="lookups",
            applies=lambda c: bool(c.lookups),
        ),
    )
}


@dataclass(frozen=True)
class Declared:
    """One check of one table; `rule` if it is one of its contract's."""

    name: str
    blocking: bool
    description: str
    made: Made = "audit"
    of_table: bool = False
    rule: Rule | None = None


def declared(contract: Contract) -> list[Declared]:
    """Every check that a partition of this table gets, the platform's first."""
    return list(_declared(contract))


def _declared(contract: Contract) -> Iterator[Declared]:
    for kind in KINDS.values():
        if kind.applies(contract):
            said = (
                kind.description
                if isinstance(kind.description, str)
                else kind.description(contract)
            )
            yield Declared(kind.name, kind.blocking, said, kind.made, kind.of_table)
    if contract.source and contract.source.format == "parquet":
        for c in contract.columns:
            if c.type != "string":
                said = f"Values of {c.name} have the contract's type"
                yield Declared(c.type_check, False, said)
    for rule in contract.rules:
        yield Declared(rule.name, _blocks(rule), _describe(rule), rule=rule)


def _blocks(rule: Rule) -> bool:
    """A rule closes the gate if it has a threshold, or if no row can leave in its place."""
    return rule.max_failing is not None or (rule.severity == "error" and not rule.spec.per_row)


def _describe(rule: Rule) -> str:
    body = rule.spec.model_dump(exclude={"rule"}, exclude_defaults=True)
    terms = ", ".join(f"{k} {_terse(v)}" for k, v in body.items())
    left = "rows that break it are quarantined" if rule.severity == "error" else "rows stay"
    return f"{rule.column or 'row'}: {rule.kind}{f' ({terms})' if terms else ''}; {left}"


def _terse(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
