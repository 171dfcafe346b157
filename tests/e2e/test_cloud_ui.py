"""What a person sees in the Dagster UI of tables that run as jobs of EMR Serverless or Databricks: a
backfill of a range, a bad day, a job that dies and is tried again, and a run that is cancelled.

Here: `lakehouse ui` with the settings of production, asked as its pages ask it and seen in a browser, on
stand-ins of all services. Not here: each way in which a job can end
(tests/integration/test_emr_runner.py and test_databricks_runner.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, expect

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
from tests.e2e.dagster_ui import PATIENCE, Ui, chromium, page_of, picture, served, wait_for

pytestmark = [pytest.mark.jvm, pytest.mark.browser, pytest.mark.slow, pytest.mark.rehearsal]

SCALE, DAYS = 0.001, 4
FIRST, SECOND, THIRD, BAD_DAY = "2026-10-05", "2026-10-06", "2026-10-07", "2026-10-08"
TABLE, BAD = "bronze.products", "bronze.customer_behavior"
# What an hour costs: EMR Serverless has prices, and of Databricks nobody knows them but who pays.
PRICED = {"emr": {}, "databricks": {"dbus_per_hour": 4.0, "price_per_dbu": 0.35}}
_LONG = PATIENCE * 1000


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

    def job(self) -> tuple[str, str]:
        """What a materialization calls the newest job, and where its page is."""
        if isinstance(self.jobs, EmrServerless):
            name = self.jobs.jobs[-1].id
            return f"EMR Serverless {name}", f"https://j-{name}.appui.emr-serverless.standin/"
        run = max(self.jobs.runs.all)
        return f"Databricks {run}", f"{self.jobs.host}/?o=0#job/0/run/{run}"

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


@pytest.fixture(scope="module", params=["emr", "databricks"])
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
        data[request.param] |= {"poll_seconds": 0.5, **PRICED[request.param]}
        (home / "prod.yaml").write_text(yaml.safe_dump(data))
        os.environ[SETTINGS] = str(home)
        settings = load_settings()
        ship(settings)
        deliver_sample(settings, SCALE, DAYS)
        with served(home, "prod") as ui:
            yield Served(request.param, settings, services.jobs, ui)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.mark.timeout(1800)
def test_the_graph_says_which_service_makes_each_table(lake: Served, browser: Browser) -> None:
    with page_of(browser, lake.ui, f"{lake.service}-graph") as page:
        page.goto("/assets/finance/fx_week?view=lineage&lineageScope=upstream&lineageDepth=4")
        page.get_by_text("Hide navigation").click()
        page.reload()  # the graph is fitted to its room when the page opens
        for group in ("bronze", "silver", "warehouse", "staging", "marts"):
            expect(page.get_by_text(group, exact=True).last).to_be_visible(timeout=_LONG)
        expect(page.get_by_text("Loading")).to_have_count(0, timeout=_LONG)
        for service, tables in ((lake.service, 2), ("redshift", 3)):
            named = page.get_by_text(re.compile(f"^{service}$", re.IGNORECASE))
            expect(named).to_have_count(tables, timeout=_LONG)
        picture(page, f"{lake.service}-graph")


@pytest.mark.timeout(1800)
def test_a_backfill_of_a_range_is_one_run_and_one_job_with_its_cost(
    lake: Served, browser: Browser
) -> None:
    before = len(lake.states())
    run = lake.ui.run_in(lake.ui.launch(TABLE, FIRST, SECOND))
    assert run["status"] == "SUCCESS"
    made = {m["partition"]: m["metadata"] for m in run["assetMaterializations"]}
    assert made.keys() == {FIRST, SECOND}
    assert lake.states()[before:] == ["SUCCESS"]
    assert {(r.partition, r.status, r.run_id) for r in lake.rows(TABLE)} == {
        (day, "published", run["runId"]) for day in (FIRST, SECOND)
    }
    name, url = lake.job()
    assert (made[SECOND]["job"], made[SECOND]["job_page"]) == (name, url)
    assert made[SECOND]["cost"] > 0 and made[SECOND]["cost_of"].startswith("USD: ")
    with page_of(browser, lake.ui, f"{lake.service}-cost") as page:
        page.goto(f"/assets/{TABLE.replace('.', '/')}?view=events&partition={SECOND}")
        for shown in ("job_page", "cost_of", name):
            expect(page.get_by_text(shown, exact=True).first).to_be_visible(timeout=_LONG)
        page.get_by_text("cost_of", exact=True).first.scroll_into_view_if_needed()
        picture(page, f"{lake.service}-cost")


@pytest.mark.timeout(1800)
def test_a_bad_day_fails_with_its_reason_and_the_good_one_is_there(
    lake: Served, browser: Browser
) -> None:
    uri = f"{lake.settings.zones['landing']}/customer_behavior/{BAD_DAY}/customer_behavior.csv"
    fs, path = lake.settings.storage.filesystem(uri)
    header, *rows = fs.open_input_stream(path).read().decode("utf-8-sig").splitlines()
    cut = [",".join(row.split(",")[:2]).replace('"', "") for row in rows]
    with fs.open_output_stream(path) as stream:
        stream.write("\n".join([header, *cut, ""]).encode())
    run = lake.ui.run_in(lake.ui.launch(BAD, THIRD, BAD_DAY))
    assert run["status"] == "FAILURE"
    assert {m["partition"] for m in run["assetMaterializations"]} == {THIRD}
    events = lake.ui.events(run["runId"])
    why = {
        e["evaluation"]["checkName"]: e["evaluation"]["description"]
        for e in events
        if e["__typename"] == "AssetCheckEvaluationEvent" and not e["evaluation"]["success"]
    }
    assert f"{BAD_DAY}: 100% of rows read, must be <= 5%" in why["quarantine_rate"]
    (failure,) = [e for e in events if e["__typename"] == "ExecutionStepFailureEvent"]
    said = str(failure["error"])
    assert "1 of 2 partitions failed" in said
    assert f"{BAD_DAY}: quarantine_rate is 1, must be <= 0.05 of rows read" in said
    assert {r.partition: r.status for r in lake.rows(BAD)} == {
        THIRD: "published",
        BAD_DAY: "failed",
    }
    with page_of(browser, lake.ui, f"{lake.service}-bad-day") as page:
        page.goto(f"/runs/{run['runId']}?logs=type%3ASTEP_FAILURE")
        expect(page.get_by_text("Failure").first).to_be_visible(timeout=_LONG)
        expect(page.get_by_text("1 of 2 partitions failed").first).to_be_visible(timeout=_LONG)
        trace = page.get_by_text("Stack Trace:").first.bounding_box()
        assert trace is not None  # it has paths of this machine
        picture(page, f"{lake.service}-bad-day", height=int(trace["y"]) - 4)


@pytest.mark.timeout(1800)
def test_a_job_that_dies_is_tried_again_in_the_same_run(lake: Served) -> None:
    before = len(lake.states())
    lake.plan("kill")
    run = lake.ui.run_in(lake.ui.launch(TABLE, THIRD))
    assert run["status"] == "SUCCESS"
    assert lake.states()[before:] == ["FAILED", "SUCCESS"]
    events = lake.ui.events(run["runId"])
    (again,) = [e for e in events if e["__typename"] == "ExecutionStepUpForRetryEvent"]
    assert "ended as FAILED" in str(again["error"])
    assert [e["__typename"] for e in events].count("ExecutionStepRestartEvent") == 1
    assert [r.status for r in lake.rows(TABLE) if r.partition == THIRD] == ["published"]


@pytest.mark.timeout(1800)
def test_a_cancelled_run_ends_its_job_and_publishes_nothing(lake: Served, browser: Browser) -> None:
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
    with page_of(browser, lake.ui, f"{lake.service}-cancelled") as page:
        page.goto(f"/runs/{run['runId']}")
        expect(page.get_by_text("Canceled").first).to_be_visible(timeout=_LONG)
        log = page.get_by_text("stdout", exact=True).first.bounding_box()
        assert log is not None  # its traces have paths of this machine
        picture(page, f"{lake.service}-cancelled", height=int(log["y"]) - 24)
