"""Tables as jobs of Databricks, under the real definitions and the real SDK: what a job published is
recorded, what it did not is not, however it ends.

Here: serverless compute and a cluster, with what was shipped and the workspace's own Spark. Not
here: what a run does to rows.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import JobSettings, SubmitTask
from deltalake import DeltaTable

from lakehouse.artifacts.artifact import artifact_in
from lakehouse.artifacts.bundle import files
from lakehouse.artifacts.store import store_of
from lakehouse.definitions import build_definitions
from lakehouse.keys import asset_key
from lakehouse.local.execution import RunOutcome
from lakehouse.settings.databricks import Cluster
from lakehouse.settings.operations import RetrySettings
from lakehouse.standins.servers.databricks.server import Workspace
from tests import processes
from tests import workspace as workspaces
from tests.integration.dagster_lake import DAYS, DagsterLake, opened, people_lake
from tests.lakes import MONDAY, TUESDAY, WEDNESDAY, bronze, column

pytestmark = [pytest.mark.jvm, pytest.mark.slow]
TABLE = "bronze.people"
PETS = bronze("pets", "csv", column("id"))
BAD = b"id,email,updated\n1,\xff\xfe,2026\n"
CLUSTER = Cluster(policy="0123456789ABCDEF", node_type="m7gd.large", workers=0)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    home = tmp_path_factory.mktemp("workspace")
    with pytest.MonkeyPatch.context() as patch, workspaces.started(home) as found:
        for name, value in workspaces.environment(found).items():
            patch.setenv(name, value)
        with people_lake(tmp_path_factory.mktemp("shipped")) as lake:
            lake.lake.define(PETS)
            settings = workspaces.settings_for(lake.settings, found.volume)
            workspaces.ship(settings, lake.lake, home)
        yield found


@pytest.fixture
def lake(dagster: DagsterLake, running: Workspace) -> Iterator[DagsterLake]:
    """Its tables run as jobs, and a step that fails is not tried again."""
    dagster.lake.define(PETS)
    dagster.settings = workspaces.settings_for(dagster.settings, running.volume)
    dagster.settings = dagster.settings.model_copy(update={"retries": RetrySettings(max=0)})
    running.requests.clear()
    yield dagster
    assert running.faults.planned == [], "a fault that was planned did not happen"


def run(lake: DagsterLake, *days: str) -> RunOutcome:
    days = days or DAYS
    return lake.run(days[0], days[-1], [asset_key(TABLE)])


def costs(lake: DagsterLake) -> list[dict[str, Any]]:
    """What the ledger says of jobs."""
    return DeltaTable(lake.lake.lake.ledger("jobs")).to_pyarrow_table().to_pylist()


def submitted(running: Workspace) -> int:
    return sum(r.endswith("/runs/submit") for r in running.requests)


def newest(running: Workspace) -> Any:
    return running.runs.all[max(running.runs.all)]


def waited_for(running: Workspace, found: Callable[[], Any]) -> Any:
    for _ in range(1_800):
        if there := found():
            return there
        time.sleep(0.1)
    raise AssertionError(f"not within three minutes: {newest(running)}")


# -- what is published -------------------------------------------------------------------------


def test_the_good_days_of_a_partly_failed_range_are_recorded_and_the_job_has_its_cost(
    lake: DagsterLake, running: Workspace
) -> None:
    lake.lake.land("people", TUESDAY, "people.csv", BAD)
    outcome = run(lake)
    (failure,) = outcome.failures
    assert "1 of 3 partitions failed" in failure.reason and f"{TUESDAY}: " in failure.reason
    assert lake.materialized(TABLE) == {MONDAY, WEDNESDAY}
    metadata, (row, *_) = lake.metadata(TABLE, WEDNESDAY), lake.lake.ledger(TABLE)
    assert metadata["inserted"] == row.inserted == 2 and metadata["engine"] == "ambient"
    assert metadata["artifact"] == row.artifact != ""
    job, (cost,) = newest(running), costs(lake)
    assert metadata["job"] == f"Databricks {job.id}" == f"{cost['service']} {cost['job']}"
    assert cost["state"] == "SUCCESS" and cost["partitions"] == 3
    dbus = json.loads(cost["billed"])["DBU"]
    assert dbus > 4.0 / 3600 and cost["cost"] == pytest.approx(dbus * 0.35, abs=1e-5)
    assert metadata["cost"] == cost["cost"]
    assert job.task["environment_key"] and "new_cluster" not in job.task
    assert job.task["python_wheel_task"]["parameters"][:2] == ["run", "--spec"]


def test_a_cluster_of_a_policy_hears_of_pipes_by_its_environment(
    lake: DagsterLake, running: Workspace
) -> None:
    lake.settings = workspaces.settings_for(
        lake.settings, running.volume, compute="cluster", cluster=CLUSTER
    )
    assert run(lake, MONDAY).success
    assert lake.materialized(TABLE) == {MONDAY}
    task = newest(running).task
    assert task["new_cluster"]["policy_id"] == CLUSTER.policy
    assert task["new_cluster"]["spark_version"].startswith("17.3")
    assert "DAGSTER_PIPES_CONTEXT" in task["new_cluster"]["spark_env_vars"]
    assert len(task["python_wheel_task"]["parameters"]) == 3


def test_tables_of_a_layer_travel_in_one_job_and_the_failure_of_one_is_its_own(
    lake: DagsterLake, running: Workspace
) -> None:
    lake.settings = workspaces.settings_for(lake.settings, running.volume, together=["bronze"])
    lake.settings = lake.settings.model_copy(update={"retries": RetrySettings(max=0)})
    lake.lake.land("pets", MONDAY, "pets.csv", BAD)
    jobs = len(running.runs.all)
    outcome = lake.run(MONDAY, MONDAY, [asset_key(TABLE), asset_key("bronze.pets")])
    assert len(running.runs.all) == jobs + 1
    (failure,) = outcome.failures
    assert "bronze.pets: 1 of 1 partitions failed" in failure.reason
    assert lake.materialized(TABLE) == {MONDAY} and lake.materialized("bronze.pets") == set()
    first, second = costs(lake)
    assert {first["table"], second["table"]} == {TABLE, "bronze.pets"}
    assert first["job"] == second["job"] == str(newest(running).id)
    assert first["cost"] == second["cost"] > 0
    assert newest(running).request["timeout_seconds"] == 2 * 3600


def test_the_workflow_of_the_bundle_runs_a_day_task_by_task(
    lake: DagsterLake, running: Workspace
) -> None:
    lake.lake.land("pets", MONDAY, "pets.csv", "id\n1\n")
    store = store_of(lake.settings)
    made = files(lake.settings, artifact_in(store), store)
    store.write("bundle/lake.json", made["lake.json"].encode())
    job = JobSettings.from_dict(
        yaml.safe_load(made["databricks.yml"])["resources"]["jobs"]["data_engineering_pipeline"]
    )
    filled = {
        "${workspace.file_path}": store.uri("bundle"),
        "{{job.parameters.day}}": MONDAY,
        "{{job.run_id}}": "7",
    }
    for task in job.tasks:
        wheel = task.python_wheel_task
        for name, value in filled.items():
            wheel.parameters = [p.replace(name, value) for p in wheel.parameters]
        submitted = SubmitTask(
            task.task_key, environment_key=task.environment_key, python_wheel_task=wheel
        )
        WorkspaceClient().jobs.submit(tasks=[submitted], environments=job.environments)
        ended = waited_for(running, lambda: newest(running).ended and newest(running))
        assert ended.result == "SUCCESS", ended.said[-3000:]
    assert len(lake.lake.rows(TABLE)) == len(lake.lake.rows("silver.people")) == 2
    assert {(r.partition, r.run_id) for r in lake.lake.ledger(TABLE)} == {(MONDAY, "7")}


# -- what goes wrong between here and there ----------------------------------------------------


def test_throttling_an_outage_and_a_lost_reply_cost_no_second_job(
    lake: DagsterLake, running: Workspace
) -> None:
    jobs = len(running.runs.all)
    running.faults.add("throttle", "runs/submit")
    running.faults.add("lose_reply", "runs/submit")
    running.faults.add("error", "runs/get$", times=2)
    running.faults.add("unavailable", "fs/files")
    assert run(lake, MONDAY).success
    assert submitted(running) == 3 and len(running.runs.all) == jobs + 1
    assert lake.materialized(TABLE) == {MONDAY}


def test_a_killed_driver_fails_its_step_with_its_page_and_its_cost(
    lake: DagsterLake, running: Workspace
) -> None:
    running.faults.add("kill")
    (failure,) = run(lake, MONDAY).failures
    assert "ended as FAILED (DRIVER_ERROR)" in failure.reason
    assert "out of memory" in failure.reason
    assert f"{running.host}/?o=0#job/0/run/{newest(running).id}" in failure.reason
    assert lake.materialized(TABLE) == set()
    (cost,) = costs(lake)
    assert cost["state"] == "FAILED" and cost["cost"] is not None


def test_a_retry_is_another_job(lake: DagsterLake, running: Workspace) -> None:
    lake.settings = lake.settings.model_copy(
        update={"retries": RetrySettings(max=1, delay_seconds=0)}
    )
    jobs = len(running.runs.all)
    running.faults.add("kill")
    assert run(lake, MONDAY).success
    assert len(running.runs.all) == jobs + 2
    tokens = [r.request["idempotency_token"] for r in list(running.runs.all.values())[-2:]]
    assert tokens[0] != tokens[1]
    assert lake.materialized(TABLE) == {MONDAY}


def test_a_job_that_hangs_is_ended_by_its_timeout_and_not_tried_again(
    lake: DagsterLake, running: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.engines.databricks.MINUTE", 0.05)
    lake.settings = lake.settings.model_copy(update={"retries": RetrySettings(delay_seconds=0)})
    running.faults.add("hang")
    jobs = len(running.runs.all)
    (failure,) = run(lake, MONDAY).failures
    assert "TIMEDOUT" in failure.reason and "timeout_minutes" in failure.reason
    assert len(running.runs.all) == jobs + 1
    assert newest(running).process.poll() is not None, "its driver is still there"
    assert lake.materialized(TABLE) == set()


def test_an_environment_that_cannot_be_installed_is_named(
    lake: DagsterLake, running: Workspace
) -> None:
    running.faults.add("no_environment")
    (failure,) = run(lake, MONDAY).failures
    assert "LIBRARY_INSTALLATION_ERROR" in failure.reason
    assert "the index of packages does not answer" in failure.reason
    assert newest(running).process is None


# -- cancellation and restarts -----------------------------------------------------------------


@contextmanager
def in_another_process(root: Path, location: tuple[str, str, str]) -> Iterator[DagsterLake]:
    """The lake in a process that was started here."""
    host, token, volume = location
    os.environ |= {"DATABRICKS_HOST": host, "DATABRICKS_TOKEN": token}
    with opened(root) as lake:
        lake.settings = workspaces.settings_for(lake.settings, volume)
        yield lake


def hanging(
    running: Workspace, function: Callable[..., None], root: Path, *arguments: str
) -> tuple[BaseProcess, Any]:
    """A process whose job does nothing until somebody ends it from outside, and that job."""
    running.faults.add("hang")
    jobs = len(running.runs.all)
    where = (running.host, running.token, running.volume)
    child = processes.start(function, root, where, *arguments)

    def found() -> Any:
        begun = len(running.runs.all) > jobs and newest(running).state == "RUNNING"
        return newest(running) if begun else None

    return child, waited_for(running, found)


def cancelled(root: Path, location: tuple[str, str, str]) -> None:
    with in_another_process(root, location) as lake:
        assert run(lake, MONDAY).interrupted


def test_a_cancelled_run_ends_its_job_and_marks_nothing(
    lake: DagsterLake, running: Workspace, tmp_path: Path
) -> None:
    child, job = hanging(running, cancelled, tmp_path)
    os.kill(child.pid, signal.SIGTERM)
    assert processes.finish(child) == 0
    assert job.result == "CANCELED" and job.process.poll() is not None
    assert lake.materialized(TABLE) == set() and lake.lake.rows(TABLE) == []
    (record,) = lake.instance.get_run_records()
    assert record.dagster_run.status in (
        dg.DagsterRunStatus.CANCELED,
        dg.DagsterRunStatus.FAILURE,
    )


def test_a_run_that_is_cancelled_before_it_is_told_of_its_job_ends_it(
    lake: DagsterLake, running: Workspace, tmp_path: Path
) -> None:
    running.faults.add("hold_reply", "runs/submit")
    child, job = hanging(running, cancelled, tmp_path)
    os.kill(child.pid, signal.SIGTERM)
    assert processes.finish(child) == 0
    assert submitted(running) == 2, "the token tells which job it is"
    assert job is newest(running) and job.result == "CANCELED"
    assert [(c["job"], c["state"]) for c in costs(lake)] == [(str(job.id), "CANCELED")]
    assert lake.materialized(TABLE) == set()


def attempted(lake: DagsterLake, run_id: str) -> dg.ExecuteInProcessResult:
    """A run by its number, as who takes it over has it, on an instance of its own."""
    definitions = build_definitions(lake.settings, contracts=lake.lake.parsed(), marts=False)
    with dg.DagsterInstance.ephemeral() as instance:
        return definitions.resolve_job_def("lake_daily").execute_in_process(
            instance=instance,
            asset_selection=[asset_key(TABLE)],
            partition_key=MONDAY,
            run_id=run_id,
            raise_on_error=False,
        )


def taken_over(root: Path, location: tuple[str, str, str], run_id: str) -> None:
    """The process that begins the run, and dies."""
    with in_another_process(root, location) as lake:
        attempted(lake, run_id)


def test_a_process_that_takes_an_attempt_over_goes_on_with_its_job(
    lake: DagsterLake, running: Workspace, tmp_path: Path
) -> None:
    jobs, run_id = len(running.runs.all), "00000000-0000-0000-0000-000000000002"
    child, job = hanging(running, taken_over, tmp_path, run_id)
    os.kill(child.pid, signal.SIGKILL)
    assert processes.finish(child) == -signal.SIGKILL
    os.killpg(job.process.pid, signal.SIGCONT)
    result = attempted(lake, run_id)
    assert result.success
    assert len(running.runs.all) == jobs + 1 and job.result == "SUCCESS"
    (event,) = result.asset_materializations_for_node("bronze__people")
    assert event.partition == MONDAY and event.metadata["inserted"].value == 2
