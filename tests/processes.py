"""Runs of tables in processes of their own, for tests that kill them or let them race.

Belongs here: starting such a process, quickly and cleanly, and what it does. Does not belong here:
what must hold afterwards.

The processes are forked from a server that has imported everything and started nothing, so that
each costs half a second, and no thread or connection of the test's own engine comes along.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from spark_jobs.report import TableReport
from tests import small_spark
from tests.lakes import TinyLake, transforms_in

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.preloaded"])


def start(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    handle, log = tempfile.mkstemp(suffix=".log")
    os.close(handle)
    # The server that it is forked from has the environment of whoever started one first.
    target = (log, dict(os.environ), function, *arguments)
    process = context.Process(target=_logged, args=target, name=log)
    process.start()
    return process


def finish(process: BaseProcess, seconds: float = 120) -> int | None:
    """Waits for a process; 0, or less for the signal that killed it. Fails with what the process
    said if it failed by itself or hangs."""
    process.join(seconds)
    hangs = process.is_alive()
    if hangs:
        process.kill()
    log = Path(process.name)
    said = log.read_text()[-3000:]
    log.unlink()
    if hangs:
        raise AssertionError(f"a process was still running after {seconds} s: {said}")
    if process.exitcode:
        assert process.exitcode < 0, said
    return process.exitcode


def _logged(
    log: str, environment: dict[str, str], function: Callable[..., None], *arguments: Any
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    # The forked process has the test runner's output; a killed run's last words are not news there.
    sys.stderr = sys.stdout = open(log, "w", buffering=1)  # noqa: SIM115
    function(*arguments)


def run(root: Path, table: str, *partitions: str, engine: str = "sail", run_id: str) -> TableReport:
    """Runs a table of the tiny lake at `root` in this process, on an engine of its own."""
    with small_spark.started(engine) as started, transforms_in(root / "transforms"):
        return TinyLake(root, started).run(table, *partitions, engine=engine, run_id=run_id)


def die() -> None:
    """Ends this process as a power cut would: no handler, no clean-up."""
    os.kill(os.getpid(), signal.SIGKILL)
