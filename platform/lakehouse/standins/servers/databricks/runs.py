"""Runs of one-time jobs: from their submission to their end, and what can be asked of them then.

Belongs here: the states of a run as the Jobs API (2.2) has them, and what leads from one to the next.
Does not belong here: HTTP (server.py), or how a driver is started (compute.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lakehouse.standins.servers.databricks.compute import Compute, NoEnvironment
from lakehouse.standins.servers.databricks.faults import Fault, Faults
from lakehouse.standins.servers.databricks.volumes import ApiError, Volumes

_END_SECONDS = 10.0
_LOOK_SECONDS = 0.1
_LONGEST_TOKEN, _LONGEST_PARAMETERS = 64, 10_000


@dataclass
class Run:
    """A run of one task; `id` is the run's, `task_id` that of its task. Times are in milliseconds."""

    id: int
    request: Mapping[str, Any]
    log: Path
    state: str = "PENDING"
    result: str | None = None
    message: str = ""
    termination: str | None = None
    started: int = field(default_factory=lambda: _now())
    running: int | None = None
    ended: int | None = None
    process: subprocess.Popen[bytes] | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def task_id(self) -> int:
        return self.id + 1

    @property
    def task(self) -> Mapping[str, Any]:
        return self.request["tasks"][0]

    def end(self, result: str, termination: str, message: str = "") -> None:
        self.result, self.termination, self.message = result, termination, message
        self.ended = _now()
        self.state = "INTERNAL_ERROR" if result == "INTERNAL_ERROR" else "TERMINATED"

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Runs:
    """All runs of a workspace."""

    def __init__(self, home: Path, compute: Compute, volumes: Volumes, faults: Faults) -> None:
        self.home, self.compute, self.volumes, self.faults = home, compute, volumes, faults
        self.all: dict[int, Run] = {}
        self._tokens: dict[str, int] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    # -- the API -------------------------------------------------------------------------------

    def submit(self, request: Mapping[str, Any]) -> dict[str, Any]:
        _checked(request)
        token = request.get("idempotency_token")
        with self._lock:
            if token in self._tokens:
                return {"run_id": self._tokens[token]}
            run = Run(1_000 + 2 * len(self.all), request, self.home / f"{len(self.all)}.log")
            self.all[run.id] = run
            if token:
                self._tokens[token] = run.id
        thread = threading.Thread(target=self._through, args=(run,), daemon=True)
        self._threads.append(thread)
        thread.start()
        return {"run_id": run.id}

    def get(self, run_id: int, host: str) -> dict[str, Any]:
        run = self._run(run_id)
        page = f"{host}/?o=0#job/0/run/{run.id}"
        times: dict[str, Any] = {"start_time": run.started}
        if run.ended:
            running = run.running or run.ended
            times |= {"setup_duration": running - run.started, "end_time": run.ended}
            times |= {"execution_duration": run.ended - running, "cleanup_duration": 0}
        state: dict[str, Any] = {"life_cycle_state": run.state, "state_message": run.message}
        status: dict[str, Any] = {"state": run.state}
        if run.result:
            state["result_state"] = "FAILED" if run.result == "INTERNAL_ERROR" else run.result
            status = {
                "state": "TERMINATED",
                "termination_details": {
                    "code": run.termination,
                    "type": "SUCCESS" if run.result == "SUCCESS" else "CLIENT_ERROR",
                    "message": run.message,
                },
            }
        shared = {"state": state, "status": status, "run_page_url": page, **times}
        task = {**run.task, "run_id": run.task_id, "attempt_number": 0, **shared}
        return {
            "run_id": run.id,
            "run_name": run.request.get("run_name", "Untitled"),
            "run_type": "SUBMIT_RUN",
            "creator_user_name": "somebody",
            "tasks": [task],
            **shared,
        }

    def output(self, task_id: int, host: str) -> dict[str, Any]:
        run = self._run(task_id - 1)
        if not run.ended:
            raise ApiError(400, "INVALID_STATE", f"Run {task_id} has no output yet")
        out: dict[str, Any] = {"metadata": self.get(run.id, host), "logs": run.said[-5_000_000:]}
        if run.result != "SUCCESS":
            lines = [line for line in run.said.splitlines() if line.strip()]
            out["error"] = lines[-1] if lines else run.message
            out["error_trace"] = "\n".join(lines[-50:])
        return out

    def cancel(self, run_id: int) -> dict[str, Any]:
        self._run(run_id).cancelled.set()
        return {}

    def listed(self, host: str, *, active: bool) -> dict[str, Any]:
        newest = sorted(self.all, reverse=True)
        found = [self.get(n, host) for n in newest if not (active and self.all[n].ended)]
        return {"runs": found, "has_more": False}

    def stop(self) -> None:
        """Ends all runs, and waits for them."""
        for run in self.all.values():
            run.cancelled.set()
        for thread in self._threads:
            thread.join()

    def _run(self, run_id: int) -> Run:
        if run_id not in self.all:
            raise ApiError(400, "INVALID_PARAMETER_VALUE", f"Run {run_id} does not exist.")
        return self.all[run_id]

    # -- what becomes of a run -----------------------------------------------------------------

    def _through(self, run: Run) -> None:
        try:
            self._run_through(run)
        except Exception as error:  # of this stand-in: nobody is to wait for ever
            run.end("INTERNAL_ERROR", "INTERNAL_ERROR", f"{type(error).__name__}: {error}")
            raise

    def _run_through(self, run: Run) -> None:
        fault = self.faults.of_run()
        try:
            if fault and fault.kind == "no_environment":
                raise NoEnvironment("the index of packages does not answer")
            python = self.compute.python(*self._asked(run))
        except (NoEnvironment, ApiError) as error:
            message = f"Library installation failed: {error}"
            run.end("INTERNAL_ERROR", "LIBRARY_INSTALLATION_ERROR", message)
            return
        task = dict(run.task["python_wheel_task"]) | {"run_name": run.request.get("run_name", "")}
        variables = run.task.get("new_cluster", {}).get("spark_env_vars", {})
        run.process = self.compute.start(python, task, variables, run.log)
        run.running, run.state = _now(), "RUNNING"
        self._watched(run, run.process, fault)

    def _watched(self, run: Run, process: subprocess.Popen[bytes], fault: Fault | None) -> None:
        seconds = run.task.get("timeout_seconds") or run.request.get("timeout_seconds")
        deadline = time.monotonic() + seconds if seconds else None
        while process.poll() is None:
            if fault and fault.when in run.said:
                os.killpg(process.pid, signal.SIGKILL if fault.kind == "kill" else signal.SIGSTOP)
                fault = None
            if run.cancelled.is_set():
                _end(process)
                return run.end("CANCELED", "USER_CANCELED", "Run cancelled.")
            if deadline and time.monotonic() > deadline:
                _end(process)
                message = f"Run exceeded the timeout of {seconds} seconds."
                return run.end("TIMEDOUT", "CANCELED", message)
            time.sleep(_LOOK_SECONDS)
        if process.returncode == 0:
            return run.end("SUCCESS", "SUCCESS")
        if process.returncode < 0:
            message = "The Python process exited unexpectedly; the driver may be out of memory."
            return run.end("FAILED", "DRIVER_ERROR", message)
        return run.end("FAILED", "RUN_EXECUTION_ERROR", "Workload failed, see run output.")

    def _asked(self, run: Run) -> tuple[list[Path], list[str]]:
        """The wheels and requirements of a task, of its environment or of its cluster."""
        asked = []
        for environment in run.request.get("environments", []):
            if environment["environment_key"] == run.task.get("environment_key"):
                asked += environment["spec"].get("dependencies", [])
        for library in run.task.get("libraries", []):
            asked += [library["whl"]] if "whl" in library else []
            asked += [library["pypi"]["package"]] if "pypi" in library else []
            if "requirements" in library:
                asked += self.volumes.read(library["requirements"]).decode().splitlines()
        wheels = [self.volumes.local(a) for a in asked if a.endswith(".whl")]
        if missing := [w for w in wheels if not w.is_file()]:
            raise NoEnvironment(f"{missing[0].name} does not exist in its volume")
        return wheels, [a for a in asked if not a.endswith(".whl")]


def _checked(request: Mapping[str, Any]) -> None:
    """Refuses what the service would."""

    def need(condition: object, message: str) -> None:
        if not condition:
            raise ApiError(400, "INVALID_PARAMETER_VALUE", message)

    tasks = request.get("tasks") or []
    need(len(tasks) == 1, "This stand-in runs one task per run.")
    task, token = tasks[0], request.get("idempotency_token") or ""
    need(task.get("task_key"), "task_key is required.")
    need(len(token) <= _LONGEST_TOKEN, "idempotency_token has more than 64 characters.")
    wheel = task.get("python_wheel_task") or {}
    need(wheel.get("package_name") and wheel.get("entry_point"), "python_wheel_task is required.")
    parameters = wheel.get("parameters", [])
    need(all(isinstance(p, str) for p in parameters), "parameters are strings.")
    need(sum(map(len, parameters)) < _LONGEST_PARAMETERS, "parameters exceed 10000 bytes.")
    keys = {e.get("environment_key") for e in request.get("environments", [])}
    has_cluster = "new_cluster" in task or "existing_cluster_id" in task
    serverless = task.get("environment_key") in keys
    need(has_cluster != serverless, "A task has a cluster or an environment.")
    need(not (serverless and task.get("libraries")), "Serverless compute takes no libraries.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """What the end of a cluster does to its processes."""
    for sent in (signal.SIGCONT, signal.SIGTERM):
        os.killpg(process.pid, sent)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _now() -> int:
    return int(time.time() * 1000)
