"""Tables run as jobs of EMR Serverless, on what was shipped and Spark 4.0.2 with Delta 4.0.0: what
a person sees in Dagster, whatever becomes of the job.

Here: the real definitions, boto3 and Pipes against the API as it is played here, which runs spark-submit
against a store that speaks S3. Not here: what a run does with rows.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner

from lakehouse.cli.doctor import doctor
from lakehouse.standins.servers.emr.server import APPLICATION
from tests import processes
from tests.integration.dagster_lake import DAYS
from tests.integration.emr_lake import BAD, TABLE, EmrLake, Service, s3, service
from tests.lakes import MONDAY, TUESDAY, WEDNESDAY

pytestmark = [pytest.mark.jvm, pytest.mark.slow, pytest.mark.spark40]


@pytest.fixture(scope="module")
def emr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("emr")) as found:
        yield found


@pytest.fixture
def lake(emr: Service, tmp_path: Path) -> Iterator[EmrLake]:
    emr.emr.forget()
    yield emr.lake(tmp_path)
    emr.emr.forget()


def begun(job) -> bool:
    """Whether Spark has begun in a driver."""
    return "WARN" in (job.folder / "stderr").read_text()


def test_the_good_days_of_a_range_are_published_and_recorded_though_the_service_is_not_well(
    emr: Service, lake: EmrLake
) -> None:
    lake.land(TUESDAY, BAD)
    lake.emr = {"budget": 0.000001, "cold_seconds": 0.001}
    emr.emr.faults.throttle, emr.emr.faults.fail, emr.emr.faults.lose_replies = 2, 1, 1
    ran = lake.run()
    (job,) = emr.emr.jobs  # though its start was asked for more than once
    assert emr.emr.requests.count("start_job_run") > 1
    assert "1 of 3 partitions failed" in ran.failure and f"{TUESDAY}: " in ran.failure
    found = ran.materialized()
    assert found.keys() == {MONDAY, WEDNESDAY}
    assert found[MONDAY]["inserted"] == 2
    newest = found[WEDNESDAY]
    assert newest["artifact"] == emr.version
    assert newest["job"] == f"EMR Serverless {job.id}"
    assert newest["job_page"] == f"https://j-{job.id}.appui.emr-serverless.standin/"
    assert newest["job_logs"].endswith(f"/jobs/{job.id}")
    assert newest["engine"] == "ambient"
    assert newest["job_waited_seconds"] > 0
    assert newest["cost"] > 0 and "vCPUHour" in newest["cost_of"]
    warned = {e.check_name: e.severity.value for e in ran.checks() if not e.passed}
    assert warned["cost_within_budget"] == "WARN" and "row_count" in warned
    assert len(lake.rows()) == 4
    assert {row.artifact for row in lake.ledger()} == {emr.version}
    assert job.state == "SUCCESS"
    said = "\n".join(ran.log)
    assert f"Job {job.id} waited" in said
    assert "a driver of 1 vCPU and 2 GB, executors of 1 vCPU and 2 GB" in said
    assert "is RUNNING" in said and "Spark's UI: https://j-" in said
    (token,) = emr.emr.dashboard_tokens
    assert token not in said and token not in json.dumps(newest, default=str)
    arguments = job.request["jobDriver"]["sparkSubmit"]["entryPointArguments"]
    assert arguments[:2] == ["run", "--spec"] and len(arguments) == 3


def test_a_driver_that_is_killed_fails_its_attempt_and_the_next_one_is_another_job(
    emr: Service, lake: EmrLake
) -> None:
    lake.retries = 1
    emr.emr.faults.kill_driver = lambda job: len(emr.emr.jobs) == 1 and begun(job)
    ran = lake.run()
    first, second = emr.emr.jobs
    assert (first.state, second.state) == ("FAILED", "SUCCESS")
    assert not [line for line in ran.log if "waited" in line], "both began in less than a minute"
    assert ran.success and ran.materialized().keys() == set(DAYS)
    said = "\n".join(ran.log)
    assert f"its job {first.id} ended as FAILED and sent no report" in said
    assert "ExitCode: 137" in said
    where = f"applications/{first.application}/jobs/{first.id}/"
    assert f"s3://artifacts/logs/{where}" in said
    kept = s3(emr.store.url).list_objects_v2(Bucket="artifacts", Prefix=f"logs/{where}")
    assert kept["KeyCount"] == 2
    jobs = {row["job"]: row for row in lake.rows("ledger.jobs")}
    assert {name: row["state"] for name, row in jobs.items()} == {
        first.id: "FAILED",
        second.id: "SUCCESS",
    }
    assert all(row["cost"] > 0 and row["currency"] == "USD" for row in jobs.values())


def test_tables_of_a_layer_travel_in_one_job_and_the_failure_of_one_is_its_own(
    emr: Service, lake: EmrLake
) -> None:
    """While their steps wait side by side, and keep what the driver prints."""
    lake.emr = {"together": ["bronze", "silver"]}
    for day in DAYS:
        lake.land(day, BAD, "pets")
    ran = lake.run_side_by_side(TABLE, "bronze.pets", "silver.people")
    ours, silver = emr.emr.jobs
    assert "bronze.pets: 3 of 3 partitions failed" in ran.failure
    assert ran.materialized().keys() == ran.materialized("silver.people").keys() == set(DAYS)
    assert ran.materialized("bronze.pets") == {}
    assert (ours.state, silver.state) == ("SUCCESS", "SUCCESS")
    said = "\n".join(ran.log)
    assert "One job runs bronze.people, bronze.pets." in said
    assert re.search(r"^said by the driver with /.+/conf$", ran.output, re.M)
    assert f"Job {ours.id} runs this table, among others." in said
    costs = {row["table"]: row for row in lake.rows("ledger.jobs")}
    assert costs.keys() == {TABLE, "bronze.pets", "silver.people"}
    assert costs[TABLE]["job"] == costs["bronze.pets"]["job"] == ours.id
    assert costs[TABLE]["cost"] == costs["bronze.pets"]["cost"]
    assert sorted(r["email"] for r in lake.rows("silver.people")) == [
        *("a@x.org", "p0@x.org", "p1@x.org", "p2@x.org")
    ]


def test_a_job_that_hangs_is_ended_when_its_time_is_over(emr: Service, lake: EmrLake) -> None:
    lake.emr = {"timeout_minutes": 1}
    emr.emr.faults.minute, emr.emr.faults.hang = 3.0, lambda job: True
    ran = lake.run()
    (job,) = emr.emr.jobs
    assert "timed out after 1 minutes" in ran.failure and job.state == "CANCELLED"
    assert job.process is not None and job.process.poll() is not None


def test_a_job_that_gets_no_capacity_is_ended_before_it_begins(emr: Service, lake: EmrLake) -> None:
    lake.emr = {"queue_minutes": 0.05}
    emr.emr.faults.full = True
    ran = lake.run()
    assert "waited for more than 0.05 minutes" in ran.failure
    (job,) = emr.emr.jobs
    asked = boto3.client("emr-serverless", endpoint_url=emr.emr.url)
    (listed,) = asked.list_job_runs(applicationId=APPLICATION, states=["CANCELLED"])["jobRuns"]
    assert listed["id"] == job.id and "cancelled" in listed["stateDetails"]
    asked.stop_application(applicationId=APPLICATION)
    found = asked.get_application(applicationId=APPLICATION)["application"]
    assert found["state"] == "STOPPED"
    asked.start_application(applicationId=APPLICATION)


def diagnosis(lake: EmrLake) -> dict[str, str]:
    """What the doctor says of each thing that it tries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lakehouse.cli.doctor.load_settings", lambda: lake.settings)
        lines = CliRunner().invoke(doctor).output.splitlines()
    return {name: said for name, _, said in (line.partition(": ") for line in lines)}


def test_an_application_of_another_release_gets_no_job_and_the_doctor_says_so(
    emr: Service, lake: EmrLake
) -> None:
    tried = ("lake", "artifact", f"emr application {APPLICATION}")
    assert diagnosis(lake) == dict.fromkeys(tried, "ok")
    lake.emr = {"release": "emr-7.13.0"}
    why = "is of release emr-spark-8.0.0, and emr.release is emr-7.13.0"
    assert why in lake.run().failure and why in diagnosis(lake)[tried[-1]]
    assert emr.emr.jobs == []


def test_contracts_that_are_not_those_that_were_shipped_get_no_job(
    emr: Service, lake: EmrLake
) -> None:
    path = emr.project / "contracts" / "bronze" / "people.yaml"
    before = path.read_text()
    path.write_text(before + "# changed\n")
    try:
        why = "has other contracts than"
        assert why in lake.run().failure and why in diagnosis(lake)["artifact"]
    finally:
        path.write_text(before)
    assert emr.emr.jobs == []


def running(home: Path, emr: Service, root: str, run_id: str) -> None:
    """A run of Dagster in a process of its own; it ends badly, or not at all."""
    lake = EmrLake(emr, home, root)
    lake.run(run_id=run_id)


def started(emr: Service, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not [j for j in emr.emr.jobs if j.state == "RUNNING"]:
        assert time.monotonic() < deadline, "no job ran"
        time.sleep(0.1)


def asked(emr: Service, seconds: float = 120) -> None:
    """Waits for a job that nobody has been told of."""
    deadline = time.monotonic() + seconds
    while not emr.emr.jobs:
        assert time.monotonic() < deadline, "no job was asked for"
        time.sleep(0.1)


def elsewhere(emr: Service, lake: EmrLake, run_id: str):
    there = Service(emr.store, None, emr.version, emr.project)  # type: ignore[arg-type]
    return processes.start(running, lake.home, there, lake.root, run_id)


def test_a_run_that_is_cancelled_before_it_is_told_of_its_job_ends_it(
    emr: Service, lake: EmrLake
) -> None:
    emr.emr.faults.full = True
    emr.emr.faults.hold_reply = threading.Event()
    child = elsewhere(emr, lake, "00000000-0000-0000-0000-000000000003")
    asked(emr)
    os.kill(child.pid, signal.SIGTERM)
    processes.finish(child)
    (job,) = emr.emr.jobs
    assert job.state == "CANCELLED" and job.process is None
    assert emr.emr.requests.count("start_job_run") == 2, "the token tells which job it is"


def test_a_run_that_is_cancelled_ends_its_job(emr: Service, lake: EmrLake) -> None:
    emr.emr.faults.hang = lambda job: True  # else it may be done before anybody can cancel it
    child = elsewhere(emr, lake, "00000000-0000-0000-0000-000000000001")
    started(emr)
    os.kill(child.pid, signal.SIGTERM)
    processes.finish(child)
    (job,) = emr.emr.jobs
    assert job.state == "CANCELLED"
    assert job.process is not None and job.process.poll() is not None
    assert lake.rows() == [] and lake.ledger() == []


def test_a_process_that_takes_an_attempt_over_goes_on_with_its_job(
    emr: Service, lake: EmrLake
) -> None:
    """Though the one before was killed when nobody had been told of it."""
    emr.emr.faults.hold_reply = threading.Event()
    run_id = "00000000-0000-0000-0000-000000000002"
    child = elsewhere(emr, lake, run_id)
    asked(emr)
    os.kill(child.pid, signal.SIGKILL)
    processes.finish(child)
    ran = lake.run(run_id=run_id)
    assert ran.success, ran.failure
    (job,) = emr.emr.jobs
    assert job.state == "SUCCESS" and ran.materialized().keys() == set(DAYS)
    assert len(lake.ledger()) == 3
