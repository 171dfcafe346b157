"""What a person sees and does in the Dagster UI, in a real browser on the served lake.

Three days of the sample are in the lake before it is served; three more and a bad one have been
delivered, and wait.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable
from playwright.sync_api import Browser, Page, expect

from spark_jobs.lake import ledger
from spark_jobs.lake.row import LedgerRow
from spark_jobs.lake.storage import Lake
from tests.e2e.dagster_ui import PATIENCE, PROJECT, SIZE, Ui, chromium, page_of, picture, served

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCALE, DAYS, DELIVERED = "0.002", 3, 7
NEW_DAY, GAP, BAD_DAY = "2026-10-08", ("2026-10-09", "2026-10-10"), "2026-10-11"
BAD = "bronze.customer_behavior"
_LONG = PATIENCE * 1000


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    home = tmp_path_factory.mktemp("served")
    lakehouse(home, "run", "--scale", SCALE, "--days", str(DAYS))
    lakehouse(home, "deliver", "--days", str(DELIVERED))
    spoil(home / "lake" / "landing" / "customer_behavior" / BAD_DAY / "customer_behavior.csv")
    with served(home) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def lakehouse(home: Path, *arguments: str) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lakehouse")), *arguments],
        cwd=PROJECT,
        env={**os.environ, "LAKEHOUSE_HOME": str(home), "LAKEHOUSE_ENV": "local"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def spoil(path: Path) -> None:
    """Cuts every row of a CSV file after its second field; the header stays."""
    header, *rows = path.read_text(encoding="utf-8-sig").splitlines()
    cut = [",".join(row.split(",")[:2]).replace('"', "") for row in rows]
    path.write_text("\n".join([header, *cut, ""]), encoding="utf-8")


def published(ui: Ui, table: str) -> dict[str, LedgerRow]:
    """The ledger's newest row of every partition of a table."""
    return ledger.latest(Lake.at(str(ui.home / "lake")), table)


def rows(ui: Ui, table: str, partition: str) -> int:
    """Rows of an arrival day in the Delta table itself."""
    layer, name = table.split(".")
    delta = DeltaTable(str(ui.home / "lake" / layer / name)).to_pyarrow_table(
        columns=["_arrival_date"]
    )
    return sum(str(day) == partition for day in delta["_arrival_date"].to_pylist())


def launch(page: Page, table: str, partitions: str, button: str) -> None:
    """From the asset's page: Materialize, choose partitions, launch."""
    page.goto(f"/assets/{table.replace('.', '/')}?view=overview")
    page.get_by_role("button", name="Materialize", exact=False).first.click()
    dialog = page.get_by_role("dialog").filter(has_text="Partition selection")
    chosen = dialog.get_by_role("textbox").first
    chosen.fill(partitions)
    chosen.press("Enter")
    launcher = dialog.get_by_role("button", name=button)
    expect(launcher).to_be_enabled()
    launcher.click()
    expect(dialog).to_have_count(0, timeout=_LONG)


def test_graph_shows_every_layer(ui: Ui, browser: Browser) -> None:
    groups = ui.assets()
    layers = {name.split("/")[0] for assets in groups.values() for name in assets}
    assert {"bronze", "silver", "gold", "sales", "analytics", "finance"} <= layers
    with page_of(browser, ui, "asset-graph") as page:
        page.goto("/asset-groups")
        page.get_by_text("Hide navigation").click()
        # The graph is fitted to its room when the page opens; small boxes say nothing but their name.
        page.set_viewport_size(SIZE | {"width": 2400})
        page.reload()
        boxes = page.locator("foreignObject.group > div")
        expect(boxes).to_have_count(len(groups), timeout=_LONG)
        # A box says how many of its assets are up to date, stale or failed, once it knows.
        expect(boxes.filter(has_text="fetching")).to_have_count(0, timeout=_LONG)
        expect(boxes.filter(has_text=re.compile(r"\d"))).to_have_count(len(groups))
        shown = {}
        for text in boxes.all_inner_texts():
            name, *states = text.split()
            shown[name] = sum(int(count) for count in states)
        assert shown == {name: len(assets) for name, assets in groups.items()}
        page.set_viewport_size(SIZE)
        page.goto("/assets/sales/orders_fx?view=lineage&lineageScope=upstream&lineageDepth=9")
        for layer in ("bronze", "silver", "staging", "marts"):
            expect(page.get_by_text(layer, exact=True).last).to_be_visible(timeout=_LONG)
        expect(page.get_by_text("Loading")).to_have_count(0, timeout=_LONG)
        picture(page, "asset-graph")


def test_a_partition_materialized_from_its_page_lands(ui: Ui, browser: Browser) -> None:
    table = "bronze.orders"
    assert NEW_DAY not in published(ui, table)
    with page_of(browser, ui, "materialize") as page:
        launch(page, table, NEW_DAY, "Launch 1 run")
        run = ui.run_of(table, NEW_DAY)
        assert run["status"] == "SUCCESS"
        page.goto(f"/runs/{run['runId']}")
        expect(page.get_by_text("Success").first).to_be_visible()
        expect(page.get_by_text("bronze__orders").first).to_be_visible()
        picture(page, "run")
        page.goto("/assets/bronze/orders?view=events")
        expect(page.get_by_text(f"Partition {NEW_DAY} materialized")).to_be_visible()
        expect(page.get_by_text("quality_report")).to_be_visible()
        expect(page.get_by_role("img", name="rows and quarantine rate")).to_be_visible()
        picture(page, "asset-page")
    row = published(ui, table)[NEW_DAY]
    assert row.status == "published" and row.run_id == run["runId"]
    assert rows(ui, table, NEW_DAY) == row.inserted > 0


def test_a_bad_day_shows_its_failed_check_and_reason(ui: Ui, browser: Browser) -> None:
    before = DeltaTable(str(ui.home / "lake" / "bronze" / "customer_behavior")).version()
    with page_of(browser, ui, "failed-check") as page:
        launch(page, BAD, BAD_DAY, "Launch 1 run")
        assert ui.run_of(BAD, BAD_DAY)["status"] == "FAILURE"
        page.goto("/assets/bronze/customer_behavior?view=checks&checkDetail=quarantine_rate")
        expect(page.get_by_text("Failed").first).to_be_visible()
        expect(page.get_by_text("blocking asset check")).to_be_visible()
        reason = page.get_by_text(f"{BAD_DAY}: 100% of rows read, must be <= 5%")
        expect(reason.first).to_be_visible()
        picture(page, "failed-check")
        page.goto(f"/assets/bronze/customer_behavior?view=partitions&partition={BAD_DAY}")
        expect(page.get_by_text("1 failed").or_(page.get_by_text("Failed")).first).to_be_visible()
    assert published(ui, BAD)[BAD_DAY].status == "failed"
    assert rows(ui, BAD, BAD_DAY) == 0
    after = DeltaTable(str(ui.home / "lake" / "bronze" / "customer_behavior")).version()
    assert after == before


def test_a_backfill_launched_from_the_page_completes(ui: Ui, browser: Browser) -> None:
    table = "bronze.products"
    assert not set(GAP) & set(published(ui, table))
    with page_of(browser, ui, "backfill") as page:
        launch(page, table, f"[{GAP[0]}...{GAP[1]}]", "Launch backfill")
        backfill = ui.backfill()
        assert backfill["status"] == "COMPLETED_SUCCESS"
        page.goto(f"/runs/b/{backfill['id']}")
        expect(page.get_by_text("Completed").first).to_be_visible(timeout=_LONG)
        picture(page, "backfill")
    done = published(ui, table)
    for day in GAP:
        assert done[day].status == "published"
        assert rows(ui, table, day) == done[day].inserted > 0
    assert len({done[day].run_id for day in GAP}) == 1  # one run for the range
