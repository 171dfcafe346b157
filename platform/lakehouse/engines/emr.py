"""Running each table as a job of EMR Serverless, started and heard through Dagster Pipes.

Belongs here: that runner, and what a job is started with. Does not belong here: starting and following a
job (emr_job.py), what it writes to its log (job_logs.py), or what travels there (remote.py).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from lakehouse.engines.bucket_messages import BucketMessages
from lakehouse.engines.emr_job import JobClient, JobEnd, application
from lakehouse.engines.job_logs import driver_error
from lakehouse.engines.remote import Shipment, Shipping
from lakehouse.engines.runner import received, runner_of
from lakehouse.engines.together import Together, tell
from lakehouse.settings.emr import EmrJob, EmrPrices, EmrSettings
from spark_jobs.contract.model import Contract
from spark_jobs.errors import EngineError, StorageError
from spark_jobs.lake import jobs
from spark_jobs.lake.jobs import JobRow
from spark_jobs.lake.storage import Lake, Storage
from spark_jobs.report import Job, RunSpec, TableReport

if TYPE_CHECKING:
    from lakehouse.artifacts.store import ArtifactStore
    from lakehouse.settings.model import Settings

SERVICE = "EMR Serverless"
# Where the images of the service have Delta and the Pythons.
_DELTA = "/usr/share/aws/delta/lib"
_PYTHON = "/usr/bin/python{}"
# Archives are unpacked in the working directory, under these names.
_CODE, _PACKAGES = "code", "packages"


@dataclass(frozen=True)
class EmrRunner:
    """Starts jobs with what `shipping` sends; `logs` is where the service keeps what they print.
    `contracts` are all, upstream first, and `tables` those that run there."""

    settings: EmrSettings
    shipping: Shipping
    logs: str
    contracts: Mapping[str, Contract]
    tables: frozenset[str]
    region: str | None = None
    s3_endpoint: str | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        emr: EmrSettings,
        shipping: Shipping,
        contracts: Mapping[str, Contract],
    ) -> EmrRunner:
        logs = emr.logs or f"{settings.artifacts.root(settings.home)}/logs"
        storage = settings.storage
        tables = frozenset(t for t, c in contracts.items() if runner_of(c, settings) == "emr")
        return cls(emr, shipping, logs, contracts, tables, storage.region, storage.endpoint)

    def run(self, context: dg.AssetExecutionContext, spec: RunSpec) -> TableReport:
        s3 = _client("s3", self.region, self.s3_endpoint)
        shipment, joins = self._together(s3).shipped(context, spec)
        job = self._job([shipment.spec.table, *shipment.spec.then])
        seconds = self.settings.poll_seconds
        messages = BucketMessages(s3, shipment.messages_uri, seconds, at_the_end=joins is not None)
        client = JobClient(
            _client("emr-serverless", self.region),
            messages,
            job,
            seconds,
            started=lambda names: tell(shipment, names),
            joins=joins,
        )
        if joins is None:  # before anybody waits for messages
            client.ensure_suitable(context)
        started_with = start_parameters(shipment, job, self.settings, self.logs)
        try:
            client.run(context=context, start_job_run_params=started_with)
        finally:
            ended = self._recorded(context, spec, shipment, client)
        end = client.end
        logs = f"{self.logs}/applications/{end.application}/jobs/{end.job_run}"
        if not end.closed:
            raise self._lost(context, spec, end, driver_error(s3, logs, end.attempt))
        report = received(end.messages, spec)
        if end.state != "SUCCESS":
            context.log.warning(f"The job reported, and then ended as {end.state}: {end.details}")
        return report.model_copy(
            update={
                "job": Job(
                    service=SERVICE,
                    id=end.job_run,
                    url=end.url,
                    logs=logs,
                    waited_seconds=end.waited_seconds,
                    cost=ended.cost if ended else None,
                    currency=self.settings.prices.currency,
                    billed=json.loads(ended.billed) if ended else {},
                )
            }
        )

    def checks(self) -> dict[str, Callable[[], Any]]:
        """What asks the service for each application of the tables, which has to be of its release."""
        client = _client("emr-serverless", self.region)
        jobs = {job.application: job for job in map(self.settings.job, self.tables)}
        return {name: partial(application, client, job) for name, job in sorted(jobs.items())}

    def _together(self, s3: Any) -> Together:
        return Together(
            shipping=self.shipping,
            contracts=self.contracts,
            tables=self.tables,
            layers=self.settings.together,
            alike=self.settings.alike,
            write_once=partial(_written_first, s3, self.shipping.store),
            poll_seconds=self.settings.poll_seconds,
        )

    def _job(self, tables: Sequence[str]) -> EmrJob:
        """How a job of these tables is run, which are alike: it has the time of all of them."""
        jobs = [self.settings.job(table) for table in tables]
        minutes = sum(job.timeout_minutes for job in jobs)
        return jobs[0].model_copy(update={"timeout_minutes": minutes})

    def _recorded(
        self,
        context: dg.AssetExecutionContext,
        spec: RunSpec,
        shipment: Shipment,
        client: JobClient,
    ) -> JobRow | None:
        """The row of the ledger for a job that has ended, whatever it did: it costs anyway. Tables of
        one job share its cost."""
        run, tables = client.ended, 1 + len(shipment.spec.then)
        if run is None:
            return None
        used = run.get("billedResourceUtilization") or {}
        billed = {name: round(hours / tables, 6) for name, hours in used.items()}
        row = JobRow(
            table=spec.table,
            run_id=spec.run_id,
            attempt=shipment.attempt.number,
            service=SERVICE,
            job=run["jobRunId"],
            state=run["state"],
            artifact=shipment.spec.artifact,
            partitions=len(spec.partitions),
            ended_at=run.get("endedAt") or run["updatedAt"],
            billed=json.dumps(billed),
            cost=cost_of(billed, self.settings.prices),
            currency=self.settings.prices.currency,
        )
        try:
            jobs.record(Lake(spec.zones, Storage(spec.storage_options)), row)
        except StorageError as error:  # the table is published; its bill is in the log of the run
            context.log.error(f"The cost of job {row.job} was not recorded: {error} {row}")
        return row

    def _lost(
        self, context: dg.AssetExecutionContext, spec: RunSpec, end: JobEnd, error: str
    ) -> EngineError:
        """What a person should read about a job that ended without a word."""
        where = f"{self.logs}/applications/{end.application}/jobs/{end.job_run}/"
        why = f" Its driver's log says:\n{error}\n" if error else ""
        done = "Nothing is published twice when it runs again."
        text = (
            f"{spec.table}: its job {end.job_run} ended as {end.state} and sent no report:"
            f" {end.details or 'the service gives no reason'}.{why}\nIts logs are in {where}. {done}"
        )
        # One that somebody ended, or the service for its time, would end so again.
        final = end.state == "CANCELLED" or "timed out" in end.details
        return EngineError(text, permanent=final)


def cost_of(billed: Mapping[str, float], prices: EmrPrices) -> float | None:
    """What a job cost; None if the service has not said what it used."""
    rates = {
        "vCPUHour": prices.vcpu,
        "memoryGBHour": prices.memory_gb,
        "storageGBHour": prices.storage_gb,
    }
    if not billed:
        return None
    return round(sum(billed.get(name, 0.0) * rate for name, rate in rates.items()), 6)


def start_parameters(
    shipment: Shipment, job: EmrJob, settings: EmrSettings, logs: str
) -> dict[str, Any]:
    """The arguments of StartJobRun: lists and maps, since what is one string is taken apart again."""
    artifact, attempt = shipment.artifact, shipment.attempt
    archives = {_CODE: artifact.code, _PACKAGES: artifact.packages}
    python = _PYTHON.format(artifact.target.python)
    variables = {"PYSPARK_PYTHON": python, "PYTHONPATH": f"./{_CODE}:./{_PACKAGES}"}
    properties = {
        **artifact.spark,
        "spark.jars": f"{_DELTA}/delta-spark.jar,{_DELTA}/delta-storage.jar",
        "spark.archives": ",".join(f"{shipment.uri(f)}#{name}" for name, f in archives.items()),
        "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON": python,
        **{f"spark.emr-serverless.driverEnv.{n}": v for n, v in variables.items()},
        **{f"spark.executorEnv.{n}": v for n, v in variables.items()},
        "spark.dynamicAllocation.maxExecutors": str(job.max_executors),
        **job.spark,
    }
    for role, worker in (("driver", job.driver), ("executor", job.executor)):
        properties[f"spark.{role}.cores"] = str(worker.cores)
        properties[f"spark.{role}.memory"] = worker.memory
        properties[f"spark.emr-serverless.{role}.disk"] = worker.disk
    return {
        "applicationId": job.application,
        "clientToken": attempt.token,
        "name": f"{shipment.spec.table} {attempt.run_id[:8]}/{attempt.number}",
        "executionRoleArn": settings.execution_role,
        "executionTimeoutMinutes": job.timeout_minutes,
        "jobDriver": {
            "sparkSubmit": {
                "entryPoint": shipment.uri(artifact.entry_point),
                "entryPointArguments": ["run", "--spec", shipment.spec_uri],
                "sparkSubmitParameters": shlex.join(
                    ["--conf", f"spark.app.name={shipment.spec.table}"]
                ),
            }
        },
        "configurationOverrides": {
            "applicationConfiguration": [
                {"classification": "spark-defaults", "properties": properties}
            ],
            "monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": logs}},
        },
        "tags": {**settings.tags, "lakehouse/table": shipment.spec.table},
    }


def _written_first(s3: Any, store: ArtifactStore, name: str, content: bytes) -> bool:
    """Writes an object, unless somebody else has."""
    from botocore.exceptions import ClientError

    bucket, _, key = store.uri(name).removeprefix("s3://").partition("/")
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412):
            return False
        raise
    return True


def _client(service: str, region: str | None, endpoint: str | None = None) -> Any:
    import boto3
    from botocore.config import Config

    retries = Config(
        retries={"mode": "standard", "total_max_attempts": 8}, connect_timeout=10, read_timeout=60
    )
    return boto3.client(service, region_name=region, endpoint_url=endpoint, config=retries)
