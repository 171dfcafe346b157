"""A runner that runs nothing, and its ledger: they report what a test tells them to.

Belongs here: the one fake of the control plane's tests. Does not belong here: assertions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from spark_jobs.contract.model import Contract
from spark_jobs.lake.row import LedgerRow, PartitionState, rows_of
from spark_jobs.report import Check, Counts, PartitionReport, RunSpec, TableReport


class FakePlane:
    """Publishes 10 rows of every partition, except those in `bad`: (table, partition) to checks
    or, for one that failed before any check, to the error. `raises` gives errors by table, one
    per attempt."""

    def __init__(
        self,
        bad: Mapping[tuple[str, str], list[Check] | str] | None = None,
        raises: Mapping[str, list[BaseException]] | None = None,
        warned: Mapping[tuple[str, str], list[Check]] | None = None,
        sample: list[dict[str, Any]] | None = None,
    ) -> None:
        self.bad, self.warned, self.sample = dict(bad or {}), dict(warned or {}), sample or []
        self.raises = {table: list(errors) for table, errors in (raises or {}).items()}
        self.specs: list[RunSpec] = []
        self.rows: list[LedgerRow] = []
        self.made_stale: dict[str, dict[str, str]] = {}

    @property
    def tables(self) -> list[str]:
        return [spec.table for spec in self.specs]

    def run(self, context: Any, spec: RunSpec) -> TableReport:
        self.specs.append(spec)
        if self.raises.get(spec.table):
            raise self.raises[spec.table].pop(0)
        report = TableReport(
            table=spec.table,
            run_id=spec.run_id,
            batch_id="batch",
            engine=spec.engine,
            contract_version="1.0.0",
            transform_version="abc",
            partitions=[self._partition(spec.table, p) for p in spec.partitions or ["all"]],
            delta_version=3,
            table_rows=100,
            table_bytes=1000,
            seconds={"read": 0.1, "publish": 0.2},
            quarantine_sample=self.sample,
        )
        self.rows += rows_of(report, datetime.now(UTC))
        return report

    def _partition(self, table: str, partition: str) -> PartitionReport:
        checks = [
            Check(name="row_count", passed=True, blocking=True, observed=10, threshold=">= 1 rows"),
            *self.warned.get((table, partition), []),
        ]
        bad = self.bad.get((table, partition))
        if bad is None:
            counts = Counts(read=10, inserted=9, quarantined=1)
            return PartitionReport(
                partition=partition, status="published", counts=counts, checks=checks
            )
        if isinstance(bad, str):
            return PartitionReport(partition=partition, status="failed", error=bad)
        return PartitionReport(
            partition=partition,
            status="failed",
            counts=Counts(read=10),
            checks=bad,
            error="; ".join(f"{c.name} is {c.observed:g}, must be {c.threshold}" for c in bad),
        )

    def history(self, table: str) -> list[LedgerRow]:
        return [row for row in self.rows if row.table == table]

    def newest(self) -> list[PartitionState]:
        return list({(row.table, row.partition): row for row in self.rows}.values())

    def stale(
        self,
        contracts: Mapping[str, Contract],
        newest: Sequence[PartitionState],
        tables: Sequence[str],
        engine: str,
    ) -> dict[str, dict[str, str]]:
        return {t: p for t, p in self.made_stale.items() if t in tables}


class AnyPlane:
    """A data plane that is chosen after the definitions have been built; building them is dear."""

    def __init__(self) -> None:
        self.plane = FakePlane()

    def run(self, context: Any, spec: RunSpec) -> TableReport:
        return self.plane.run(context, spec)

    def history(self, table: str) -> list[LedgerRow]:
        return self.plane.history(table)

    def newest(self) -> list[PartitionState]:
        return self.plane.newest()

    def stale(
        self,
        contracts: Mapping[str, Contract],
        newest: Sequence[PartitionState],
        tables: Sequence[str],
        engine: str,
    ) -> dict[str, dict[str, str]]:
        return self.plane.stale(contracts, newest, tables, engine)


def recorded(table: str, partition: str, status: Any = "published", **more: Any) -> LedgerRow:
    """A row of the ledger, for what is decided from rows alone."""
    return LedgerRow(
        **{
            "table": table,
            "partition": partition,
            "status": status,
            "batch_id": "batch",
            "run_id": "run",
            "started_at": datetime(2026, 10, 8, tzinfo=UTC),
            "seconds": 1.0,
            "engine": "sail",
            "contract_version": "1.0.0",
            "transform_version": "v1",
            "fingerprint": "same",
            "delta_version": 3,
            "revived_in": (),
            "inputs": "{}",
            "checks": "[]",
            "error": "",
            "artifact": "",
            **Counts().model_dump(),
            **more,
        }
    )
