"""Running tables as jobs of Databricks, on serverless compute or on a cluster of their own.

Belongs here: what a job is made of, and what its end means. Does not belong here: how it is started and
heard (databricks_pipes.py), what travels (remote.py), or what it does (spark_jobs/__main__.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from lakehouse.artifacts import compute
from lakehouse.artifacts.volume import VolumeStore
from lakehouse.engines.remote import Shipment, Shipping, patiently
from lakehouse.engines.runner import received
from lakehouse.engines.together import Together, tell
from lakehouse.settings.databricks import DatabricksJob, DatabricksSettings
from spark_jobs import quoting
from spark_jobs.contract.model import Contract
from spark_jobs.errors import EngineError, StorageError
from spark_jobs.lake.jobs import JobRow, record
from spark_jobs.lake.storage import Lake, Storage
from spark_jobs.report import Job, RunSpec, TableReport

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.jobs import Run, SubmitTask

SERVICE, CURRENCY = "Databricks", "USD"
_TASK = "table"
_TRACE_LINES = 20
MINUTE = 60.0  # in seconds, which is what the service counts in
# Ends that the same job would come to again.
_FINAL = {
    "CANCELED",
    "FEATURE_DISABLED",
    "INVALID_CLUSTER_REQUEST",
    "INVALID_RUN_CONFIGURATION",
    "RESOURCE_NOT_FOUND",
    "UNAUTHORIZED_ERROR",
    "USER_CANCELED",
}


@dataclass(frozen=True)
class DatabricksRunner:
    """`connect` gives a client of the workspace, when a step needs one.
    `contracts` are all, upstream first, and `tables` those that run there."""

    settings: DatabricksSettings
    shipping: Callable[[], Shipping]
    connect: Callable[[], WorkspaceClient]
    contracts: Mapping[str, Contract]
    tables: frozenset[str]

    def run(self, context: dg.AssetExecutionContext, spec: RunSpec) -> TableReport:
        from lakehouse.dagster_private import (
            DagsterExecutionInterruptedError,
            DagsterPipesExecutionError,
        )
        from lakehouse.engines import databricks_pipes as pipes

        shipment, joins = patiently(lambda: self._together().shipped(context, spec))
        tables, workspace = [shipment.spec.table, *shipment.spec.then], self.connect()
        job = self._job(tables)
        serverless = job.compute == "serverless"
        folder = shipment.store.uri(shipment.attempt.folder)
        client = pipes.client(workspace, folder, self.settings.poll_seconds, serverless=serverless)
        if shipment.spec.then and joins is None:
            client.submitted = lambda run_id: tell(shipment, {"run_id": str(run_id)})
        task, submission = self._task(job, shipment), self._submission(job, shipment)
        try:
            if joins is not None:
                context.log.info(f"Run {joins['run_id']} runs this table, among others.")
                done = client.follow(context, int(joins["run_id"]))
            else:
                done = client.launch(context, task, submission)
        except DagsterPipesExecutionError:
            assert client.run_id is not None
            ended = self._ended(context, workspace, client.run_id, shipment, spec)
            raise self._failure(context, workspace, ended, spec) from None
        except DagsterExecutionInterruptedError:
            if client.run_id is not None:
                self._ended(context, workspace, client.run_id, shipment, spec)
            raise
        assert client.run_id is not None
        ended = self._ended(context, workspace, client.run_id, shipment, spec)
        report = received(done.get_custom_messages(), spec)
        dbus = self._dbus(job, ended, tables)
        return report.model_copy(
            update={
                "job": Job(
                    service=SERVICE,
                    id=str(client.run_id),
                    url=ended.run_page_url or "",
                    cost=self._cost(dbus),
                    currency=CURRENCY,
                    billed={} if dbus is None else {"DBU": dbus},
                )
            }
        )

    def _together(self) -> Together:
        shipping = self.shipping()
        store = shipping.store
        assert isinstance(store, VolumeStore)
        return Together(
            shipping=shipping,
            contracts=self.contracts,
            tables=self.tables,
            layers=self.settings.together,
            alike=self.settings.alike,
            write_once=store.write_once,
            poll_seconds=self.settings.poll_seconds,
        )

    # -- the job -------------------------------------------------------------------------------

    def _job(self, tables: Sequence[str]) -> DatabricksJob:
        """How a job of these tables is run, which are alike: it has the time of all of them."""
        jobs = [self.settings.job(table) for table in tables]
        minutes = sum(job.timeout_minutes for job in jobs)
        return jobs[0].model_copy(update={"timeout_minutes": minutes})

    def _task(self, job: DatabricksJob, shipment: Shipment) -> SubmitTask:
        from databricks.sdk.service import jobs

        wheel = jobs.PythonWheelTask(
            package_name="spark_jobs",
            entry_point="spark-jobs",
            parameters=["run", "--spec", shipment.spec_uri],
        )
        task = jobs.SubmitTask(task_key=_TASK, python_wheel_task=wheel)
        if job.compute == "serverless":
            task.environment_key = compute.ENVIRONMENT
            return task
        assert job.cluster is not None
        task.new_cluster = compute.cluster(job.cluster)
        task.libraries = compute.libraries(shipment.artifact, shipment.store)
        return task

    def _submission(self, job: DatabricksJob, shipment: Shipment) -> dict[str, Any]:
        from databricks.sdk.service import jobs

        partitions = shipment.spec.partitions  # none of a table that is not partitioned
        span = "..".join(dict.fromkeys([*partitions[:1], *partitions[-1:]]))
        submission: dict[str, Any] = {
            "run_name": f"{shipment.spec.table} {span}".rstrip(),
            "idempotency_token": shipment.attempt.token,
            "timeout_seconds": round(job.timeout_minutes * MINUTE),
            "queue": jobs.QueueSettings(enabled=True),
        }
        if job.compute == "serverless":
            version = self.settings.environment_version
            given = compute.environment(version, shipment.artifact, shipment.store)
            submission["environments"] = [given]
        return submission

    # -- its end -------------------------------------------------------------------------------

    def _ended(
        self,
        context: dg.AssetExecutionContext,
        workspace: WorkspaceClient,
        run_id: int,
        shipment: Shipment,
        spec: RunSpec,
    ) -> Run:
        """A job that is over, which the ledger gets a row for, whatever it did: it costs anyway. Tables
        of one job share its cost."""
        run = patiently(lambda: workspace.jobs.get_run(run_id))
        tables = [shipment.spec.table, *shipment.spec.then]
        dbus = self._dbus(self._job(tables), run, tables)
        state = run.state.result_state if run.state else None
        row = JobRow(
            table=spec.table,
            run_id=spec.run_id,
            attempt=shipment.attempt.number,
            service=SERVICE,
            job=str(run_id),
            state=state.value if state else "UNKNOWN",
            artifact=shipment.spec.artifact,
            partitions=len(spec.partitions),
            ended_at=datetime.fromtimestamp((run.end_time or 0) / 1000 or time.time(), UTC),
            billed=json.dumps({} if dbus is None else {"DBU": dbus}),
            cost=self._cost(dbus),
            currency=CURRENCY,
        )
        try:
            record(Lake(spec.zones, Storage(spec.storage_options)), row)
        except StorageError as error:  # the table is published; its bill is in the log of the run
            context.log.error(f"The cost of run {run_id} was not recorded: {error} {row}")
        return run

    def _dbus(self, job: DatabricksJob, run: Run, tables: Sequence[str]) -> float | None:
        """What a job took for each of its tables, by its rate: the service tells the bill alone, a day
        later."""
        if job.dbus_per_hour is None:
            return None
        seconds = ((run.setup_duration or 0) + (run.execution_duration or 0)) / 1000
        return round(job.dbus_per_hour * seconds / 3600 / len(tables), 6)

    def _cost(self, dbus: float | None) -> float | None:
        price = self.settings.price_per_dbu
        return None if dbus is None or price is None else round(dbus * price, 6)

    def _failure(
        self,
        context: dg.AssetExecutionContext,
        workspace: WorkspaceClient,
        run: Run,
        spec: RunSpec,
    ) -> EngineError:
        """What became of a job that did not end well, for people."""
        details = run.status.termination_details if run.status else None
        code = details.code.value if details and details.code else "UNKNOWN"
        said = (run.state.state_message if run.state else "") or ""
        error, trace = self._output(workspace, run)
        if trace:
            context.log.error(f"The end of what run {run.run_id} said:\n{trace}")
        result = run.state.result_state.value if run.state and run.state.result_state else ""
        timed_out = result == "TIMEDOUT"
        advice = (
            "Raise databricks.timeout_minutes for it, or run fewer partitions at once."
            if timed_out
            else "What it had published is found by the next run, and nothing is published twice."
        )
        return EngineError(
            f"{spec.table}: run {run.run_id} of Databricks ended as {result or code} ({code}):"
            f" {quoting.said(Exception(said))}{f' {error}' if error else ''} See {run.run_page_url}."
            f" {advice}",
            permanent=timed_out or code in _FINAL,
        )

    def _output(self, workspace: WorkspaceClient, run: Run) -> tuple[str, str]:
        """The error of a run's task and the end of its trace, as far as there are any."""
        from databricks.sdk.errors.base import DatabricksError

        task_id = next((t.run_id for t in run.tasks or [] if t.run_id), None)
        if task_id is None:
            return "", ""
        try:
            output = workspace.jobs.get_run_output(task_id)
        except DatabricksError:  # one that never came to run has none
            return "", ""
        trace = (output.error_trace or "").splitlines()[-_TRACE_LINES:]
        return quoting.plain(output.error or ""), quoting.plain("\n".join(trace), lines=True)
