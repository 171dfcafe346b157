"""The data plane in a process of its own, under the real definitions: what it published is recorded,
what it did not is not, however it ends.

Here: the entry point as a process, started through Dagster Pipes by environment and by arguments.
Not here: what a run does to rows, or a run that dies at each of its steps (test_crash.py).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse.engines.process import ProcessRunner
from lakehouse.engines.runner import received
from lakehouse.keys import ARTIFACT_TAG, asset_key
from lakehouse.local.execution import RunOutcome
from lakehouse.settings.engines import RunnerSettings
from lakehouse.settings.operations import RetrySettings
from spark_jobs.report import RunSpec, TableReport
from tests import processes
from tests.integration.dagster_lake import DAYS, DagsterLake, opened
from tests.lakes import MONDAY, TUESDAY, WEDNESDAY

TABLE = "bronze.people"
BAD = b"id,email,updated\n1,\xff\xfe,2026\n"

# The entry point, in which something happens at the moment of publishing.
KILLED = """
import os, signal
from spark_jobs.batch import publish
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
publish.publish = die
"""
KILLED_AFTER_ITS_COMMIT = KILLED.replace("batch import publish", "lake import ledger").replace(
    "publish.publish", "ledger.append"
)
DEFECT = """
from spark_jobs.batch import publish
publish.publish = lambda *_: 1 / 0
"""
SILENT = """
import sys
sys.exit(0)
"""
WAITING = """
import pathlib, sys, time
from spark_jobs.batch import publish
marker = pathlib.Path(sys.argv.pop(1))
def wait(*_):
    marker.write_text(str(__import__("os").getpid()))
    time.sleep(300)
publish.publish = wait
"""


def altered(program: str, *arguments: str) -> ProcessRunner:
    return ProcessRunner(
        (
            sys.executable,
            "-c",
            f"{program}\nfrom spark_jobs.__main__ import main\nmain()",
            *arguments,
        )
    )


class ByArguments:
    """Starts the entry point as a cluster of Databricks does, which sets no environment."""

    def run(self, context: dg.AssetExecutionContext, spec: RunSpec) -> TableReport:
        with dg.open_pipes_session(
            context=context,
            context_injector=dg.PipesTempFileContextInjector(),
            message_reader=dg.PipesTempFileMessageReader(),
        ) as session:
            given = chain.from_iterable(session.get_bootstrap_cli_arguments().items())
            command = [sys.executable, "-P", "-m", "spark_jobs", "run"]
            done = subprocess.run([*command, "--spec", spec.model_dump_json(), *given])
            assert done.returncode == 0
        return received(session.get_custom_messages(), spec)


@pytest.fixture
def lake(dagster: DagsterLake) -> DagsterLake:
    """Its tables run in processes, and a step that fails is not tried again."""
    dagster.settings = dagster.settings.model_copy(
        update={"runner": RunnerSettings(name="process"), "retries": RetrySettings(max=0)}
    )
    return dagster


def run(lake: DagsterLake, runner: Any = None, days: Sequence[str] = DAYS) -> RunOutcome:
    lake.overrides = {} if runner is None else {"process": runner}
    return lake.run(days[0], days[-1], [asset_key(TABLE)])


@pytest.mark.parametrize("runner", [None, ByArguments()], ids=["environment", "arguments"])
def test_a_range_is_published_and_recorded(lake: DagsterLake, runner: Any) -> None:
    outcome = run(lake, runner)
    assert outcome.success, outcome.failures
    assert lake.materialized(TABLE) == set(DAYS)
    assert len(lake.lake.rows(TABLE)) == 6
    (row, *_) = lake.lake.ledger(TABLE)
    assert lake.metadata(TABLE, MONDAY)["inserted"] == row.inserted == 2


@pytest.mark.parametrize("runner", [None, ByArguments()], ids=["environment", "arguments"])
def test_the_good_days_of_a_partly_failed_range_are_recorded(
    lake: DagsterLake, runner: Any
) -> None:
    lake.lake.land("people", TUESDAY, "people.csv", BAD)
    outcome = run(lake, runner)
    (failure,) = outcome.failures
    assert "1 of 3 partitions failed" in failure.reason and f"{TUESDAY}: " in failure.reason
    assert lake.materialized(TABLE) == {MONDAY, WEDNESDAY}
    assert lake.metadata(TABLE, MONDAY)["inserted"] == 2
    assert {c.name for c in outcome.checks if not c.passed} >= {"row_count"}


def test_a_table_that_cannot_run_fails_with_the_error_that_it_sent(lake: DagsterLake) -> None:
    document = lake.lake.contracts / "bronze" / "people.yaml"
    lake.lake.parsed()
    document.write_text(document.read_text().replace("mode: replace_partition", "mode: often"))
    (failure,) = run(lake).failures
    assert "bronze/people.yaml:" in failure.reason and "publish: mode" in failure.reason
    assert lake.materialized(TABLE) == set()


def test_a_defect_names_itself_and_its_step(lake: DagsterLake) -> None:
    (failure,) = run(lake, altered(DEFECT)).failures
    assert "ZeroDivisionError in step publish" in failure.reason
    assert lake.materialized(TABLE) == set() and lake.lake.rows(TABLE) == []


@pytest.mark.parametrize("program", [KILLED, KILLED_AFTER_ITS_COMMIT], ids=["before", "after"])
def test_a_killed_process_fails_its_step_and_the_next_run_repairs(
    lake: DagsterLake, program: str
) -> None:
    committed = program is not KILLED
    (failure,) = run(lake, altered(program)).failures
    assert "ended before it could report" in failure.reason and "-9" in failure.reason
    assert lake.materialized(TABLE) == set()
    assert len(lake.lake.rows(TABLE)) == (6 if committed else 0)
    assert run(lake).success
    assert lake.materialized(TABLE) == set(DAYS)
    assert len(lake.lake.rows(TABLE)) == 6
    status = "unchanged" if committed else "published"
    assert lake.metadata(TABLE, MONDAY)["status"] == status


def test_a_process_that_ends_well_without_a_report_fails_its_step(lake: DagsterLake) -> None:
    (failure,) = run(lake, altered(SILENT)).failures
    assert "ended without a report" in failure.reason
    assert lake.materialized(TABLE) == set()


def test_a_process_that_was_lost_is_tried_again(lake: DagsterLake) -> None:
    lake.settings = lake.settings.model_copy(
        update={"retries": RetrySettings(max=1, delay_seconds=0)}
    )
    once = lake.settings.home / "killed"
    first_time = f"import pathlib\nif not (once := pathlib.Path({str(once)!r})).exists():\n"
    killed = "".join(f"    {line}\n" for line in ("once.touch()", *KILLED.strip().splitlines()))
    assert run(lake, altered(first_time + killed)).success
    assert once.exists() and lake.materialized(TABLE) == set(DAYS)


def cancelled(root: Path, marker: Path) -> None:
    """A run of Dagster, which is asked to end from outside while its table is about to publish."""
    with opened(root) as lake:
        lake.settings = lake.settings.model_copy(update={"runner": RunnerSettings(name="process")})
        assert run(lake, altered(WAITING, str(marker))).interrupted


def waited_for(marker: Path) -> int:
    for _ in range(600):
        if marker.exists() and marker.read_text():
            return int(marker.read_text())
        time.sleep(0.1)
    raise AssertionError("nothing came to the point of publishing within a minute")


def test_a_cancelled_run_ends_its_process_and_marks_nothing(
    lake: DagsterLake, tmp_path: Path
) -> None:
    marker = tmp_path / "waiting"
    child = processes.start(cancelled, tmp_path, marker)
    pid = waited_for(marker)
    os.kill(child.pid, signal.SIGTERM)
    assert processes.finish(child) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert lake.materialized(TABLE) == set()
    assert lake.lake.rows(TABLE) == [] and lake.lake.ledger(TABLE) == []
    assert run(lake).success


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_told_to_end_removes_what_it_staged(
    lake: DagsterLake, tmp_path: Path, sent: signal.Signals
) -> None:
    marker = tmp_path / "waiting"
    spec = lake.lake.spec(TABLE, *DAYS).model_dump_json()
    command = [*altered(WAITING, str(marker)).command, "run", "--spec", spec]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        waited_for(marker)
        process.send_signal(sent)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert said.strip().splitlines()[-1] == "error: interrupted; the run can simply be repeated"
    assert not list(Path(lake.lake.lake.table(TABLE)).rglob("*.parquet"))


def test_a_person_is_told_by_the_exit_code(lake: DagsterLake) -> None:
    lake.lake.land("people", TUESDAY, "people.csv", BAD)

    def told(*days: str) -> subprocess.CompletedProcess[str]:
        spec = lake.lake.spec(TABLE, *days).model_dump_json()
        command = [sys.executable, "-m", "spark_jobs", "run", "--spec", spec]
        return subprocess.run(command, capture_output=True, text=True)

    some = told(*DAYS)
    assert some.returncode == 1 and f"{TABLE} {TUESDAY}: " in some.stderr
    assert [p["status"] for p in json.loads(some.stdout)["partitions"]] == [
        *("published", "failed", "published")
    ]
    assert told(MONDAY, WEDNESDAY).returncode == 0
    assert told("2026-10").returncode == 2


def test_a_table_that_runs_with_the_code_that_is_here_refuses_another(lake: DagsterLake) -> None:
    outcome = lake.run(MONDAY, MONDAY, [asset_key(TABLE)], **{ARTIFACT_TAG: "0123456789abcdef"})
    (failure,) = outcome.failures
    assert "asks for the artifact 0123456789abcdef" in failure.reason
    assert lake.lake.rows(TABLE) == []


def test_parameters_of_pipes_that_are_none_are_a_mistake(lake: DagsterLake) -> None:
    spec = lake.lake.spec(TABLE, MONDAY).model_dump_json()
    command = [sys.executable, "-m", "spark_jobs", "run", "--spec", spec]
    done = subprocess.run(
        [*command, "--dagster-pipes-context", "x"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "go together" in done.stderr
    command += ["--dagster-pipes-context", "x", "--dagster-pipes-messages", "y"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "nothing could be sent to Dagster" in done.stderr
    assert lake.lake.ledger(TABLE) == []
