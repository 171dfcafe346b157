"""Asset checks: declared from the contract, evaluated from reports and the ledger.

Belongs here: check specs, and the one evaluation per check and run that Dagster gets.
Does not belong here: deciding whether a partition passes; the data plane's gate has done that
before anything was published.

A check of a table holds when every partition of it passes, so an evaluation looks at the whole
ledger: a bad day keeps its check failed until that day is mended, whatever other days do since.
One evaluation covers the range of a run and lists the failing partitions. An evaluation for each
partition would be 14,000 events in a first run of hourly tables, and the results of each
partition are in its materialization and in the ledger anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from lakehouse.governance.masking import Masking
from lakehouse.keys import BEFORE, FOUND, NOW, UNEVALUATED, asset_key
from lakehouse.partitions import span
from spark_jobs import quoting
from spark_jobs.contract.checks import LOOKUPS_CURRENT, ROW_COUNT, declared
from spark_jobs.contract.model import Contract
from spark_jobs.lake.row import LedgerRow
from spark_jobs.report import Check, PartitionReport, TableReport

COST_WITHIN_BUDGET = "cost_within_budget"
"""Of a table whose budget is set: what a partition cost, in the mean of a run."""

NEVER = "could not be evaluated: the partition failed before, and no other has passed yet"
SHOWN = 20
"""Failing partitions that an evaluation lists."""


def check_specs(contract: Contract, budget: float | None = None) -> list[dg.AssetCheckSpec]:
    """One spec per check that the contract brings, and one for a budget."""
    found = _of_contract(contract)
    if budget is not None:
        said = f"A partition costs at most {budget:g}, in the mean of a run"
        found.append(
            dg.AssetCheckSpec(COST_WITHIN_BUDGET, asset=asset_key(contract.table), description=said)
        )
    return found


def _of_contract(contract: Contract) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            name=check.name,
            asset=asset_key(contract.table),
            description=check.description,
            blocking=check.blocking,
        )
        for check in declared(contract)
    ]


@dataclass(frozen=True)
class State:
    """One check over all partitions of a table: which fail it, which this run evaluated it for,
    and which failed before it could (nothing delivered, an unreadable file)."""

    name: str
    blocking: bool
    failing: Mapping[str, Check] = field(default_factory=dict)
    evaluated: Sequence[str] = ()
    unevaluated: Sequence[str] = ()
    last: Check | None = None

    @property
    def failing_now(self) -> list[str]:
        return sorted(set(self.failing) & {*self.evaluated, *self.unevaluated})

    @property
    def found(self) -> str:
        """Whether this run found it failing, or could not evaluate it, or neither."""
        if not self.failing_now:
            return BEFORE
        judged = [p for p in self.failing_now if self.failing[p].detail != NEVER]
        return NOW if judged else UNEVALUATED


def states(contract: Contract, report: TableReport, history: Sequence[LedgerRow]) -> list[State]:
    """What every check of the table says after this run, in the contract's order.

    `history` is the table's ledger, oldest first. Partitions without work in this run keep what
    their last real run said.
    """
    judged = [p for p in report.partitions if p.status != "unchanged"]
    failing = _failing_before(history)
    failing |= {p.partition: {c.name: c for c in _failures(p)} for p in judged}
    made = {p.partition: {c.name: c for c in p.checks} for p in judged}
    ever = any(row.status in ("published", "empty") for row in history)
    found = []
    for check in declared(contract):
        name = check.name
        if check.made == "lookups":
            continue
        failed = {p: checks[name] for p, checks in failing.items() if name in checks}
        evaluated = [p for p in made if name in made[p] or p in failed]
        unevaluated = [p.partition for p in report.failed if p.partition not in evaluated]
        if unevaluated and not evaluated and not ever:
            # What has never been evaluated has not passed.
            failed |= {p: Check(name=name, passed=False, detail=NEVER) for p in unevaluated}
        if check.of_table and evaluated:
            # What earlier runs measured is over: this run has measured the same table again.
            failed = {p: c for p, c in failed.items() if p in evaluated}
        last = next((made[p][name] for p in reversed(evaluated) if name in made[p]), None)
        found.append(State(name, check.blocking, failed, evaluated, unevaluated, last))
    return found


def _failing_before(history: Sequence[LedgerRow]) -> dict[str, dict[str, Check]]:
    newest = {row.partition: row for row in history if row.status != "unchanged"}
    return {p: {c.name: c for c in failures_of(row)} for p, row in newest.items()}


def failures_of(row: LedgerRow) -> list[Check]:
    """The failed checks of one row of the ledger."""
    report = PartitionReport(
        partition=row.partition, status=row.status, checks=row.failed_checks, error=row.error
    )
    return list(_failures(report))


def _failures(partition: PartitionReport) -> Iterator[Check]:
    """The checks that failed. A partition that failed before any check could be made (nothing
    delivered, an unreadable file) fails its row count: what cannot be evaluated has not passed."""
    failed = [c for c in partition.checks if not c.passed]
    yield from failed
    if partition.status == "failed" and not any(c.blocking for c in failed):
        yield Check(name=ROW_COUNT, passed=False, blocking=True, detail=partition.error, observed=0)


def evaluation(contract: Contract, state: State, masking: Masking, report: TableReport) -> Any:
    """The event that Dagster records for one check of one run."""
    metadata: dict[str, Any] = {"partitions evaluated": span(state.evaluated)}
    shown = state.last
    if state.failing:
        shown = max(state.failing.values(), key=lambda c: (c.failing_rows, c.observed or 0))
        metadata |= {
            "failing rows": sum(c.failing_rows for c in state.failing.values()),
            "failing partitions": len(state.failing),
            FOUND: state.found,
            "failures": dg.MetadataValue.md(_table(state, masking)),
        }
        sample = masking.sample(report.quarantine_sample, rule=state.name, rows=3)
        if sample:
            metadata["sample"] = dg.MetadataValue.json(sample)
    if shown is not None and shown.threshold and shown.observed is not None:
        metadata |= {"observed": float(shown.observed), "threshold": shown.threshold}
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(contract.table),
        check_name=state.name,
        passed=not state.failing,
        severity=dg.AssetCheckSeverity.ERROR if state.blocking else dg.AssetCheckSeverity.WARN,
        description=_summary(state, masking),
        metadata=metadata,
    )


def lookups_evaluation(contract: Contract, stale: Mapping[str, str]) -> dg.AssetCheckEvaluation:
    """Which partitions looked up rows that have changed since, as of now."""
    metadata: dict[str, Any] = {"stale partitions": len(stale)}
    if stale:
        rows = [
            f"| {p} | {quoting.markdown(why)} |"
            for p, why in sorted(stale.items(), reverse=True)[:SHOWN]
        ]
        if len(stale) > SHOWN:
            rows.append(f"| … | and {len(stale) - SHOWN} more partitions |")
        metadata["stale"] = dg.MetadataValue.md(
            "\n".join(["| partition | why |", "|---|---|", *rows])
        )
    said = "; ".join(dict.fromkeys(stale.values()))
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(contract.table),
        check_name=LOOKUPS_CURRENT,
        passed=not stale,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Stale: {span(list(stale))}: {said}. The gap filler runs them"
        if stale
        else "What partitions looked up is as it was",
        metadata=metadata,
    )


def cost_evaluation(
    contract: Contract, report: TableReport, budget: float
) -> dg.AssetCheckEvaluation:
    """Whether what the run cost, divided by its partitions, is within the budget. A cost that nobody
    knows is not."""
    cost = report.job.cost if report.job is not None else None
    each = None if cost is None else cost / max(1, len(report.partitions))
    currency = report.job.currency if report.job is not None else ""
    metadata: dict[str, Any] = {"budget": budget, FOUND: NOW}
    if cost is not None and each is not None:
        metadata |= {"cost of the run": cost, "observed": each}
        said = f"A partition cost {each:.4f} {currency} in the mean, of {budget:g}"
    else:
        said = "The service has not said what the run used"
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(contract.table),
        check_name=COST_WITHIN_BUDGET,
        passed=each is not None and each <= budget,
        severity=dg.AssetCheckSeverity.WARN,
        description=said,
        metadata=metadata,
    )


def _summary(state: State, masking: Masking) -> str:
    if not state.failing:
        if state.unevaluated:
            return f"Not evaluated for {span(state.unevaluated)}: failed before, see row_count"
        if not state.evaluated:
            return "Nothing changed since it last passed"
        return f"Holds for {span(state.evaluated)}"
    now = state.failing_now
    before = sorted(set(state.failing) - set(now))
    parts = [f"{p}: {reason(state.failing[p], masking)}" for p in now[-3:]]
    if len(now) > 3:
        parts.append(f"and {len(now) - 3} more partitions")
    if before:
        parts.append(f"still failing from earlier runs: {span(before)}")
    return "; ".join(parts)


def reason(check: Check, masking: Masking) -> str:
    """Why a check failed, in one line."""
    detail = masking.text(check.name, check.detail)
    if not check.threshold:
        return detail
    text = "" if check.observed is None else _compared(check.observed, check.threshold)
    return f"{text} ({detail})" if detail else text


def _compared(observed: float, threshold: str) -> str:
    """`100% of rows read, must be <= 5%` for 1 and `<= 0.05 of rows read`."""
    sign, bound, *unit = threshold.split(" ")
    share = unit[:1] == ["of"]
    seen, allowed = (
        f"{value * 100:.3g}%" if share and abs(value) < 10 else f"{value:g}"
        for value in (observed, float(bound))
    )
    return " ".join([seen, *unit]) + f", must be {sign} {allowed}"


def _table(state: State, masking: Masking) -> str:
    rows = ["| partition | failing rows | reason |", "|---|---:|---|"]
    for partition in sorted(state.failing, reverse=True)[:SHOWN]:
        check = state.failing[partition]
        text = quoting.markdown(reason(check, masking))
        rows.append(f"| {quoting.markdown(partition)} | {check.failing_rows} | {text} |")
    if len(state.failing) > SHOWN:
        rows.append(f"| … | | and {len(state.failing) - SHOWN} more partitions |")
    return "\n".join(rows)
