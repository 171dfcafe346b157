"""The life of job runs: queued, run, killed, ended, with the states and logs of the service.

Belongs here: what becomes of a job, and what can be made to go wrong with it. Does not belong here:
the API (server.py), or the driver (image.py).
"""

from __future__ import annotations

import contextlib
import gzip
import os
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lakehouse.standins.servers.emr.image import RELEASE, Image, properties_of

ENDED = ("SUCCESS", "FAILED", "CANCELLED")
_GRACE_SECONDS = 30.0
_POLL_SECONDS = 0.2


@dataclass
class Faults:
    """What goes wrong. `throttle` and `fail` are how many requests get no other answer;
    `lose_replies` how many jobs are started without anybody being told, and the next one waits to be
    told of until `hold_reply` is set. `full` makes jobs queue.
    `kill_driver` is asked while a driver runs, and kills it once it says so; `hang` stops it there.
    A minute of a job's time limit takes `minute` seconds."""

    throttle: int = 0
    fail: int = 0
    lose_replies: int = 0
    hold_reply: threading.Event | None = None
    full: bool = False
    kill_driver: Callable[[JobRun], bool] | None = None
    hang: Callable[[JobRun], bool] | None = None
    minute: float = 60.0


@dataclass
class JobRun:
    """A job run, as the service describes it."""

    id: str
    application: str
    request: dict[str, Any]
    folder: Path
    created_at: float = field(default_factory=time.time)
    started_at: float | None = None
    ended_at: float | None = None
    state: str = "SUBMITTED"
    details: str = ""
    billed: dict[str, float] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def described(self) -> dict[str, Any]:
        times = {"startedAt": self.started_at, "endedAt": self.ended_at}
        billed = {"billedResourceUtilization": self.billed} if self.billed else {}
        return {
            **{k: v for k, v in times.items() if v is not None},
            **billed,
            **self.summary(),
            "executionTimeoutMinutes": self.request.get("executionTimeoutMinutes", 720),
            "jobDriver": self.request["jobDriver"],
            "configurationOverrides": self.request.get("configurationOverrides", {}),
            "tags": self.request.get("tags", {}),
            "attempt": 1,
        }

    def summary(self) -> dict[str, Any]:
        return {
            "applicationId": self.application,
            "jobRunId": self.id,
            "name": self.request.get("name", ""),
            "arn": f"arn:aws:emr-serverless:::/applications/{self.application}/jobruns/{self.id}",
            "createdBy": "arn:aws:iam::000000000000:user/standin",
            "executionRole": self.request["executionRoleArn"],
            "createdAt": self.created_at,
            "updatedAt": time.time(),
            "state": self.state,
            "stateDetails": self.details,
            "releaseLabel": RELEASE,
        }


class Runs:
    """Runs each job in a thread; `stop` ends all of them."""

    def __init__(self, image: Image, s3: Any, folder: Path) -> None:
        self._image, self._s3, self._folder = image, s3, folder
        self.faults = Faults()
        self.jobs: dict[str, JobRun] = {}
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, application: str, request: dict[str, Any]) -> JobRun:
        name = secrets.token_hex(8)
        job = JobRun(name, application, request, self._folder / name)
        self.jobs[name] = job
        thread = threading.Thread(target=self._live, args=(job,), daemon=True)
        self._threads.append(thread)
        thread.start()
        return job

    def cancel(self, job: JobRun) -> None:
        if job.state not in ENDED:
            job.state, job.details = "CANCELLING", "Cancellation was requested"

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)

    def _live(self, job: JobRun) -> None:
        job.folder.mkdir()
        try:
            job.state = "PENDING"
            while self.faults.full and job.state != "CANCELLING" and not self._stopped.is_set():
                job.state, job.details = "QUEUED", "Waiting for capacity of the application"
                time.sleep(_POLL_SECONDS)
            if job.state != "CANCELLING":
                job.state, job.details = "SCHEDULED", ""
                job.process = self._image.submit(job.folder, job.request, self._s3)
                job.started_at = time.time()
                if job.state != "CANCELLING":
                    job.state = "RUNNING"
                with _ended_with_this_process(job.process):
                    self._follow(job, job.process)
            else:
                self._end(job, "CANCELLED", "Job run was cancelled")
        except Exception as error:
            self._end(job, "FAILED", f"Job failed before its driver ran: {error}")

    def _follow(self, job: JobRun, process: subprocess.Popen[bytes]) -> None:
        killed = hangs = timed_out = False
        limit = job.request.get("executionTimeoutMinutes", 720) * self.faults.minute
        while process.poll() is None:
            if self.faults.kill_driver and not killed and self.faults.kill_driver(job):
                killed = True  # as the kernel does when a container's memory is spent
                os.killpg(process.pid, signal.SIGKILL)
            if self.faults.hang and not hangs and self.faults.hang(job):
                hangs = True
                os.killpg(process.pid, signal.SIGSTOP)
            timed_out = job.started_at is not None and time.time() - job.started_at > limit
            if job.state == "CANCELLING" or timed_out or self._stopped.is_set():
                _stop(process)
            time.sleep(_POLL_SECONDS)
        self._bill(job)
        self._keep_logs(job)
        code = 137 if killed else process.returncode
        if job.state == "CANCELLING":
            self._end(job, "CANCELLED", "Job run was cancelled")
        elif timed_out:
            minutes = job.request["executionTimeoutMinutes"]
            self._end(job, "CANCELLED", f"Job run timed out after {minutes} minutes")
        elif code == 0:
            self._end(job, "SUCCESS", "")
        else:
            why = "Job failed, please check complete logs in configured logging destination."
            self._end(job, "FAILED", f"{why} ExitCode: {code}")

    def _end(self, job: JobRun, state: str, details: str) -> None:
        job.ended_at, job.details, job.state = time.time(), details, state
        shutil.rmtree(job.folder, ignore_errors=True)

    def _bill(self, job: JobRun) -> None:
        """A driver and an executor of the sizes that were asked for, a minute at least."""
        given, seconds = properties_of(job.request), time.time() - (job.started_at or time.time())
        hours = max(60.0, seconds) / 3600
        sizes = [
            (given.get(f"spark.{r}.cores", "4"), given.get(f"spark.{r}.memory", "14g"))
            for r in ("driver", "executor")
        ]
        job.billed = {
            "vCPUHour": round(hours * sum(int(c) for c, _ in sizes), 3),
            "memoryGBHour": round(hours * sum(int(m.rstrip("g")) for _, m in sizes), 3),
            "storageGBHour": round(hours * 40, 3),
        }

    def _keep_logs(self, job: JobRun) -> None:
        monitoring = job.request.get("configurationOverrides", {}).get(
            "monitoringConfiguration", {}
        )
        uri = monitoring.get("s3MonitoringConfiguration", {}).get("logUri")
        if uri is None:
            return
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        for stream in ("stdout", "stderr"):
            name = f"applications/{job.application}/jobs/{job.id}/SPARK_DRIVER/{stream}.gz"
            content = gzip.compress((job.folder / stream).read_bytes())
            self._s3.put_object(Bucket=bucket, Key=f"{prefix.rstrip('/')}/{name}", Body=content)


@contextlib.contextmanager
def _ended_with_this_process(driver: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kills a driver when this process is gone, however it ended: that closes the pipe."""
    watchdog = subprocess.Popen(
        ["sh", "-c", 'cat >/dev/null; kill -9 -- "-$0"', str(driver.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        watchdog.kill()
        watchdog.communicate()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """As a container is stopped: told to end, and killed if it has not after a while."""
    os.killpg(process.pid, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGCONT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
