"""What a person sees in the Dagster UI of tables that run as jobs of Databricks: a
backfill of a range, a bad day, a job that dies and is tried again, and a run that is cancelled.

Here: `lakehouse ui` with the settings of production, asked as its pages ask it, on stand-ins of all
services. Not here: each way in which a job can end (tests/integration/test_emr_runner.py and
test_databricks_runner.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakehouse.cli.deliver import deliver_sample
from lakehouse.cli.deploy import ship
from lakehouse.settings.load import FILES, SETTINGS, load_settings
from lakehouse.settings.model import Settings
from lakehouse.standins.cloud import Service, cloud
from lakehouse.standins.servers.databricks.server import Workspace
from lakehouse.standins.servers.emr.server import EmrServerless
from spark_jobs.lake import ledger
from spark_jobs.lake.row import LedgerRow
from spark_jobs.lake.storage import Lake
from tests.e2e.conftest import elsewhere
from tests.e2e.dagster_ui import Ui, served, wait_for

pytestmark = [pytest.mark.jvm, pytest.mark.slow, pytest.mark.rehearsal]

SCALE, DAYS = 0.001, 4
FIRST, SECOND, THIRD, BAD_DAY = "2026-10-05", "2026-10-06", "2026-10-07", "2026-10-08"
TABLE, BAD = "bronze.products", "bronze.customer_behavior"


@dataclass
class Served:
    """A lake in production's place, what runs its jobs, and its pages."""

    service: Service
    settings: Settings
    jobs: EmrServerless | Workspace
    ui: Ui

    def rows(self, table: str) -> list[LedgerRow]:
        return ledger.history(Lake(self.settings.zones, self.settings.storage), table)

    def states(self) -> list[str]:
        """How every job of the service has ended, in the order of their start."""
        if isinstance(self.jobs, EmrServerless):
            return [job.state for job in self.jobs.jobs]
        return [run.result or run.state for _, run in sorted(self.jobs.runs.all.items())]

    def plan(self, fault: str) -> None:
        """The next job is killed once its driver runs, or does nothing any more."""
        if isinstance(self.jobs, Workspace):
            self.jobs.faults.add(fault)  # type: ignore[arg-type]
            return
        done: list[str] = []

        def once(job: Any) -> bool:
            if not done:
                done.append(job.id)
            return done == [job.id]

        setattr(self.jobs.faults, {"kill": "kill_driver", "hang": "hang"}[fault], once)


@pytest.fixture(scope="module", params=["databricks"])
def lake(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    home: Path = tmp_path_factory.mktemp(request.param)
    with elsewhere(home), cloud(FIRST, request.param) as services:
        os.environ.update(services.variables)
        folder = Path(os.environ.get(SETTINGS) or FILES)
        data = yaml.safe_load((folder / "prod.yaml").read_text())
        data["retries"] = {"max": 1, "delay_seconds": 0}
        data["schedules"] = {"active": False}  # only what a person launches
        data[request.param]["poll_seconds"] = 0.5
        (home / "prod.yaml").write_text(yaml.safe_dump(data))
        os.environ[SETTINGS] = str(home)
        settings = load_settings()
        ship(settings)
        deliver_sample(settings, SCALE, DAYS)
        with served(home, "prod") as ui:
            yield Served(request.param, settings, services.jobs, ui)


@pytest.mark.timeout(1800)
def test_a_backfill_of_a_range_is_one_run_and_one_job(lake: Served) -> None:
    before = len(lake.states())
    backfill = lake.ui.launch(TABLE, FIRST, SECOND)
    run = lake.ui.run_in(backfill)
    assert run["status"] == "SUCCESS"
    assert {m["partition"] for m in run["assetMaterializations"]} >= {FIRST, SECOND}
    assert lake.states()[before:] == ["SUCCESS"]
    assert {(r.partition, r.status, r.run_id) for r in lake.rows(TABLE)} == {
        (day, "published", run["runId"]) for day in (FIRST, SECOND)
    }


@pytest.mark.timeout(1800)
def test_a_bad_day_fails_with_its_reason_and_the_good_one_is_there(lake: Served) -> None:
    uri = f"{lake.settings.zones['landing']}/customer_behavior/{BAD_DAY}/customer_behavior.csv"
    fs, path = lake.settings.storage.filesystem(uri)
    header, *rows = fs.open_input_stream(path).read().decode("utf-8-sig").splitlines()
    cut = [",".join(row.split(",")[:2]).replace('"', "") for row in rows]
    with fs.open_output_stream(path) as stream:
        stream.write("\n".join([header, *cut, ""]).encode())
    run = lake.ui.run_in(lake.ui.launch(BAD, THIRD, BAD_DAY))
    assert run["status"] == "FAILURE"
    assert {m["partition"] for m in run["assetMaterializations"]} & {THIRD, BAD_DAY} == {THIRD}
    events = lake.ui.events(run["runId"])
    failed = {
        e["evaluation"]["checkName"]
        for e in events
        if e["__typename"] == "AssetCheckEvaluationEvent" and not e["evaluation"]["success"]
    }
    assert "quarantine_rate" in failed
    assert any(
        "1 of 2 partitions failed" in e.get("message", "") + str(e.get("error")) for e in events
    )
    assert any(f"{BAD_DAY}: 100% of rows read" in str(e) for e in events)
    assert {r.partition: r.status for r in lake.rows(BAD)} == {
        THIRD: "published",
        BAD_DAY: "failed",
    }


@pytest.mark.timeout(1800)
def test_a_job_that_dies_is_tried_again_in_the_same_run(lake: Served) -> None:
    before = len(lake.states())
    lake.plan("kill")
    run = lake.ui.run_in(lake.ui.launch(TABLE, THIRD))
    assert run["status"] == "SUCCESS"
    assert lake.states()[before:] == ["FAILED", "SUCCESS"]
    events = [e["__typename"] for e in lake.ui.events(run["runId"])]
    assert events.count("ExecutionStepUpForRetryEvent") == 1
    assert events.count("ExecutionStepRestartEvent") == 1
    assert [r.status for r in lake.rows(TABLE) if r.partition == THIRD] == ["published"]


@pytest.mark.timeout(1800)
def test_a_cancelled_run_ends_its_job_and_publishes_nothing(lake: Served) -> None:
    before = len(lake.states())
    lake.plan("hang")
    backfill = lake.ui.launch(TABLE, BAD_DAY)
    run = lake.ui.run_in(backfill, "STARTED")
    wait_for("the job", lambda: lake.states()[before:] == ["RUNNING"], 300)
    lake.ui.terminate(run["runId"])
    ended = lake.ui.run_in(backfill, "CANCELED", "FAILURE", "SUCCESS")
    assert ended["status"] == "CANCELED" and ended["assetMaterializations"] == []
    word = "CANCELED" if lake.service == "databricks" else "CANCELLED"
    assert lake.states()[before:] == [word]
    assert [r for r in lake.rows(TABLE) if r.partition == BAD_DAY] == []
