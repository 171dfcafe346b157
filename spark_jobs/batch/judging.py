"""What becomes of each partition of a staged batch: published, or failed because its gate is closed.

Belongs here: putting together what the gate asks of a partition, and its report. Does not belong
here: any of the checks (gate.py).
"""

from __future__ import annotations

from spark_jobs.batch import gate, outcomes
from spark_jobs.batch.plan import Plan
from spark_jobs.batch.staging import StagedBatch
from spark_jobs.contract.model import Contract
from spark_jobs.lake import ledger
from spark_jobs.report import Check, Counts, PartitionReport


def judged(
    contract: Contract, plan: Plan, batch: StagedBatch, partitions: list[str]
) -> dict[str, PartitionReport]:
    """The reports of the partitions whose gate is closed, or of all, if all are open. They are judged
    oldest first, each against those before it that pass."""
    staged = batch.outcome
    closed: dict[str, PartitionReport] = {}
    verdicts: dict[str, tuple[Counts, list[Check]]] = {}
    reads = [(row.partition, row.read) for row in plan.history]
    reads += [(p, batch.reads.get(p, 0)) for p in partitions]
    for p in partitions:
        counts = staged.counts[p].model_copy(update={"read": batch.reads.get(p, 0)})
        passed = verdicts.keys() - closed.keys()
        staged.failing[p].update({c.rule: c.broken(p, passed) for c in staged.clashes})
        found = gate.checks(
            contract,
            p,
            staged,
            counts,
            rows_due=p not in plan.may_be_empty,
            earlier=ledger.earlier_reads(reads, p),
            drift=_drift(plan, staged, p),
            altered=p in batch.altered,
        )
        verdicts[p] = (counts, found)
        if error := _error(plan, staged, p, counts, found):
            nothing = ("inserted", "updated", "deleted", "added", "withdrawn", "revived")
            closed[p] = PartitionReport(
                partition=p,
                status="failed",
                fingerprint=plan.fingerprints[p],
                error=error,
                counts=counts.model_copy(update=dict.fromkeys(nothing, 0)),
                checks=found,
            )
    return closed or {
        p: PartitionReport(
            partition=p,
            status="empty"
            if counts.read == counts.filtered and p in plan.may_be_empty
            else "published",
            fingerprint=plan.fingerprints[p],
            counts=counts,
            checks=found,
            revived_in=sorted(staged.revived_in.get(p, ())),
        )
        for p, (counts, found) in verdicts.items()
    }


def _drift(plan: Plan, staged: outcomes.Staged, partition: str) -> list[str]:
    delivery = plan.deliveries.get(partition)
    noticed = outcomes.drift_text(delivery.drift) if delivery else ()
    return sorted({*noticed, *staged.drift.get(partition, ())})


def _error(
    plan: Plan, staged: outcomes.Staged, partition: str, counts: Counts, found: list[Check]
) -> str:
    """Why the gate is closed; empty if it is open."""
    if said := staged.file_errors.get(partition):
        return said
    shut = [c for c in found if c.blocking and not c.passed]
    error = "; ".join(map(_reason, shut))
    if shut and counts.read == 0 and partition in plan.deliveries:
        delivered = plan.deliveries[partition].files
        files = ", ".join(f"{f.uri} ({f.size} bytes)" for f in delivered)
        return f"{error}. Delivered: {files or 'nothing'}"
    return error


def _reason(check: Check) -> str:
    text = f"{check.name} is {check.observed:.12g}, must be {check.threshold}"
    return f"{text} ({check.detail})" if check.detail else text
