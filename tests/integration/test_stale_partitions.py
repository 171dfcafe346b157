"""Stale partitions under Dagster: they are listed, filled to the end, and seen in the UI.

Here: gaps, the gap filler and the check. Not here: which partitions are stale (test_lookups.py).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from lakehouse.cli import gaps as command
from lakehouse.cli import main
from lakehouse.definitions import build_definitions
from spark_jobs.batch import quarantine
from tests.integration.dagster_lake import DAYS, DagsterLake, people
from tests.lakes import MONDAY, TUESDAY, WEDNESDAY, bronze, column, contract, copied, rule

VISITS = dg.AssetKey(["silver", "visits"])


@pytest.fixture
def visits(dagster: DagsterLake, monkeypatch: pytest.MonkeyPatch) -> DagsterLake:
    """Visits refer to people, and stays to visits: Tuesday's visit is of somebody unknown."""
    lake = dagster.lake
    gates = {"max_quarantine_rate": 1.0, "min_rows": 0}
    at = column("updated", "timestamp", required=True)
    lake.define(
        bronze("visits", "csv", column("id"), column("person"), column("updated"), gates=gates)
    )
    lake.define(
        bronze("stays", "csv", column("id"), column("visit"), column("updated"), gates=gates)
    )
    for name, refers_to in (("visits", "person"), ("stays", "visit")):
        parents = "silver.people" if name == "visits" else "silver.visits"
        lake.define(
            contract(
                f"silver.{name}",
                [
                    column("id", "bigint", key=1, of=f"bronze.{name}.id"),
                    column(refers_to, "bigint", rule("reference", table=parents, column="id")),
                    at,
                ],
                inputs=[{"table": f"bronze.{name}"}],
                publish={"mode": "upsert", "sequence": "updated"},
                gates=gates,
            ),
            copied(
                table=name,
                extra=f"number('id', 'bigint').alias('id'), number('{refers_to}', 'bigint')"
                f".alias('{refers_to}'), F.to_timestamp('updated').alias('updated')",
            ),
        )
        for n, day in enumerate(DAYS):
            who = 7 if (name, day) == ("visits", TUESDAY) else n
            lake.land(name, day, "f.csv", f"id,{refers_to},updated\n{n},{who},{day}\n")
    monkeypatch.setattr(command, "load_settings", lambda: dagster.settings)
    return dagster


def arrive(visits: DagsterLake) -> None:
    """Person 7, on Monday's delivery; only people are run."""
    visits.lake.land("people", MONDAY, "late.csv", f"id,email,updated\n7,p7@x.org,{MONDAY}\n")
    people = [dg.AssetKey(["bronze", "people"]), dg.AssetKey(["silver", "people"])]
    assert visits.run(MONDAY, MONDAY, assets=people).success


def check(visits: DagsterLake) -> Any:
    key = dg.AssetCheckKey(VISITS, "lookups_current")
    (found,) = visits.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    return found.event.dagster_event.asset_check_evaluation_data


def test_gaps_fill_brings_a_waiting_row_and_what_waits_for_it_back(visits):
    assert visits.run(DAYS[0], DAYS[-1]).success
    lake = visits.lake
    assert lake.rows("silver.visits", "id") == lake.rows("silver.stays", "id") == [0, 2]
    arrive(visits)
    listed = CliRunner().invoke(main, ["gaps"])
    assert listed.exit_code == 1
    assert "silver.people has changed" in listed.output
    assert [line.split()[:3] for line in listed.output.splitlines() if "stale" in line] == [
        ["silver.visits", "stale", TUESDAY]
    ]
    filled = CliRunner().invoke(main, ["gaps", "--fill"])
    assert "No gaps" in filled.output, filled.output
    assert lake.rows("silver.visits", "id") == lake.rows("silver.stays", "id") == [0, 1, 2]
    decided = {
        (table, d["decision"], d["reason"].split(",")[0])
        for table in ("silver.visits", "silver.stays")
        for d in quarantine.decisions(lake.lake, table)
    }
    assert decided == {
        ("silver.visits", "replayed", "run again since silver.people has changed"),
        ("silver.stays", "replayed", "run again since silver.visits has changed"),
    }
    assert CliRunner().invoke(main, ["gaps", "--fill"]).exit_code == 0


@pytest.fixture
def contacts(dagster: DagsterLake, monkeypatch: pytest.MonkeyPatch) -> DagsterLake:
    """Two tables that are made of the changes of people, one of the other."""
    for name, source in (("contacts", "silver.people"), ("letters", "gold.contacts")):
        dagster.lake.define(
            contract(
                f"gold.{name}",
                [
                    column("id", "bigint", key=1, of=f"{source}.id"),
                    column("updated", "timestamp", required=True, of=f"{source}.updated"),
                ],
                inputs=[{"table": source}],
                publish={"mode": "upsert", "sequence": "updated"},
                gates={"min_rows": 0},
            ),
            copied("id", "updated", table=source.partition(".")[2]),
        )
    monkeypatch.setattr(command, "load_settings", lambda: dagster.settings)
    return dagster


def withdraw(contacts: DagsterLake) -> None:
    """Person 99 is in every delivery; Wednesday's is taken back, so that Tuesday's counts again."""
    contacts.lake.land("people", WEDNESDAY, "people.csv", people((2, "p2@x.org", WEDNESDAY)))
    assert contacts.run(WEDNESDAY, WEDNESDAY).success
    assert contacts.lake.rows("silver.people", "id") == [0, 1, 2, 99]
    assert contacts.lake.rows("gold.contacts", "id") == [0, 1, 2]


def test_gaps_lists_what_lacks_a_record_that_came_back_and_fills_it(contacts):
    assert contacts.run(DAYS[0], DAYS[-1]).success
    assert CliRunner().invoke(main, ["gaps"]).exit_code == 0
    withdraw(contacts)
    listed = CliRunner().invoke(main, ["gaps"])
    assert listed.exit_code == 1
    assert [line.split(maxsplit=3) for line in listed.output.splitlines() if "stale" in line] == [
        ["gold.contacts", "stale", TUESDAY, "records came back into silver.people …"],
        ["gold.letters", "stale", TUESDAY, "gold.contacts is stale"],
    ]
    filled = CliRunner().invoke(main, ["gaps", "--fill"])
    assert "No gaps" in filled.output, filled.output
    for table in ("gold.contacts", "gold.letters"):
        assert contacts.lake.rows(table, "id") == [0, 1, 2, 99]


def test_the_gap_filler_asks_for_what_lacks_a_record_that_came_back(contacts):
    assert contacts.run(DAYS[0], DAYS[-1]).success
    withdraw(contacts)
    assert asked_for(contacts) == [
        (TUESDAY, ["gold", "contacts"]), (TUESDAY, ["gold", "letters"])
    ]  # fmt: skip


def asked_for(dagster: DagsterLake) -> list[tuple[str, list[str]]]:
    """The first partition and the table of everything that a tick of the gap filler asks for."""
    definitions = build_definitions(dagster.settings, contracts=dagster.lake.parsed(), marts=False)
    schedule = definitions.resolve_schedule_def("lake_daily_gap_fill")
    with dg.build_schedule_context(
        instance=dagster.instance,
        scheduled_execution_time=datetime(2026, 10, 8, 6, tzinfo=UTC),
        repository_def=definitions.get_repository_def(),
        resources=definitions.resources,
    ) as context:
        requests = schedule.evaluate_tick(context).run_requests
    return [
        (r.tags["dagster/asset_partition_range_start"], k.path)
        for r in requests
        for k in r.asset_selection
    ]


def test_the_gap_filler_asks_for_stale_partitions_and_the_ui_shows_them(visits):
    assert visits.run(DAYS[0], DAYS[-1]).success
    assert check(visits).passed
    arrive(visits)
    assert asked_for(visits) == [(TUESDAY, ["silver", "visits"])]
    shown = check(visits)
    assert not shown.passed
    assert shown.severity == dg.AssetCheckSeverity.WARN
    assert f"{TUESDAY} | silver.people has changed" in shown.metadata["stale"].value
    assert visits.run(TUESDAY, TUESDAY).success
    assert check(visits).passed


def test_a_run_of_one_day_tells_which_others_are_stale(visits):
    assert visits.run(DAYS[0], DAYS[-1]).success
    arrive(visits)
    assert visits.run(MONDAY, MONDAY).success
    shown = check(visits)
    assert not shown.passed and TUESDAY in shown.description
    assert visits.run(DAYS[0], DAYS[-1]).success, "a run of all days settles them"
    assert check(visits).passed
    assert visits.lake.rows("silver.stays", "id") == [0, 1, 2]
