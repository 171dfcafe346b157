"""A lake with a long history and a large quarantine, for commands that look at a lake.

Belongs here: writing its ledger, its landing files, its quarantine and its tables, which are empty.
Does not belong here: rows that were computed; what a command costs must not depend on them.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from benchmarks.workload import CONTRACTS
from spark_jobs.batch import quarantine
from spark_jobs.batch.lookups import Version
from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contracts
from spark_jobs.contract.versions import transform_version
from spark_jobs.lake import ledger
from spark_jobs.lake.delta import arrow_type
from spark_jobs.lake.row import LedgerRow
from spark_jobs.lake.storage import Lake
from spark_jobs.report import Check, Counts
from spark_jobs.window import Scheme

START = dt.date(2025, 10, 27)
DAYS, REJECTED = 365, 250_000
QUARANTINED = "silver.orders"
# As many commits as leave each table some files between two compactions of its part of the ledger.
_COMMITS = 8


@dataclass(frozen=True)
class LargeLake:
    """A home with `days` of history of every table, and `rejected` rows of one of them."""

    home: Path
    days: int = DAYS
    rejected: int = REJECTED

    @property
    def variables(self) -> dict[str, str]:
        """The environment in which commands see this lake."""
        return {"LAKEHOUSE_HOME": str(self.home), "LAKEHOUSE_FIRST_DAY": START.isoformat()}

    @property
    def lake(self) -> Lake:
        return Lake.at(str(self.home / "lake"))

    def write(self) -> None:
        """Writes it, if it is not there yet."""
        done = self.home / "written.json"
        said = json.dumps({"days": self.days, "rejected": self.rejected})
        if done.exists() and done.read_text() == said:
            return
        contracts = load_contracts(str(CONTRACTS))
        versions = {name: self._table(contract) for name, contract in contracts.items()}
        for c in contracts.values():
            if c.source:
                self._landing(c)
        self._ledger(contracts, versions)
        self._quarantine(contracts[QUARANTINED])
        done.write_text(said)

    def partitions(self, scheme: Scheme | None) -> list[str]:
        days = [(START + dt.timedelta(i)).isoformat() for i in range(self.days)]
        if scheme == "hourly":
            return [f"{day}T{hour:02}" for day in days for hour in range(24)]
        return days if scheme else ["all"]

    def _table(self, contract: Contract) -> str:
        """An empty table; returns its version."""
        schema = pa.schema([(c.name, arrow_type(c.type)) for c in contract.columns])
        uri = self.lake.table(contract.table)
        write_deltalake(uri, schema.empty_table(), mode="overwrite")
        table = DeltaTable(uri)
        return str(Version(table.version(), str(table.metadata().id)))

    def _landing(self, contract: Contract) -> None:
        assert contract.source is not None
        for partition in self.partitions(contract.partitioning):
            folder = self.home / "lake" / "landing" / contract.source.dataset / partition
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "part-0").write_text("x")

    def _ledger(self, contracts: dict[str, Contract], versions: dict[str, str]) -> None:
        rows = sorted(self._records(contracts, versions), key=lambda row: row.started_at)
        size = -(-len(rows) // _COMMITS)
        for first in range(0, len(rows), size):
            write_deltalake(
                self.lake.ledger("batches"),
                ledger.to_arrow(rows[first : first + size]),
                mode="append",
                partition_by=["table"],
            )

    def _records(
        self, contracts: dict[str, Contract], versions: dict[str, str]
    ) -> Iterator[LedgerRow]:
        failed = [Check(name=f"rule_{i}", passed=False, failing_rows=i) for i in range(4)]
        checks = json.dumps([c.model_dump() for c in failed])
        counts = Counts(read=1000, inserted=990, quarantined=10)
        for name, contract in contracts.items():
            version = transform_version(contract)
            inputs = json.dumps({n: versions[n] for n in contract.lookups})
            for i, partition in enumerate(self.partitions(contract.partitioning)):
                day = START + dt.timedelta(i // 24 if contract.partitioning == "hourly" else i)
                yield LedgerRow(
                    table=name,
                    partition=partition,
                    run_id=f"run-{i}",
                    batch_id=f"{name}-{i}",
                    status="published",
                    started_at=dt.datetime.combine(day, dt.time(i % 24), dt.UTC),
                    seconds=1.5,
                    engine="sail",
                    contract_version=contract.version,
                    transform_version=version,
                    fingerprint=f"{i:032x}",
                    delta_version=i,
                    revived_in=(),
                    inputs=inputs,
                    checks=checks,
                    artifact="",
                    error="",
                    **counts.model_dump(),
                )

    def _quarantine(self, contract: Contract) -> None:
        days, at = self.partitions("daily"), dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
        types = pa.schema([(n, arrow_type(t)) for n, t in quarantine.COLUMNS])
        record = json.dumps({c.name: f"a value of {c.name}" for c in contract.columns})
        per_commit = -(-self.rejected // _COMMITS)
        for first in range(0, self.rejected, per_commit):
            rows = [
                {
                    **dict.fromkeys(types.names),
                    "quarantine_id": f"{i * 2654435761 % 2**32:08x}{i:056x}",
                    "partition": days[i * len(days) // self.rejected],
                    "rules": [f"rule_{i % 7}"],
                    "record": record,
                    "quarantined_at": at,
                }
                for i in range(first, min(first + per_commit, self.rejected))
            ]
            table = pa.Table.from_pylist(rows, schema=types)
            write_deltalake(self.lake.quarantine(contract.table), table, mode="append")
