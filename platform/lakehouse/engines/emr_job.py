"""One job of EMR Serverless: started once, followed to its end, and ended when nobody waits for it.

Belongs here: the conversation with the service. Does not belong here: what a job is started with,
and what its end means for a table (emr.py).

Dagster's own client fails at once when a job does, reads its log only when it succeeded, and writes
the address of the dashboard to the log, with the token that opens it. Here a job's end is a value,
and what it had said is read whichever it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dagster_aws.pipes import PipesEMRServerlessClient

from lakehouse.engines.remote import patiently
from lakehouse.settings.emr import EmrJob, Worker
from spark_jobs.causes import is_transient
from spark_jobs.errors import EngineError, LakehouseError

if TYPE_CHECKING:
    import dagster as dg
    from dagster import PipesSession

    from lakehouse.engines.bucket_messages import BucketMessages

    Context = dg.OpExecutionContext | dg.AssetExecutionContext

_ENDED = ("SUCCESS", "FAILED", "CANCELLED")
# Beyond the time that a job has, for the service to end it.
_GRACE = timedelta(minutes=2)
# How long to wait for a job that was told to end: it removes what it has staged.
_END_SECONDS = 60.0
_BILL_POLLS = 3


@dataclass(frozen=True)
class JobEnd:
    """How a job ended; `closed` if it said so itself. `url` is its dashboard, which asks who one is;
    `waited_seconds` is how long it took to begin."""

    application: str
    job_run: str
    state: str
    details: str
    attempt: int
    url: str
    closed: bool
    messages: Sequence[Any]
    billed: dict[str, float]
    waited_seconds: float | None


def application(client: Any, job: EmrJob) -> Any:
    """The application of a job as the service describes it. Raises LakehouseError if it is of another
    release than the job is made for."""
    found = client.get_application(applicationId=job.application)["application"]
    if found["releaseLabel"] != job.release:
        raise LakehouseError(
            f"application {job.application} is of release {found['releaseLabel']}, and emr.release is"
            f" {job.release}. Name an application of that release, or try the tables on the other one"
            " and change the setting."
        )
    return found


class JobClient(PipesEMRServerlessClient):
    """Runs one job, or follows the one that `joins` names; `started` is told which was started.
    `end` is how it ended. Raises EngineError if it was not started, or not ended, in the time that
    `job` gives it; the service is then told to end it."""

    def __init__(
        self,
        client: Any,
        messages: BucketMessages,
        job: EmrJob,
        poll_seconds: float,
        *,
        started: Callable[[dict[str, str]], None] = lambda names: None,
        joins: dict[str, str] | None = None,
    ) -> None:
        super().__init__(client=client, message_reader=messages, poll_interval=poll_seconds)
        self._started, self._joins = started, joins
        self._job, self._url = job, ""
        self._session: PipesSession | None = None
        self.ended: Any = None  # the job run as the service described it last, once it had ended

    @property
    def end(self) -> JobEnd:
        run, session = self.ended, self._session
        assert run is not None and session is not None
        return JobEnd(
            application=run["applicationId"],
            job_run=run["jobRunId"],
            state=run["state"],
            details=(run.get("stateDetails") or "").strip().rstrip("."),
            attempt=run.get("attempt") or 1,
            url=self._url,
            closed=session.message_handler.received_closed_message,
            messages=session.get_custom_messages(),
            billed=dict(run.get("billedResourceUtilization") or {}),
            waited_seconds=waited(run),
        )

    def _start(self, context: Context, params: Any) -> Any:
        if self._joins is not None:
            context.log.info(f"Job {self._joins['jobRunId']} runs this table, among others.")
            return self._joins
        from lakehouse.dagster_private import DagsterExecutionInterruptedError

        started = None
        try:
            started = patiently(lambda: self.client.start_job_run(**params))
            self._started({name: started[name] for name in ("applicationId", "jobRunId")})
        except BaseException as error:
            if started is None and isinstance(error, DagsterExecutionInterruptedError):
                # The token tells which job it is, if there is one.
                started = self.client.start_job_run(**params)
            if started is not None:
                self._terminate(context, started)
            raise
        context.log.info(
            f"Job {started['jobRunId']} of application {started['applicationId']} runs this table."
        )
        return started

    def ensure_suitable(self, context: Context) -> None:
        """Raises LakehouseError if the application is of another release than the job is made for."""
        wanted = self._job
        found = patiently(lambda: application(self.client, wanted))
        for role, worker in (("Driver", wanted.driver), ("Executor", wanted.executor)):
            warm = found.get("initialCapacity", {}).get(role, {}).get("workerConfiguration")
            if warm and not _fits(worker, warm):
                context.log.warning(
                    f"The pre-initialized {role.lower()}s of application {wanted.application} have"
                    f" {warm['cpu']} and {warm['memory']}, too little for {worker.cores} vCPU and"
                    f" {worker.memory} with its overhead: this job starts cold."
                )

    def _wait_for_completion(self, context: Context, start_response: Any) -> Any:
        names = {k: start_response[k] for k in ("applicationId", "jobRunId")}
        told = ""
        try:
            while True:
                response = patiently(lambda: self.client.get_job_run(**names))
                run, state = response["jobRun"], response["jobRun"]["state"]
                if state != told:
                    details = run.get("stateDetails") or ""
                    context.log.info(f"Job {run['jobRunId']} is {state}. {details}".rstrip())
                    told = state
                if state == "RUNNING" and not self._url:
                    self._ask_for_dashboard(context, names)
                    self._tell_of_cold_start(context, run)
                if state in _ENDED:
                    self.ended = self._billed(run, names)
                    return response
                self._ensure_in_time(run)
                time.sleep(self.poll_interval)
        except Exception:  # an interrupt is none: run() ends the job then
            self._terminate(context, start_response)
            raise

    def _billed(self, run: Any, names: dict[str, str]) -> Any:
        """The job run with what it used, for which the service may take a moment longer."""
        for _ in range(_BILL_POLLS):
            if run.get("billedResourceUtilization"):
                break
            time.sleep(min(self.poll_interval, 5))
            run = patiently(lambda: self.client.get_job_run(**names))["jobRun"]
        return run

    def _ensure_in_time(self, run: Any) -> None:
        now, job = datetime.now(UTC), self._job
        started = run.get("startedAt")
        if run["state"] == "RUNNING" and started is not None:
            if now - started > timedelta(minutes=job.timeout_minutes) + _GRACE:
                raise EngineError(
                    f"job {run['jobRunId']} ran for more than {job.timeout_minutes} minutes"
                    " (emr.timeout_minutes) and was ended. Give it more time, or more executors.",
                    permanent=True,
                )
        elif started is None and now - run["createdAt"] > timedelta(minutes=job.queue_minutes):
            raise EngineError(
                f"job {run['jobRunId']} waited for more than {job.queue_minutes} minutes"
                f" (emr.queue_minutes) and was ended before it began: {run.get('stateDetails') or '-'}."
                " Raise the capacity of the application, or run fewer tables at once.",
                permanent=False,
            )

    def _tell_of_cold_start(self, context: Context, run: Any) -> None:
        seconds, job = waited(run), self._job
        if seconds is not None and seconds > job.cold_seconds:
            context.log.warning(
                f"Job {run['jobRunId']} waited {seconds:.0f} s to begin (emr.cold_seconds is"
                f" {job.cold_seconds:g}). Pre-initialized capacity of application {job.application}"
                f" would begin at once: a driver of {_size(job.driver)}, executors of"
                f" {_size(job.executor)}."
            )

    def _ask_for_dashboard(self, context: Context, names: dict[str, str]) -> None:
        try:
            url = self.client.get_dashboard_for_job_run(**names)["url"]
        except Exception as error:  # the job runs as well without
            if not is_transient(error):
                self._url = "-"
            return
        parts = urlsplit(url)  # all that follows the path opens the dashboard to whoever has it
        self._url = f"{parts.scheme}://{parts.netloc}{parts.path}"
        context.log.info(
            f"Spark's UI: {self._url} (to sign in: aws emr-serverless get-dashboard-for-job-run"
            f" --application-id {names['applicationId']} --job-run-id {names['jobRunId']})"
        )

    def _read_messages(self, context: Any, session: Any, response: Any) -> None:
        """They are read all the time."""
        self._session = session

    def _terminate(self, context: Context, start_response: Any) -> None:
        """Ends the job, and waits until it has, since it may be about to publish."""
        names = {k: start_response[k] for k in ("applicationId", "jobRunId")}
        context.log.warning(f"Ending job {names['jobRunId']}.")
        deadline = time.monotonic() + _END_SECONDS
        try:
            patiently(lambda: self.client.cancel_job_run(**names), _END_SECONDS)
            while time.monotonic() < deadline:
                run = self.client.get_job_run(**names)["jobRun"]
                if run["state"] in _ENDED:
                    self.ended = run
                    return
                time.sleep(min(self.poll_interval, 2))
        except Exception as error:
            context.log.error(
                f"Job {names['jobRunId']} of application {names['applicationId']} could not be ended"
                f" ({error}). End it in the console: it may publish its table."
            )
            return
        context.log.warning(f"Job {names['jobRunId']} has not ended yet; it was told to.")


def waited(run: Any) -> float | None:
    """How many seconds a job run waited for capacity and the start of its driver; None if it never
    began."""
    began = run.get("startedAt")
    return None if began is None else round((began - run["createdAt"]).total_seconds(), 1)


def _size(worker: Worker) -> str:
    return f"{worker.cores} vCPU and {math.ceil(_needed(worker))} GB"


def _needed(worker: Worker) -> float:
    """In GB. Spark's memory comes without its overhead: a tenth, and 384 MB at least."""
    memory = int(worker.memory.removesuffix("g"))
    return memory + max(0.1 * memory, 0.384)


def _fits(worker: Worker, warm: dict[str, str]) -> bool:
    """Whether a worker fits into a pre-initialized one of, say, `2 vCPU` and `8 GB`."""
    cores, most = (float(warm[k].split()[0]) for k in ("cpu", "memory"))
    return worker.cores <= cores and _needed(worker) <= most
