"""Turns what was counted in a partition into checks. A failed blocking check is a closed gate.

Belongs here: thresholds. Does not belong here: row rules (rules.py) or publishing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING

from spark_jobs import quoting
from spark_jobs.contract.model import HISTORY_COLUMNS, Contract, Rule
from spark_jobs.report import Check, Counts

if TYPE_CHECKING:
    from spark_jobs.batch.audit import Staged
    from spark_jobs.lake.delta import ActiveFile

# Names of the checks that every partition gets, beside one per rule.
GATE_CHECKS = ("row_balance", "row_count", "quarantine_rate")
WARN_CHECKS = ("few_rows", "duplicate_rate", "null_rate", "freshness", "volume")
# Made once the batch is published, so that a partition that failed has none of them.
FILE_CHECKS = ("small_files", "null_drift")
# About the whole table as it is now, not about the partition whose run measured it.
TABLE_CHECKS = ("small_files",)
# A partition of larger files than this may have as many as it needs.
_FILE_BYTES = 16 * 2**20
_MICROSECOND = timedelta(microseconds=1)


def check_names(contract: Contract) -> list[tuple[str, bool]]:
    """Every check that a partition of this table gets, and whether it blocks; known before any
    run, so that the orchestrator can declare them."""
    names = [(n, True) for n in GATE_CHECKS] + [(n, False) for n in (*WARN_CHECKS, *FILE_CHECKS)]
    if contract.source:
        names.append(("schema_drift", False))
        if contract.source.format == "parquet":
            names += [(f"{c.name}_type", False) for c in contract.columns if c.type != "string"]
        else:
            names.append(("parsable", False))
    if contract.grain == "aggregate":
        names.append(("key_unique", True))
    return names + [(r.name, _blocks(r)) for r in contract.rules]


def _blocks(rule: Rule) -> bool:
    """A rule closes the gate if it has a threshold, or if no row can leave in its place."""
    return rule.max_failing is not None or (rule.kind == "unique" and rule.severity == "error")


def partition_end(partition: str) -> datetime:
    """The end of an arrival window, exclusive, UTC."""
    hourly = "T" in partition
    start = datetime.fromisoformat(f"{partition}:00" if hourly else partition)
    return start.replace(tzinfo=UTC) + (timedelta(hours=1) if hourly else timedelta(days=1))


def share(rows: int, of: int) -> Fraction:
    return Fraction(rows, of) if of else Fraction(0)


def within(value: Fraction, bound: float) -> bool:
    """Whether a value is at most its bound, as the bound is written: one row in ten million is
    more than none."""
    return value <= _exact(bound)


def shown(value: Fraction, bound: float, digits: int = 6) -> float:
    """A value to read: rounded, unless it would then be its bound without being it."""
    rounded = round(float(value), digits)
    return float(value) if rounded == bound and value != _exact(bound) else rounded


def _exact(bound: float) -> Fraction | float:
    return Fraction(repr(bound)) if math.isfinite(bound) else bound


def checks(
    contract: Contract,
    partition: str,
    staged: Staged,
    counts: Counts,
    *,
    rows_due: bool,
    earlier: list[int],
    drift: list[str],
    altered: bool = False,
) -> list[Check]:
    """The checks of one partition before it is published. `rows_due` says whether an empty
    partition is a fault; `earlier` are the rows read by the partitions before it; `altered` that the
    records with an outcome are not those that were read, however many they are."""
    gates, failing = contract.gates, staged.failing.get(partition, {})
    evaluated = counts.read - counts.filtered

    def bounded(name: str, rows: int, bound: float, unit: str, **more: object) -> Check:
        rate = share(rows, counts.read)
        return Check(
            name=name,
            passed=within(rate, bound),
            observed=shown(rate, bound),
            threshold=f"<= {bound:g} {unit}",
            failing_rows=rows,
            evaluated_rows=counts.read,
            **more,
        )

    def at_least(name: str, rows: int, **more: object) -> Check:
        least = rows if rows_due else 0
        return Check(
            name=name,
            # Rows that were filtered are no rows of the table: with nothing else there is nothing.
            passed=evaluated >= least,
            observed=evaluated,
            threshold=f">= {least} rows",
            evaluated_rows=counts.read,
            **more,
        )

    out = [
        Check(
            name="row_balance",
            passed=counts.read == counts.accounted and not altered,
            blocking=True,
            observed=counts.read - counts.accounted,
            threshold="= 0 rows",
            evaluated_rows=counts.read,
            detail=f"{counts.read} rows read, {counts.accounted} accounted for"
            + (", but not the same ones" if altered and counts.read == counts.accounted else ""),
        ),
        at_least("row_count", gates.min_rows, blocking=True),
        at_least("few_rows", gates.expected_rows, severity="warn"),
        bounded(
            "quarantine_rate",
            counts.quarantined,
            gates.max_quarantine_rate,
            "of rows read",
            blocking=True,
        ),
        bounded(
            "duplicate_rate",
            counts.duplicate,
            gates.max_duplicate_rate,
            "of rows read",
            severity="warn",
        ),
    ]
    nulls = max((n for r, n in failing.items() if r.endswith("_not_null")), default=0)
    out.append(
        bounded(
            "null_rate",
            nulls,
            gates.max_null_rate,
            "nulls in a required column",
            severity="warn",
        )
    )
    out.append(_freshness(contract, partition, staged))
    out.append(_volume(contract, counts.read, earlier))
    if contract.source:
        out.append(
            Check(
                name="schema_drift",
                passed=not drift,
                severity="warn",
                observed=len(drift),
                threshold="= 0 columns",
                detail=quoting.some(drift, "; "),
            )
        )
    if contract.grain == "aggregate":
        repeated = staged.key_duplicates.get(partition, 0)
        out.append(
            Check(
                name="key_unique",
                passed=repeated == 0,
                blocking=True,
                observed=repeated,
                threshold="= 0 keys",
                failing_rows=repeated,
                evaluated_rows=counts.read,
            )
        )
    rules = {r.name: r for r in contract.rules}
    declared = {n for n, _ in check_names(contract)} - {c.name for c in out}
    for name in sorted(declared - set(FILE_CHECKS)):
        rule = rules.get(name)
        broken = failing.get(name, 0)
        bound = rule.max_failing if rule and rule.max_failing is not None else None
        out.append(
            Check(
                name=name,
                # A rule that saw no row where rows are due proves nothing: it fails.
                passed=within(share(broken, evaluated), bound or 0)
                and (evaluated > 0 or not rows_due),
                blocking=rule is not None and _blocks(rule),
                severity=rule.severity if rule else "error",
                observed=broken,
                threshold="= 0 rows" if bound is None else f"<= {bound:g} of rows",
                failing_rows=broken,
                evaluated_rows=evaluated,
            )
        )
    return out


def _freshness(contract: Contract, partition: str, staged: Staged) -> Check:
    """Age of the newest row at the end of its arrival window, so that a backfill of an old
    partition is judged as it would have been on its day."""
    newest, bound = staged.newest.get(partition), contract.gates.max_age_hours
    if newest is None or contract.partitioning is None:
        return Check(name="freshness", passed=True, severity="warn", detail="no rows to judge")
    when = datetime.fromisoformat(newest)
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    age = Fraction((partition_end(partition) - when) // _MICROSECOND, 3_600_000_000)
    return Check(
        name="freshness",
        passed=within(age, bound),
        severity="warn",
        observed=shown(age, bound, digits=2),
        threshold=f"<= {bound:g} hours",
    )


def _volume(contract: Contract, read: int, earlier: list[int]) -> Check:
    bound = contract.gates.max_volume_change
    if len(earlier) < 3:
        return Check(
            name="volume",
            passed=True,
            severity="warn",
            observed=read,
            detail="fewer than 3 partitions to compare with",
        )
    mean = Fraction(sum(earlier), len(earlier))
    change = abs(read - mean) / mean if mean else Fraction(0)
    return Check(
        name="volume",
        passed=within(change, bound),
        severity="warn",
        observed=shown(change, bound),
        threshold=f"<= {bound:g} of the mean before",
        detail=f"{read} rows, {float(mean):.0f} on average before",
    )


def file_checks(
    contract: Contract,
    before: Sequence[ActiveFile],
    added: Sequence[ActiveFile],
    after: Sequence[ActiveFile],
) -> list[Check]:
    """The checks of a published batch, by what the log says of the table's files: `before` the
    batch, `after` it, and those `added` ones that hold the batch's own rows."""
    return [_small_files(contract, after), _null_drift(contract, before, added)]


def _small_files(contract: Contract, files: Sequence[ActiveFile]) -> Check:
    """Readers open every file: many small ones cost them more than the bytes do."""
    partitions = len({tuple(sorted(f.partition.items())) for f in files}) or 1
    size = sum(f.size for f in files) / partitions
    bound = max(contract.gates.max_files, size / _FILE_BYTES)
    mean = len(files) / partitions
    return Check(
        name="small_files",
        passed=mean <= bound,
        severity="warn",
        observed=round(mean, 2),
        threshold=f"<= {bound:.4g} files per partition",
        detail=f"{len(files)} files, {size / 2**20:.1f} MiB per physical partition on average",
    )


def _null_drift(
    contract: Contract, before: Sequence[ActiveFile], added: Sequence[ActiveFile]
) -> Check:
    """How much the share of nulls in any column grew, from the table's rows to the batch's."""
    rows, bound = sum(f.rows for f in added), contract.gates.max_null_drift
    if not rows or not any(f.rows for f in before):
        reason = "the table had no rows to compare with" if rows else "the batch added no rows"
        return Check(name="null_drift", passed=True, severity="warn", detail=reason)
    shares = {
        c.name: (_null_share(before, c.name), _null_share(added, c.name))
        for c in contract.columns
        if c.name not in HISTORY_COLUMNS  # a version that has just come has no end yet
    }
    growth = {n: new - old for n, (old, new) in shares.items() if None not in (old, new)}
    grown = [n for n, more in growth.items() if not within(more, bound)]
    return Check(
        name="null_drift",
        passed=not grown,
        severity="warn",
        observed=shown(max(growth.values(), default=Fraction(0)), bound),
        threshold=f"<= {bound:g} of rows more than before",
        evaluated_rows=rows,
        detail="; ".join(
            f"{n}: {float(old):.1%} of rows null before, {float(new):.1%} now"
            for n, (old, new) in shares.items()
            if n in grown
        ),
    )


def _null_share(files: Sequence[ActiveFile], column: str) -> Fraction | None:
    """None for a column of which the log counts no nulls: an array, or one newer than the files."""
    counted = [f for f in files if column in f.nulls]
    rows = sum(f.rows for f in counted)
    return share(sum(f.nulls[column] for f in counted), rows) if rows else None
