"""`lakehouse ui` ends with everything it started; the processes here are real, Dagster is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from lakehouse.cli import ui

PROJECT = Path(__file__).parents[2]

# A child with a child of its own, as `dagster dev` has code servers; both note who they are.
FAMILY = """
import os, signal, subprocess, sys, time
folder, generation = sys.argv[1], int(sys.argv[2])
if "{stubborn}" == "yes":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(f"{{folder}}/{{generation}}", "w").write(str(os.getpid()))
if generation == 1:
    child = subprocess.Popen([sys.executable, "-c", open(f"{{folder}}/code").read(), folder, "2"])
{body}
"""
SERVE = """
import sys
from lakehouse.cli import ui
code = open(sys.argv[1] + "/code").read()
sys.exit(ui.serve([sys.executable, "-c", code, sys.argv[1], "1"], grace=1))
"""


def wait_for(look: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def start(folder: Path, *, stubborn: bool = False, body: str = "time.sleep(600)") -> tuple:
    """The serving process, and the pids of the two generations below it."""
    code = FAMILY.format(stubborn="yes" if stubborn else "no", body=body)
    (folder / "code").write_text(code)
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(folder)])
    pids = [folder / "1", folder / "2"]
    wait_for(lambda: all(p.exists() and p.read_text() for p in pids))
    return process, [int(p.read_text()) for p in pids]


def running(pids: list[int]) -> list[int]:
    return [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != "zombie"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_every_generation_at_once(tmp_path: Path, number: signal.Signals) -> None:
    process, pids = start(tmp_path)
    assert running(pids) == pids
    asked = time.monotonic()
    os.kill(process.pid, number)  # to this process alone, as `kill` does
    assert process.wait(20) == 0
    assert time.monotonic() - asked < 5
    assert running(pids) == []


def test_what_ignores_the_signal_is_killed_after_the_grace(tmp_path: Path) -> None:
    process, pids = start(tmp_path, stubborn=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert running(pids) == []


def test_a_command_that_fails_leaves_nothing_and_passes_its_code_on(tmp_path: Path) -> None:
    body = "time.sleep(600) if generation == 2 else (time.sleep(1), sys.exit(3))"
    process, pids = start(tmp_path, body=body)
    assert process.wait(20) == 3
    assert running(pids) == []


@pytest.mark.parametrize(
    ("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)]
)
def test_a_server_that_others_reach_is_announced_with_a_warning(
    host: str, warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(ui, "serve", lambda command: started.append(command) or 0)
    monkeypatch.chdir(PROJECT)
    for name in ("DAGSTER_HOME", "DAGSTER_EVENT_BATCH_SIZE", "LAKEHOUSE_ENV", "LAKEHOUSE_HOME"):
        monkeypatch.setenv(name, "")  # so that they are put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))
    done = CliRunner().invoke(ui.ui, ["--host", host, "--name", "lake.example.com"])
    assert done.exit_code == 0, done.output
    assert ("Dagster has no login" in done.stderr) == warned
    assert started[0][-6:] == ["--host", host, "--port", "3000", "--name", "lake.example.com"]
