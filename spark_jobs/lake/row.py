"""A row of the ledger as a value: what one run did with one partition of one table.

Belongs here: its fields, which are the ledger's columns, what follows from them alone, and the rows
of a report. Does not belong here: keeping rows and reading them (ledger.py). Nothing here imports
Arrow or Delta, so that deciding from rows needs neither.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from spark_jobs.report import Check, Counts, Status, TableReport


@dataclass(frozen=True, slots=True)
class PartitionState:
    """What there is to know of a partition without what was counted and checked.

    `inputs` is the version of each table that was looked up, as JSON; empty where it was not
    recorded. A ledger has tens of thousands of rows, so that text is parsed when it is asked for.
    """

    table: str
    partition: str
    batch_id: str
    status: Status
    transform_version: str
    inputs: str
    error: str

    @property
    def failed(self) -> bool:
        return self.status == "failed"

    @property
    def looked_up(self) -> dict[str, str]:
        """The version of each table that was looked up."""
        found: dict[str, str] = json.loads(self.inputs or "{}")
        return found


@dataclass(frozen=True, slots=True)
class LedgerRow(PartitionState):
    """All of a row. `seconds` is how long the run's steps took, `revived_in` are other partitions of
    the table into which records came back, `checks` those that failed, as JSON; the counts are those
    of report.Counts; `artifact` is the version of the code that was shipped to run it, if any was."""

    run_id: str
    started_at: datetime
    seconds: float
    engine: str
    contract_version: str
    fingerprint: str
    delta_version: int | None
    revived_in: tuple[str, ...]
    read: int
    inserted: int
    updated: int
    deleted: int
    unchanged: int
    duplicate: int
    quarantined: int
    filtered: int
    added: int
    withdrawn: int
    revived: int
    checks: str
    artifact: str

    @property
    def done_at(self) -> datetime:
        return self.started_at + timedelta(seconds=self.seconds)

    @property
    def counts(self) -> Counts:
        return Counts(**{name: getattr(self, name) for name in Counts.model_fields})

    @property
    def failed_checks(self) -> list[Check]:
        return [Check.model_validate(c) for c in json.loads(self.checks or "[]")]

    @property
    def changes(self) -> bool:
        """Whether the batch changed what readers see of its table; one that found all rows as they
        were makes nothing downstream stale."""
        published = self.inserted or self.updated or self.deleted
        return bool(published or self.added or self.withdrawn or self.revived)


def rows_of(report: TableReport, started_at: datetime) -> list[LedgerRow]:
    """The rows of a report: one for each partition with which something was done."""
    seconds = round(sum(report.seconds.values()), 3)
    return [
        LedgerRow(
            table=report.table,
            partition=p.partition,
            run_id=report.run_id,
            batch_id=report.batch_id,
            status=p.status,
            started_at=started_at,
            seconds=seconds,
            engine=report.engine,
            contract_version=report.contract_version,
            transform_version=report.transform_version,
            fingerprint=p.fingerprint,
            delta_version=report.delta_version,
            revived_in=tuple(p.revived_in),
            inputs=json.dumps(report.inputs),
            **p.counts.model_dump(),
            checks=json.dumps([c.model_dump() for c in p.checks if not c.passed]),
            artifact=report.artifact,
            error=p.error,
        )
        for p in report.partitions
        if p.status != "unchanged"
    ]


def newest_batches(rows: list[LedgerRow]) -> dict[str, str]:
    """The newest published batch of each partition of one table; `rows` oldest first."""
    return {row.partition: row.batch_id for row in rows if not row.failed}
