"""A day of the lake without an orchestrator: what can run runs, in order, and what came of it is judged.

Belongs here: which partitions of a day are due, and whether all of them are published. Does not belong
here: a table's run (run.py), or when and how often a day is run (a job of Databricks, say).

Dagster does more: it knows schedules, retries, freshness, alerts and marts. This is for teams that have
none beside the lake, and for the days on which it is down: both may run the same partitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from spark_jobs import window
from spark_jobs.batch import lookups
from spark_jobs.batch.landing.deliveries import expected
from spark_jobs.contract.location import contracts_at
from spark_jobs.contract.model import Contract
from spark_jobs.errors import InputError, LakehouseError
from spark_jobs.lake import ledger, manifest
from spark_jobs.lake.row import PartitionState
from spark_jobs.lake.storage import Lake, Storage
from spark_jobs.report import LakeSpec, RunSpec
from spark_jobs.run import run_table
from spark_jobs.window import WHOLE

States = Mapping[tuple[str, str], PartitionState]


@dataclass
class Outcome:
    """What became of the tables: rows by table, and why partitions or tables failed."""

    published: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Day:
    """The partitions of one day."""

    spec: LakeSpec
    day: str
    contracts: Mapping[str, Contract]
    lake: Lake

    def run(self, layers: Sequence[str], engine: lookups.HasSession) -> Outcome:
        """Runs what is due of some layers, a table after those that it reads. What fails of one table
        is kept for the end; what depends on it is not due."""
        outcome = Outcome()
        for contract in self.contracts.values():
            due = self.due(contract) if contract.layer in layers else []
            if not due:
                continue
            partitions = [] if contract.partitioning is None else due
            spec = RunSpec(**self.spec.model_dump(), table=contract.table, partitions=partitions)
            try:
                report = run_table(spec, engine, dict(self.contracts), self.lake)
            except LakehouseError as error:
                outcome.failed.append(f"{contract.table}: {error}")
                continue
            outcome.published[contract.table] = report.counts.published
            outcome.failed += [f"{report.table} {p.partition}: {p.error}" for p in report.failed]
        return outcome

    def judged(self) -> list[str]:
        """What is wrong with the day: what is over and was not delivered, and what is due and not
        published by its newest run."""
        states, now = self._states(), datetime.now(UTC)
        wrong = []
        for contract in self.contracts.values():
            due = self.due(contract, states)
            if contract.source:
                for p in window.inside(self.day, contract.partitioning):
                    over = p != WHOLE and window.Window.of(p).end <= now
                    if over and p not in due and expected(contract, p):
                        wrong.append(f"{contract.table} {p}: nothing was delivered")
            for p in due:
                state = states.get((contract.table, p))
                if state is None:
                    wrong.append(f"{contract.table} {p}: was never run")
                elif state.failed:
                    wrong.append(f"{contract.table} {p}: its newest run failed: {state.error}")
        return wrong

    def due(self, contract: Contract, states: States | None = None) -> list[str]:
        """The partitions of the day that a table can have: what was delivered, or what its driving
        input has published."""
        partitions = window.inside(self.day, contract.partitioning)
        if contract.source:
            dataset = contract.source.dataset
            listing, place = self.lake.storage.listing, self.lake.landing
            return [p for p in partitions if listing(place(dataset, p), manifest.NAME)[0]]
        if contract.partitioning is None:
            return [WHOLE]
        if not contract.inputs:
            return partitions
        sources = [self.contracts[i.table] for i in contract.drivers]
        there = self._states() if states is None else states

        def published(table: str, partition: str) -> bool:
            state = there.get((table, partition))
            return state is not None and not state.failed

        return [
            p
            for p in partitions
            if all(published(s.table, w) for s in sources for w in window.inside(p, s.partitioning))
        ]

    def _states(self) -> States:
        return {(s.table, s.partition): s for s in ledger.newest(self.lake)}


@contextmanager
def day_of(spec: LakeSpec, day: str) -> Iterator[Day]:
    """The day, as long as its contracts are there. Raises InputError if it is none."""
    try:
        if window.Window.of(day).scheme != "daily":
            raise ValueError
    except ValueError:
        raise InputError(f"--day {day!r} is no day; days look like 2026-10-05") from None
    storage = Storage(spec.storage_options)
    with contracts_at(spec.contracts, spec.contracts_sha256, storage) as contracts:
        yield Day(spec, day, contracts, Lake(spec.zones, storage))
