"""Runs one table for a range of partitions: read, transform, audit, gate, publish, report.

Belongs here: the order of the steps and what a failure of each means. Does not belong here: any
of the steps.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import tenacity

from spark_jobs.batch import gate, inputs, lookups, publish, quarantine, reading, superseded
from spark_jobs.batch.judging import judged
from spark_jobs.batch.plan import Plan, partitions_of, plan
from spark_jobs.batch.staging import Batch, StagedBatch, stage
from spark_jobs.batch.steps import Steps
from spark_jobs.batch.transform import module_of, transformed
from spark_jobs.contract import compatibility
from spark_jobs.contract.location import contracts_at
from spark_jobs.contract.model import Contract
from spark_jobs.engines.imports import import_pyspark
from spark_jobs.errors import (
    ConflictError,
    ContractError,
    EngineError,
    LakehouseError,
    happened_in,
)
from spark_jobs.lake import delta, ledger, opened, storage
from spark_jobs.lake.row import LedgerRow, rows_of
from spark_jobs.report import Counts, PartitionReport, RunSpec, TableReport

if TYPE_CHECKING:
    from pyspark.errors import PySparkException

_ATTEMPTS = 6
# The steps in which plans, analysed before, meet rows.
_EVALUATING = ("audit", "count")


def run_table(
    spec: RunSpec,
    engine: lookups.HasSession,
    contracts: dict[str, Contract] | None = None,
    lake: storage.Lake | None = None,
) -> TableReport:
    """Runs one table. A partition that fails comes back as failed, with its reason; nothing of it
    is published, and the others are. `lake` is that of the specification if it is not given.

    Raises a LakehouseError if the table as a whole cannot run: an invalid contract, a transform
    with wrong columns, an input that does not exist, a lake that cannot be written, or a commit
    that conflicted with others again and again.
    """
    if contracts is None:
        reached = storage.Storage(spec.storage_options)
        with contracts_at(spec.contracts, spec.contracts_sha256, reached) as read:
            return run_table(spec, engine, read, lake)
    if spec.table not in contracts:
        known = ", ".join(contracts)
        raise ContractError(f"{spec.contracts}: no contract for table {spec.table}; known: {known}")
    contract = contracts[spec.table]
    partitions = partitions_of(contract, spec.partitions)
    lake = lake or storage.Lake(spec.zones, storage.Storage(spec.storage_options))
    for zone in (contract.layer, "quarantine", "ledger"):
        lake.storage.ensure_writable(lake.zones[zone])
    with opened.kept():
        return _ran(spec, engine, contract, contracts, lake, partitions)


def unchanged(
    spec: RunSpec, engine: lookups.HasSession, contracts: dict[str, Contract], lake: storage.Lake
) -> tuple[TableReport, list[LedgerRow]] | None:
    """The report that a run of the table would have, and the table's ledger, oldest first, if the run
    would find nothing to do; else None. Errors as `run_table`, where one is met so far."""
    contract, steps = contracts[spec.table], Steps()
    with opened.kept(), steps.timed("plan"):
        partitions = partitions_of(contract, spec.partitions)
        work = plan(contract, contracts, lake, partitions, engine, force=spec.force)
        if any(p not in work.settled or work.settled[p].status != "unchanged" for p in partitions):
            return None
    return _Run(spec, engine, contract, lake, work, steps).report(), work.history


def _ran(
    spec: RunSpec,
    engine: lookups.HasSession,
    contract: Contract,
    contracts: dict[str, Contract],
    lake: storage.Lake,
    partitions: list[str],
) -> TableReport:
    """The report of the first attempt that meets no other run's commit."""
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(ConflictError),
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=5),
        reraise=True,
    ):
        with attempt:
            steps = Steps()
            try:
                with steps.timed("plan"):
                    work = plan(contract, contracts, lake, partitions, engine, force=spec.force)
                if work.todo:
                    import_pyspark()
                return _Run(spec, engine, contract, lake, work, steps).report()
            except Exception as error:
                happened_in(error, steps.current)
                raise
    raise AssertionError("unreachable: tenacity re-raises")


@dataclass
class _Run:
    """The batches of one run and what became of its partitions: `done` has their reports, `sample`
    rows that were quarantined."""

    spec: RunSpec
    engine: lookups.HasSession
    contract: Contract
    lake: storage.Lake
    plan: Plan
    steps: Steps
    done: dict[str, PartitionReport] = field(default_factory=dict)
    sample: list[dict[str, Any]] = field(default_factory=list)

    def report(self) -> TableReport:
        self.done.update(self.plan.settled)
        todo, result = list(self.plan.todo), publish.Published()
        to, batch_id = None, uuid.uuid4().hex
        while todo:
            if to is None:
                with self.steps.timed("plan"):
                    uri = self.lake.table(self.contract.table)
                    to = self._target(uri)
            batch = Batch(batch_id, to, todo, to.folder(f"batch={batch_id}"))
            closed, result = self._attempt(batch)
            todo = [p for p in todo if p not in closed] if closed else []
            if todo:  # the others are published without them, as a batch of their own
                batch_id = uuid.uuid4().hex
        report = self._table_report(batch_id, to, result)
        if any(p.status != "unchanged" for p in report.partitions):
            with self.steps.timed("ledger"):
                ledger.append(self.lake, rows_of(report, self.plan.started_at))
        return report

    def _target(self, uri: str) -> publish.Target:
        # A job's own session is Spark's, wherever it is.
        engine = "spark" if self.engine.name == "ambient" else self.engine.name
        found = self.plan.existing
        return publish.target(self.contract, uri, self.lake.storage, engine, found)

    def _attempt(self, batch: Batch) -> tuple[list[str], publish.Published]:
        """Publishes a batch, if the gates of all its partitions are open; else nothing of it. Returns
        the partitions whose gate is closed, which have failed."""
        from pyspark.errors import PySparkException  # not where there is nothing to do

        result = publish.Published()
        try:
            staged = self._stage(batch)
            verdicts = judged(self.contract, self.plan, staged, batch.partitions)
            self.done.update(verdicts)
            closed = [p for p, verdict in verdicts.items() if verdict.status == "failed"]
            with self.steps.timed("quarantine"):
                self._quarantine(batch, staged, closed)
            if not closed:
                with self.steps.timed("publish"):
                    before = delta.active_files(batch.to.table)
                    result = self._publish(batch, staged)
                    self._check_files(batch, before)
        except OSError as error:
            raise storage.describe(error, batch.to.uri) from error
        except PySparkException as error:
            closed = self._fail_evaluating(error, batch)
            if not closed:
                # Without its cause, whose text would go wherever errors are written.
                raise self._explained(error, batch) from None
        finally:
            publish.discard_leftovers(batch.to, batch.folder)
        return closed, result

    def _stage(self, batch: Batch) -> StagedBatch:
        spark = self.engine.spark
        return stage(spark, self.contract, self.lake, self.plan, batch, self.steps)

    def _fail_evaluating(self, error: PySparkException, batch: Batch) -> list[str]:
        """Fails the partitions with rows on which an expression fails, and returns them: the others
        can still be published. None if it was something else that failed."""
        from spark_jobs.batch import faults

        what = faults.evaluation(error)
        if what is None or self.steps.current not in _EVALUATING:
            return []

        def attempt(some: list[str]) -> None:
            publish.discard_leftovers(batch.to, batch.folder)
            self._stage(replace(batch, partitions=some))

        found = faults.isolated(attempt, batch.partitions, what)
        code, where = self._at_fault(next(iter(found)))
        for p, why in found.items():
            self.done[p] = PartitionReport(
                partition=p,
                status="failed",
                fingerprint=self.plan.fingerprints[p],
                error=f"{code}{self.contract.table} {p}: {why}{where}, on the {self.engine.name}"
                " engine. Use try_cast, or another expression that gives null for what it cannot"
                " take, and let a rule judge that. Nothing of the partition was published.",
            )
        return list(found)

    def _at_fault(self, partition: str) -> tuple[str, str]:
        """What fails on a partition's rows: see faults.at_fault."""
        from spark_jobs.batch import faults

        contract, spark, found = self.contract, self.engine.spark, self.plan
        rows = reading.read(spark, contract, self.lake, found, [partition])
        frame = transformed(spark, contract, found.upstream, found.started_at, rows.frames)
        return faults.at_fault(contract, module_of(contract), frame)

    def _explained(self, error: Exception, batch: Batch) -> LakehouseError:
        """What a person should read about an exception of the engine."""
        from pyspark.errors import AnalysisException, IllegalArgumentException, PythonException

        step = self.steps.current
        known = storage.recognized(error, batch.to.uri)
        if known is not None:
            return known
        code = f"spark_jobs/tables/{self.contract.layer}/{self.contract.name}.py: "
        said = " ".join(str(error).split())[:500]
        if step in (*_EVALUATING, "quarantine", "publish"):  # it may quote values of rows
            said = f"{type(error).__name__}; its message may hold values and is not repeated"
        return EngineError(
            f"{code if step == 'transform' else ''}{self.contract.table} {_span(batch.partitions)},"
            f" run {self.spec.run_id}: the {self.engine.name} engine failed in step {step}: {said}."
            " Nothing of it was published.",
            permanent=isinstance(
                error, (AnalysisException, IllegalArgumentException, PythonException)
            ),
        )

    # -- publish -------------------------------------------------------------------------------

    def _metadata(self, batch: Batch, partitions: list[str]) -> dict[str, str]:
        return {
            "run_id": self.spec.run_id,
            "batch_id": batch.id,
            "partitions": _span(partitions),
            "contract_version": self.contract.version,
            "transform_version": self.plan.version,
        }

    def _quarantine(self, batch: Batch, staged: StagedBatch, closed: list[str]) -> None:
        """Keeps the rows that left before anything of the batch is visible: those of partitions whose
        gate is closed if there are any, since the others will be a batch of their own."""
        contract, spark = self.contract, self.engine.spark
        whole: list[inputs.Whole] = []
        partitions = closed or batch.partitions
        if contract.inputs and any(staged.outcome.counts[p].quarantined for p in partitions):
            whole = inputs.whole_records(spark, contract, self.plan.upstream, partitions)
        gone = quarantine.write(
            spark,
            contract,
            self.lake,
            staged.outcome.folder,
            partitions,
            self._metadata(batch, partitions),
            publishing=not closed,
            whole=whole,
            moved=staged.rows.moved,
            touched=staged.rows.touched,
            changed=self.plan.stale,
        )
        self.sample.extend(gone)

    def _publish(self, batch: Batch, staged: StagedBatch) -> publish.Published:
        contract, to, todo = self.contract, batch.to, batch.partitions
        if not self.plan.known:
            compatibility.record(self.lake, contract)
        counts = sum((staged.outcome.counts[p] for p in todo), Counts())
        report = self._table_report(batch.id, to, publish.Published())
        rows = rows_of(report, self.plan.started_at)
        metadata = self._metadata(batch, todo) | {ledger.CARRIED: ledger.carried(rows)}
        touched = staged.rows.touched
        slices = [] if touched is None else touched.column(0).to_pylist()
        if contract.keyed:
            superseded.keep(
                self.engine.spark,
                contract,
                self.lake,
                to,
                batch.folder,
                self.plan.newest,
                metadata,
                displaces=contract.partitioning is not None and bool(staged.outcome.displaced),
            )
        return publish.publish(
            self.engine.spark, contract, to, batch.folder, todo, counts, metadata, slices
        )

    def _check_files(self, batch: Batch, before: list[delta.ActiveFile]) -> None:
        """Adds the checks of what the table became to every partition that the batch published. The
        ledger rows that the commit carries are older: a run that dies now is recorded without."""
        after = delta.active_files(batch.to.table)
        folders = tuple(f"{batch.folder.name}/outcome={o}/" for o in publish.BROUGHT)
        added = [f for f in after if f.path.startswith(folders)]
        found = gate.file_checks(self.contract, before, added, after)
        for p in batch.partitions:
            self.done[p].checks.extend(found)

    # -- report --------------------------------------------------------------------------------

    def _table_report(
        self, batch_id: str, to: publish.Target | None, result: publish.Published
    ) -> TableReport:
        plan = self.plan
        table = to.table if to else plan.existing  # its size, even if nothing was published
        files = delta.active_files(table) if table else []
        return TableReport(
            table=self.contract.table,
            run_id=self.spec.run_id,
            batch_id=batch_id,
            engine=self.engine.name,
            contract_version=self.contract.version,
            transform_version=plan.version,
            artifact=self.spec.artifact,
            partitions=[self.done[p] for p in plan.partitions],
            delta_version=to.table.version() if to else None,
            files=result.files,
            bytes=result.bytes,
            table_rows=sum(f.rows for f in files),
            table_bytes=sum(f.size for f in files),
            seconds={k: round(v, 3) for k, v in self.steps.seconds.items()},
            inputs=lookups.versions(self.contract, plan.upstream),
            stale={
                p: why
                for p, why in plan.stale.items()
                if p not in self.done or self.done[p].status == "failed"
            },
            quarantine_sample=self.sample[:10],
        )


def _span(partitions: list[str]) -> str:
    return partitions[0] if len(partitions) == 1 else f"{partitions[0]}..{partitions[-1]}"
