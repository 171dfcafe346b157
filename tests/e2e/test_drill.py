"""The runbook's rehearsal of a bad day, with a look at the lake between its steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import pytest
from deltalake import DeltaTable

from lakehouse.dagster_private import AssetCheckExecutionRecordStatus
from spark_jobs.batch import quarantine
from spark_jobs.lake import ledger
from spark_jobs.lake.row import LedgerRow
from spark_jobs.lake.storage import Lake
from tests import documents
from tests.documents import DRILLS, RUNBOOK

pytestmark = pytest.mark.slow

DAY, DAY_BEFORE = "2026-10-07", "2026-10-06"


@pytest.fixture
def drill(project, monkeypatch):
    return Drill(project, monkeypatch)


class Drill:
    def __init__(self, project, monkeypatch):
        self.project, self.monkeypatch = project, monkeypatch

    @property
    def rates(self) -> DeltaTable:
        return DeltaTable(str(self.project.lake / "silver/fx_rates"))

    def readers_see(self) -> set[tuple]:
        columns = ["ccy", "as_of_date", "rate_to_base"]
        rows = self.rates.to_pyarrow_table(columns=columns).to_pylist()
        return {tuple(row.values()) for row in rows}

    def kept(self) -> set[str]:
        """The records of the day that are in quarantine."""
        rows = quarantine.rows(Lake.at(str(self.project.lake)), "silver.fx_rates", DAY)
        return {row["record"] for row in rows}

    def replayed(self) -> set[str]:
        found = quarantine.decisions(Lake.at(str(self.project.lake)), "silver.fx_rates")
        return {d["record"] for d in found if d["decision"] == "replayed"}

    def latest(self, partition: str) -> LedgerRow:
        return ledger.latest(Lake.at(str(self.project.lake)), "silver.fx_rates")[partition]

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        home = self.project.root / ".lakehouse/dagster"
        self.monkeypatch.setenv("DAGSTER_HOME", str(home))
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield instance

    def check(self, name: str) -> tuple[bool, str]:
        """Whether the newest evaluation of a check passed, and what it says."""
        key = dg.AssetCheckKey(dg.AssetKey(["silver", "fx_rates"]), name)
        with self.instance() as instance:
            storage = instance.event_log_storage
            record = storage.get_latest_asset_check_execution_by_key([key])[key]
        evaluation = record.event.get_dagster_event().asset_check_evaluation_data
        passed = record.status == AssetCheckExecutionRecordStatus.SUCCEEDED
        return passed, f"{evaluation.description} {evaluation.metadata}"


def test_a_bad_day_publishes_nothing_and_its_check_fails_until_it_is_mended(drill):
    project = drill.project
    bad, run, gaps, show, mend = documents.section(RUNBOOK, DRILLS[0])
    version, before, kept = drill.rates.version(), drill.readers_see(), drill.kept()
    assert drill.check("quarantine_rate")[0]

    project.run_block(bad)
    said = project.run_block(run)
    assert "quarantine_rate is" in said and DAY in said
    assert drill.rates.version() == version
    assert drill.readers_see() == before
    assert drill.latest(DAY).status == "failed"
    rejected = drill.kept() - kept
    assert rejected and kept <= drill.kept(), "what was rejected is kept beside what was before"
    passed, text = drill.check("quarantine_rate")
    assert not passed and DAY in text

    assert "silver.fx_rates" in project.run_block(gaps)
    assert "rate_to_base" in project.run_block(show)

    # Another day that is well does not cover up for this one.
    project.run(
        f"lakehouse backfill --from {DAY_BEFORE} --to {DAY_BEFORE} --tables silver.fx_rates --force"
    )
    assert not drill.check("quarantine_rate")[0]

    project.run_block(mend)
    assert drill.latest(DAY).status == "published"
    assert drill.readers_see() == before
    assert drill.check("quarantine_rate")[0]
    assert drill.kept() == kept
    assert drill.replayed() == rejected, "each row that leaves quarantine leaves with a decision"
    project.run("lakehouse reconcile --tables finance")


def test_tables_after_a_failed_one_do_not_run_and_others_do(drill):
    project = drill.project
    bad, *_ = documents.section(RUNBOOK, DRILLS[0])
    project.run_block(bad)
    orders = DeltaTable(str(project.lake / "silver/orders")).version()
    said = project.run(
        f"lakehouse backfill --from {DAY} --to {DAY} --force"
        " --tables finance,silver.orders,silver.products",
        expected=1,
    )
    skipped = said.split("Not run, because something before them failed:")[1].split("\n\n")[0]
    assert "silver.orders" in skipped and "silver.products" not in skipped
    assert DeltaTable(str(project.lake / "silver/orders")).version() == orders


def test_a_restored_version_is_what_readers_see(drill):
    project = drill.project

    def prices() -> list:
        table = DeltaTable(str(project.lake / "silver/products"))
        return sorted(table.to_pyarrow_table(columns=["price"])["price"].to_pylist())

    before = prices()
    spoil, restore = documents.section(RUNBOOK, DRILLS[1])
    project.run_block(spoil)
    assert set(prices()) == {0}
    project.run_block(restore)
    assert prices() == before
