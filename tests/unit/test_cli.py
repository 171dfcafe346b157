"""The command line: what it asks Dagster for, what it says, and how it exits."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from dagster import DagsterExecutionInterruptedError

from lakehouse.cli import COMMANDS, lake_run, main, summary
from lakehouse.cli.lake_run import Request, plan, select
from lakehouse.local.execution import CheckResult, MartResult, RunOutcome, StepFailure
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.standins.servers.aws import CREDENTIALS
from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contracts
from spark_jobs.errors import InputError
from spark_jobs.report import Counts, PartitionReport, TableReport
from tests.fake_plane import FakePlane

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.delenv("LAKEHOUSE_ENV", raising=False)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))
    for name in ("DAGSTER_HOME", "DAGSTER_EVENT_BATCH_SIZE"):
        monkeypatch.setenv(name, "")  # so that they are put back afterwards
        monkeypatch.delenv(name)


@pytest.fixture
def settings(_home: None) -> Settings:
    return load_settings()


@pytest.fixture(scope="module")
def contracts() -> dict[str, Contract]:
    return load_contracts(PROJECT / "contracts")


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> FakePlane:
    """Commands run on this instead of an engine."""
    fake = FakePlane()
    monkeypatch.setattr(lake_run, "build_runners", lambda *given: {"embedded": fake})
    monkeypatch.setattr(lake_run.LakeLedger, "of", lambda settings: fake)
    return fake


def lakehouse(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def land(settings: Settings, dataset: str, *partitions: str) -> None:
    for partition in partitions:
        path = Path(settings.zones["landing"]) / dataset / partition / "file"
        path.parent.mkdir(parents=True)
        path.write_text("x")


# -- the commands ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    said = lakehouse(name, "--help")
    assert said.exit_code == 0, said.output
    assert isinstance(main.get_command(click.Context(main), name), click.Command)


def test_check_counts_the_contracts_and_their_rules(contracts: Any) -> None:
    said = lakehouse("check")
    assert said.exit_code == 0
    assert f"local: {len(contracts)} contracts" in said.output


def test_an_unknown_environment_is_an_error_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAKEHOUSE_ENV", "qa")
    said = lakehouse("check")
    assert said.exit_code == 2
    assert said.output.startswith("Error: LAKEHOUSE_ENV is 'qa'")


@pytest.mark.parametrize(
    ("zone", "command"),
    [
        ("landing", "gaps"),
        ("landing", "run"),
        ("landing/orders", "gaps"),
        ("quarantine", "quarantine list"),
    ],
)
def test_a_file_where_a_zone_should_be_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, zone: str, command: str
) -> None:
    monkeypatch.setattr("lakehouse.cli.deliver.deliver_sample", lambda *_: None)
    path = Path(settings.home / "lake" / zone)
    path.parent.mkdir(parents=True)
    path.write_text("x")
    said = lakehouse(*command.split())
    assert said.exit_code == 2, said.exception
    assert f"Error: {path}: a file is where a folder should be" in said.output


@pytest.mark.parametrize("command", ["check", "gaps", "quarantine list", "reconcile --quick"])
def test_a_store_that_does_not_answer_is_an_error_in_one_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        **CREDENTIALS,
        "AWS_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    lake = settings.lake.model_copy(update={"root": "s3://no-such-store"})
    away = settings.model_copy(update={"lake": lake})
    module = f"lakehouse.cli.{command.split()[0]}"
    monkeypatch.setattr(f"{module}.load_settings", lambda: away)
    said = lakehouse(*command.split())
    assert said.exit_code == 2, said.exception
    assert said.output.startswith("Error: s3://no-such-store/") and said.output.count("\n") == 1
    assert "u001b" not in said.output and "backup" not in said.output


def test_what_nobody_foresaw_is_said_without_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise KeyError("ada@lovelace.org")

    monkeypatch.setattr("lakehouse.cli.check.load_settings", fail)
    said = lakehouse("check")
    assert said.exit_code == 1 and isinstance(said.exception, SystemExit)
    assert said.output.startswith(f"Error: KeyError in {__name__}, line ")
    assert "called by lakehouse.cli.check, line" in said.output
    assert "lovelace" not in said.output
    monkeypatch.setenv("LAKEHOUSE_TRACEBACK", "1")
    assert isinstance(lakehouse("check").exception, KeyError)


def test_a_run_history_that_cannot_be_opened_is_named(plane: FakePlane, settings: Settings) -> None:
    (settings.home / "dagster").mkdir()
    (settings.home / "dagster" / "history").write_text("x")
    said = lakehouse("backfill", "--from", "2026-10-05", "--to", "2026-10-05")
    assert (said.exit_code, said.output.count("\n")) == (1, 1)
    assert "File exists" in said.output and "dagster/history" in said.output


def test_a_broken_record_of_the_delivery_says_what_to_remove(settings: Settings) -> None:
    (settings.home / "answers").mkdir()
    (settings.home / "answers" / "delivery.json").write_text("{")
    said = lakehouse("deliver")
    assert said.exit_code == 2 and "delivery.json: the record" in said.output


def test_a_backfill_runs_its_range_through_dagster_and_says_what_was_done(
    plane: FakePlane, settings: Settings
) -> None:
    said = lakehouse(
        "backfill", "--from", "2026-10-05", "--to", "2026-10-07", "--tables", "bronze.orders"
    )
    assert said.exit_code == 0, said.output
    (spec,) = plane.specs
    assert spec.partitions == ["2026-10-05", "2026-10-06", "2026-10-07"]
    assert "bronze.orders" in said.output
    done = json.loads((settings.home / "summary.json").read_text())
    assert done["success"] is True
    table = done["tables"]["bronze.orders"]
    assert (table["read"], table["published"], table["quarantined"]) == (30, 27, 3)
    assert list(done["runs"]) == ["lake_daily"]


def test_a_bad_day_is_named_and_the_exit_code_is_not_zero(
    plane: FakePlane, settings: Settings
) -> None:
    plane.bad[("bronze.orders", "2026-10-06")] = "nothing delivered: no files"
    said = lakehouse(
        "backfill", "--from", "2026-10-05", "--to", "2026-10-07",
        "--tables", "bronze.orders,silver.orders,bronze.products",
    )  # fmt: skip
    assert said.exit_code == 1
    assert "1 of 3 partitions failed" in said.output
    assert "2026-10-06: nothing delivered: no files" in said.output
    held_back = said.output.split("Held back for 2026-10-06, because something before them")[1]
    assert "silver.orders" in held_back
    done = json.loads((settings.home / "summary.json").read_text())
    assert done["tables"]["bronze.orders"]["partitions_failed"] == ["2026-10-06"]
    assert done["tables"]["bronze.products"]["status"] == "published"
    assert done["skipped"] == []
    assert done["held_back"] == {"silver.orders": ["2026-10-06"]}
    asked = [s.partitions for s in plane.specs if s.table == "silver.orders"]
    assert asked == [["2026-10-05"], ["2026-10-07"]]


def test_an_hour_can_be_materialized(plane: FakePlane) -> None:
    said = lakehouse("materialize", "bronze.sensor_readings", "--partition", "2026-10-06T07")
    assert said.exit_code == 0, said.output
    assert plane.specs[0].partitions == ["2026-10-06T07"]


def test_a_partition_that_does_not_exist_is_an_error_that_says_which_do(plane: FakePlane) -> None:
    said = lakehouse("materialize", "bronze.orders", "--partition", "2031-01-01")
    assert said.exit_code == 2
    assert "there is no daily partition 2031-01-01" in said.output
    assert "2026-10-05 to 2026-10-29" in said.output
    assert plane.specs == []


def test_a_table_that_does_not_exist_is_an_error_that_says_which_do(plane: FakePlane) -> None:
    said = lakehouse("materialize", "silver.order", "--partition", "2026-10-05")
    assert said.exit_code == 2
    assert "there is no table, layer or domain silver.order" in said.output
    assert "silver.orders" in said.output


def test_materializing_takes_the_newest_delivered_day(plane: FakePlane, settings: Settings) -> None:
    land(settings, "orders", "2026-10-05", "2026-10-06")
    assert lakehouse("materialize", "bronze.orders").exit_code == 0
    assert plane.specs[0].partitions == ["2026-10-06"]


def test_gaps_lists_them_with_their_state_and_fails(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(settings, "orders", "2026-10-05", "2026-10-06")
    said = lakehouse("gaps", "--tables", "bronze.orders,bronze.customers")
    assert said.exit_code == 1
    assert "bronze.orders" in said.output
    assert "missing" in said.output
    assert "not delivered" in said.output
    assert "4 gaps from 2026-10-05 to 2026-10-06." in said.output


def test_nothing_is_due_before_anything_was_delivered() -> None:
    said = lakehouse("gaps")
    assert said.exit_code == 0
    assert "Nothing has been delivered yet" in said.output


def test_the_sample_stays_out_of_environments_with_real_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = load_settings()
    sample = real.sample.model_copy(update={"deliver": False})
    other = real.model_copy(update={"sample": sample, "environment": "dev"})
    monkeypatch.setattr("lakehouse.cli.deliver.load_settings", lambda: other)
    said = lakehouse("deliver")
    assert said.exit_code == 2
    assert "the dev environment takes no sample data" in said.output


def test_a_delivery_beyond_the_partitions_is_refused() -> None:
    said = lakehouse("deliver", "--days", "40")
    assert said.exit_code == 2
    assert "40 days from 2026-10-05 go beyond 2026-10-30" in said.output


def test_an_interrupt_ends_the_command_and_not_only_its_first_run(
    plane: FakePlane, settings: Settings
) -> None:
    plane.raises["bronze.sensor_readings"] = [DagsterExecutionInterruptedError()]
    said = lakehouse(
        "backfill", "--from", "2026-10-05", "--to", "2026-10-05",
        "--tables", "bronze.sensor_readings,bronze.orders",
    )  # fmt: skip
    assert said.exit_code == 1, said.output
    assert "interrupted; the run can simply be repeated" in said.output
    assert plane.tables == ["bronze.sensor_readings"], "the daily run was not begun"


# -- what a request takes --------------------------------------------------------------------


def test_hours_run_before_days_and_marts_with_the_days(settings: Settings, contracts: Any) -> None:
    works = list(plan(settings, contracts, Request("2026-10-05", "2026-10-06")))
    assert [(w.scheme, w.partitions, w.tables) for w in works] == [
        ("hourly", ("2026-10-05T00", "2026-10-06T23"), ()),
        ("daily", ("2026-10-05", "2026-10-06"), ()),
    ]


def test_only_the_schemes_of_the_chosen_tables_run(settings: Settings, contracts: Any) -> None:
    works = list(plan(settings, contracts, Request("2026-10-05", "2026-10-05", ("gold.dim_date",))))
    assert [(w.job, w.partitions) for w in works] == [("lake_daily", None)]


def test_a_table_without_partitions_can_be_materialized(plane: FakePlane) -> None:
    said = lakehouse("materialize", "gold.dim_date", "--partition", "2026-10-05")
    assert said.exit_code == 0, said.output
    assert [(s.table, s.partitions) for s in plane.specs] == [("gold.dim_date", [])]


def test_marts_can_be_asked_for_by_name_and_run_last(settings: Settings, contracts: Any) -> None:
    works = list(plan(settings, contracts, Request("2026-10-05", "2026-10-05", ("gold", "marts"))))
    assert [w.job for w in works] == ["lake_hourly", "lake_daily", "all_marts"]
    assert works[-1].partitions == ("2026-10-05", "2026-10-05")


def test_layers_and_domains_stand_for_their_tables(contracts: Any) -> None:
    assert set(select(contracts, ["gold"])) == {t for t in contracts if t.startswith("gold.")}
    assert "silver.accounts" in select(contracts, ["crm"])
    assert select(contracts, ["silver.orders", "bronze.orders"]) == [
        "bronze.orders",
        "silver.orders",
    ], "upstream first"
    with pytest.raises(InputError):
        select(contracts, ["nothing"])


# -- the summary -----------------------------------------------------------------------------


def report(table: str, *partitions: PartitionReport) -> TableReport:
    return TableReport(
        table=table, run_id="r", batch_id="b", engine="sail", contract_version="1.0.0",
        transform_version="t", partitions=list(partitions), seconds={"read": 0.5, "publish": 1.0},
    )  # fmt: skip


def summarized(settings: Settings, *outcomes: RunOutcome) -> summary.RunSummary:
    return summary.summarize(settings, outcomes, datetime.now(UTC), 12.0)


def test_the_summary_adds_up_rows_checks_and_seconds(settings: Settings) -> None:
    one = PartitionReport(partition="2026-10-05", status="published",
                          counts=Counts(read=7, inserted=4, duplicate=2, quarantined=1))  # fmt: skip
    two = one.model_copy(update={"partition": "2026-10-06"})
    checks = [
        CheckResult("silver.orders", "a", True, "ERROR"),
        CheckResult("silver.orders", "b", False, "WARN"),
        CheckResult("silver.orders", "c", False, "ERROR"),
    ]
    outcome = RunOutcome(
        "lake_daily", "r1", True, reports=[report("silver.orders", one, two)], checks=checks
    )
    table = summarized(settings, outcome).tables["silver.orders"]
    assert (table.read, table.published, table.duplicate, table.quarantined) == (14, 8, 4, 2)
    assert (table.checks_passed, table.checks_warned, table.checks_failed) == (1, 1, 1)
    assert (table.partitions, table.seconds) == (2, 1.5)


def test_a_run_without_work_says_that_nothing_changed(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    same = PartitionReport(partition="p", status="unchanged", counts=Counts(read=5, unchanged=5))
    outcome = RunOutcome("lake_daily", "r1", True, reports=[report("silver.orders", same)])
    outcome.marts.append(MartResult("sales.m", 5, 0.0, unchanged=True))
    done = summarized(settings, outcome)
    assert done.changed is False
    from lakehouse.cli.terminal import console

    with console() as out:
        summary.show(done, settings, out)
    assert "Nothing had changed" in capsys.readouterr().out


def test_the_commands_that_the_summary_shows_can_be_run(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = Counts(read=3, inserted=2, quarantined=1)
    failed = PartitionReport(partition="p", status="failed", counts=counts, error="no")
    outcome = RunOutcome("lake_daily", "r1", False, reports=[report("silver.orders", failed)])
    from lakehouse.cli.terminal import console

    with console() as out:
        summary.show(summarized(settings, outcome), settings, out)
    shown = re.findall(r"^  lakehouse (.+?)  ", capsys.readouterr().out, re.M)
    assert shown == ["gaps", "quarantine list", "ui"]
    for words in shown:
        command: click.Command | None = main
        for word in words.split():
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), word)
        assert command is not None
        assert not isinstance(command, click.Group), f"{words} is not a whole command"


def test_the_summary_says_what_failed_and_where_to_look(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = RunOutcome("lake_daily", "r1", False)
    outcome.failures.append(StepFailure("silver__orders", ("silver.orders",), "the disk is full"))
    outcome.failures.append(StepFailure("marts", ("sales.m", "sales.n"), "no such column"))
    done = summarized(settings, outcome)
    assert done.success is False
    assert {n: a.kind for n, a in done.tables.items() if a.status == "failed"} == {
        "silver.orders": "table",
        "sales.m": "mart",
        "sales.n": "mart",
    }
    from lakehouse.cli.terminal import console

    with console() as out:
        summary.show(done, settings, out)
    said = capsys.readouterr().out
    assert "Failed: silver.orders" in said
    assert "the disk is full" in said
    assert "lakehouse gaps" in said


HOSTILE = "a[red]b[/] [link=http://x]c :bug: \x1b[31md\u202ee\nf"
WRITTEN = "a[red]b[/] [link=http://x]c :bug: \\u001b[31md\\u202ee\\u000af"


def test_names_do_nothing_to_the_terminal_but_stand_there(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    from lakehouse.cli.terminal import RunDisplay, console

    outcome = RunOutcome("lake_daily", "r1", False)
    outcome.marts.append(MartResult(HOSTILE, 5, 0.0, unchanged=False))
    outcome.failures.append(StepFailure("marts", (f"failed.{HOSTILE}",), HOSTILE))
    outcome.skipped.append(f"skipped.{HOSTILE}")
    outcome.held_back = {f"held.{HOSTILE}": ["2026-10-05"]}
    part = PartitionReport(partition="p", status="failed", error="no")
    with console() as out:
        summary.show(summarized(settings, outcome), settings, out)
        with RunDisplay(out, total=1) as display:
            display.on_report(report(f"report.{HOSTILE}", part))
            display.on_rest(("2026-10-05", "2026-10-05"), [f"rest.{HOSTILE}"])
    said = capsys.readouterr().out
    assert all(c.isprintable() for line in said.split("\n") for c in line), said
    for place in ("failed.", "skipped.", "held.", "report.", "rest."):
        assert f"{place}{WRITTEN}" in said, place
    assert said.count(WRITTEN) == 6
