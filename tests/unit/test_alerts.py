"""What an alert says, and to whom it goes: from a finished run as a value, without Dagster."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse.assets.checks import NEVER
from lakehouse.settings.alerts import AlertSettings, FileTopic
from lakehouse.settings.load import load_settings
from lakehouse.signals.alerts import (
    FailedCheck,
    FailedStep,
    FinishedRun,
    alerts_of,
    build_alert_sensors,
)
from lakehouse.signals.topics import Alert, AlertError, send
from spark_jobs.contract.reader import load_contracts

PROJECT = Path(__file__).parents[2]
DAY = ("2026-10-07", "2026-10-07")
RATE = FailedCheck(
    "silver.orders",
    "quarantine_rate",
    "critical",
    "2026-10-07: 40% of rows read, must be <= 10%",
)
DRIFT = FailedCheck("bronze.orders", "schema_drift", "warning", "2026-10-07: new column colour")
STEP = FailedStep("silver__orders", ("silver.orders",), "silver.orders: 1 of 1 partitions failed")


def finished(**given: Any) -> FinishedRun:
    return FinishedRun(
        **{"run_id": "r-1", "job": "lake_daily", "success": False, "partitions": DAY} | given
    )


def only(run: FinishedRun) -> Alert:
    (alert,) = alerts_of(run, "prod")
    return alert


def test_a_run_that_went_well_alerts_nobody() -> None:
    assert alerts_of(finished(success=True), "prod") == []


def test_a_failed_run_says_what_failed_where_why_and_what_to_do() -> None:
    alert = only(finished(steps=(STEP,), checks=(RATE,)))
    assert alert.severity == "critical"
    assert alert.subject == "[prod] critical: lake_daily 2026-10-07 failed"
    assert alert.assets == ("silver.orders",)
    for said in (
        "run         r-1",
        "job         lake_daily",
        "partitions  2026-10-07",
        "silver.orders: 1 of 1 partitions failed",
        "- silver.orders quarantine_rate: 2026-10-07: 40% of rows read, must be <= 10%",
        "lakehouse gaps",
        "lakehouse quarantine show silver.orders --partition 2026-10-07",
        "lakehouse backfill --from 2026-10-07 --to 2026-10-07",
        "docs/runbook.md",
    ):
        assert said in alert.text, alert.text


def test_a_step_that_was_tried_again_says_how_often() -> None:
    alert = only(finished(steps=(STEP, replace(STEP, step="silver__fx_rates", attempts=4))))
    assert "silver__orders: silver.orders: 1 of 1 partitions failed" in alert.text
    assert "silver__fx_rates, tried 4 times: silver.orders: 1 of 1" in alert.text


def test_a_warning_says_what_was_found_and_where_to_look() -> None:
    alert = only(finished(success=True, checks=(DRIFT,)))
    assert alert.severity == "warning"
    assert alert.subject == "[prod] warning: lake_daily 2026-10-07 1 warning"
    assert "- bronze.orders schema_drift: 2026-10-07: new column colour" in alert.text
    assert "lakehouse quarantine show bronze.orders --partition 2026-10-07" in alert.text
    assert "backfill" not in alert.text


def test_a_failed_run_with_warnings_is_one_alert_of_each_severity() -> None:
    critical, warning = alerts_of(finished(steps=(STEP,), checks=(RATE, DRIFT)), "prod")
    assert (critical.severity, warning.severity) == ("critical", "warning")
    assert "schema_drift" not in critical.text
    assert "quarantine_rate" not in warning.text


def test_a_blocking_check_that_failed_is_critical_even_if_the_run_succeeded() -> None:
    alert = only(finished(success=True, checks=(RATE,)))
    assert alert.severity == "critical"
    assert "succeeded, but checks failed" in alert.subject


def test_checks_that_were_never_made_are_counted_and_alarm_nobody_by_themselves() -> None:
    def never(severity: Any) -> FailedCheck:
        return FailedCheck(
            "silver.orders", f"key_{severity}", severity, f"2026-10-07: {NEVER}", evaluated=False
        )

    alert = only(finished(steps=(STEP,), checks=(RATE, never("critical"), never("warning"))))
    assert "- 1 more could not be evaluated" in alert.text
    assert "key_critical" not in alert.text


def test_a_run_whose_process_died_says_what_dagster_says() -> None:
    alert = only(finished(message="process 7 ended without finishing the run"))
    assert "process 7 ended without finishing the run" in alert.text


def test_hours_are_backfilled_by_their_day() -> None:
    alert = only(finished(steps=(STEP,), partitions=("2026-10-07T22", "2026-10-08T01")))
    assert "2026-10-07T22 to 2026-10-08T01" in alert.subject
    assert "lakehouse backfill --from 2026-10-07 --to 2026-10-08" in alert.text


def test_marts_without_partitions_are_materialized_again() -> None:
    step = FailedStep("marts", ("finance.fx_week",), "marts failed: model fx_week")
    alert = only(finished(job="all_marts", partitions=None, steps=(step,)))
    assert "lakehouse materialize marts" in alert.text
    assert "partitions" not in alert.text


def test_a_long_list_is_cut_and_says_so() -> None:
    checks = tuple(
        FailedCheck(f"silver.t{i}", "quarantine_rate", "critical", "too many") for i in range(50)
    )
    text = only(finished(steps=(STEP,), checks=checks)).text
    assert "… and 30 more" in text
    assert len(text.splitlines()) < 60


def test_a_file_gets_one_line_per_alert(tmp_path: Path) -> None:
    topic = FileTopic(target="file", path="new/alerts.jsonl")
    for alert in alerts_of(finished(steps=(STEP,), checks=(RATE, DRIFT)), "local"):
        send(alert, topic, tmp_path)
    lines = [json.loads(x) for x in (tmp_path / "new/alerts.jsonl").read_text().splitlines()]
    assert [x["severity"] for x in lines] == ["critical", "warning"]
    assert lines[0]["run_id"] == "r-1"
    assert lines[0]["text"].startswith(lines[0]["subject"])


def test_an_alert_that_cannot_be_written_raises_and_names_where(tmp_path: Path) -> None:
    (tmp_path / "alerts.jsonl").mkdir()
    with pytest.raises(AlertError, match=r"critical alert of run r-1 .*alerts\.jsonl"):
        send(only(finished(steps=(STEP,))), FileTopic(target="file", path="alerts.jsonl"), tmp_path)


def test_without_a_topic_there_is_no_sensor(tmp_path: Path) -> None:
    settings = load_settings("local", home=tmp_path, project=PROJECT)
    keys = [dg.AssetKey(t.split(".")) for t in load_contracts(settings.contracts)]
    assert len(build_alert_sensors(settings, keys)) == 1
    silent = settings.model_copy(update={"alerts": AlertSettings()})
    assert build_alert_sensors(silent, keys) == []


def test_a_name_can_forge_no_line_and_move_no_cursor_of_an_alert() -> None:
    hostile = "a\x1b[31mb\u202ec"
    step = FailedStep(hostile, (f"{hostile}\nrun         r-2",), f"{hostile}: why")
    check = FailedCheck(hostile, hostile, "critical", hostile)
    alert = only(finished(job=hostile, steps=(step,), checks=(check,)))
    for text in (alert.subject, *alert.assets, *alert.text.split("\n")):
        assert text.isprintable(), text
    assert "run         r-2" not in alert.text.split("\n")
