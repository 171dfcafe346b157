"""Turns what was counted in a partition into checks. A failed blocking check is a closed gate.

Belongs here: thresholds. Does not belong here: which checks there are (contract/checks.py), row rules
(rules.py), or publishing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING

from spark_jobs import quoting
from spark_jobs.contract.checks import KEY_UNIQUE, ROW_COUNT, SCHEMA_DRIFT, Declared, declared
from spark_jobs.contract.model import Contract
from spark_jobs.contract.rules import NotNull
from spark_jobs.contract.validity import HISTORY_COLUMNS
from spark_jobs.report import Check, Counts
from spark_jobs.window import Window

if TYPE_CHECKING:
    from spark_jobs.batch.outcomes import Staged
    from spark_jobs.lake.delta import ActiveFile

# A partition of larger files than this may have as many as it needs.
_FILE_BYTES = 16 * 2**20
_MICROSECOND = timedelta(microseconds=1)


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


@dataclass(frozen=True)
class _Partition:
    """One partition as it was counted: what every check looks at."""

    contract: Contract
    key: str
    staged: Staged
    counts: Counts
    rows_due: bool

    @property
    def evaluated(self) -> int:
        """Rows that were filtered are no rows of the table."""
        return self.counts.read - self.counts.filtered

    @property
    def failing(self) -> Mapping[str, int]:
        """Rows that break each rule."""
        return self.staged.failing.get(self.key, {})


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
    p = _Partition(contract, partition, staged, counts, rows_due)
    out = [_balance(p, altered), *_row_counts(p), *_rates(p)]
    out += [_freshness(contract, partition, staged), _volume(contract, counts.read, earlier)]
    if contract.source:
        out.append(_drift(drift))
    if contract.grain == "aggregate":
        out.append(_unique_key(p))
    made = {c.name for c in out}
    return out + [
        _of_rule(p, d) for d in declared(contract) if d.made == "audit" and d.name not in made
    ]


def _balance(p: _Partition, altered: bool) -> Check:
    read, accounted = p.counts.read, p.counts.accounted
    others = ", but not the same ones" if altered and read == accounted else ""
    return Check(
        name="row_balance",
        passed=read == accounted and not altered,
        blocking=True,
        observed=read - accounted,
        threshold="= 0 rows",
        evaluated_rows=read,
        detail=f"{read} rows read, {accounted} accounted for{others}",
    )


def _row_counts(p: _Partition) -> Iterator[Check]:
    gates = p.contract.gates
    for name, rows, blocking in (
        (ROW_COUNT, gates.min_rows, True),
        ("few_rows", gates.expected_rows, False),
    ):
        least = rows if p.rows_due else 0
        yield Check(
            name=name,
            passed=p.evaluated >= least,
            blocking=blocking,
            severity="error" if blocking else "warn",
            observed=p.evaluated,
            threshold=f">= {least} rows",
            evaluated_rows=p.counts.read,
        )


def _rates(p: _Partition) -> Iterator[Check]:
    counts, gates = p.counts, p.contract.gates
    required = {r.name for r in p.contract.rules if isinstance(r.spec, NotNull)}
    nulls = max((n for rule, n in p.failing.items() if rule in required), default=0)
    for name, rows, bound, of, blocking in (
        ("quarantine_rate", counts.quarantined, gates.max_quarantine_rate, "of rows read", True),
        ("duplicate_rate", counts.duplicate, gates.max_duplicate_rate, "of rows read", False),
        ("null_rate", nulls, gates.max_null_rate, "nulls in a required column", False),
    ):
        rate = share(rows, counts.read)
        yield Check(
            name=name,
            passed=within(rate, bound),
            blocking=blocking,
            severity="error" if blocking else "warn",
            observed=shown(rate, bound),
            threshold=f"<= {bound:g} {of}",
            failing_rows=rows,
            evaluated_rows=counts.read,
        )


def _drift(drift: list[str]) -> Check:
    return Check(
        name=SCHEMA_DRIFT,
        passed=not drift,
        severity="warn",
        observed=len(drift),
        threshold="= 0 columns",
        detail=quoting.some(drift, "; "),
    )


def _unique_key(p: _Partition) -> Check:
    repeated = p.staged.key_duplicates.get(p.key, 0)
    return Check(
        name=KEY_UNIQUE,
        passed=repeated == 0,
        blocking=True,
        observed=repeated,
        threshold="= 0 keys",
        failing_rows=repeated,
        evaluated_rows=p.counts.read,
    )


def _of_rule(p: _Partition, check: Declared) -> Check:
    """A rule that saw no row where rows are due proves nothing: it fails."""
    rule, broken = check.rule, p.failing.get(check.name, 0)
    bound = None if rule is None else rule.max_failing
    return Check(
        name=check.name,
        passed=within(share(broken, p.evaluated), bound or 0)
        and (p.evaluated > 0 or not p.rows_due),
        blocking=check.blocking,
        severity=rule.severity if rule else "error",
        observed=broken,
        threshold="= 0 rows" if bound is None else f"<= {bound:g} of rows",
        failing_rows=broken,
        evaluated_rows=p.evaluated,
    )


def _freshness(contract: Contract, partition: str, staged: Staged) -> Check:
    """Age of the newest row at the end of its arrival window, so that a backfill of an old
    partition is judged as it would have been on its day."""
    newest, bound = staged.newest.get(partition), contract.gates.max_age_hours
    if newest is None or contract.partitioning is None:
        return Check(name="freshness", passed=True, severity="warn", detail="no rows to judge")
    when = datetime.fromisoformat(newest)
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    age = Fraction((Window.of(partition).end - when) // _MICROSECOND, 3_600_000_000)
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
    shares: dict[str, tuple[Fraction, Fraction]] = {}
    for name in (c.name for c in contract.columns):
        old, new = _null_share(before, name), _null_share(added, name)
        # A version that has just come has no end yet.
        if name not in HISTORY_COLUMNS and old is not None and new is not None:
            shares[name] = old, new
    growth = {n: new - old for n, (old, new) in shares.items()}
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
