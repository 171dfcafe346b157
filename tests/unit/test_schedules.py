"""What the clock asks for: the newest partition, and gaps; nothing while a run is in progress."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test  # noqa: TID251

from lakehouse.automation.gaps import Gap, find_gaps, horizon
from lakehouse.automation.schedules import gap_requests, newest_complete
from lakehouse.definitions import build_definitions
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.settings.operations import PartitionSettings
from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contracts
from spark_jobs.window import ranges
from tests.fake_plane import AnyPlane, FakePlane
from tests.fake_plane import recorded as done

PROJECT = Path(__file__).parents[2]
AT = datetime(2026, 10, 8, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings("local", home=tmp_path_factory.mktemp("home"), project=PROJECT)


@pytest.fixture(scope="module")
def contracts(settings: Settings) -> dict[str, Contract]:
    return load_contracts(settings.contracts)


@pytest.fixture(scope="module")
def switch() -> AnyPlane:
    return AnyPlane()


@pytest.fixture(scope="module")
def definitions(settings: Settings, contracts: Any, switch: AnyPlane) -> dg.Definitions:
    return build_definitions(
        settings, contracts=contracts, marts=False, embedded=switch, lake_ledger=switch
    )


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as found:  # a schedule's context takes none that is in memory
        yield found


def tick(
    definitions: dg.Definitions, name: str, instance: dg.DagsterInstance, at: datetime = AT
) -> Any:
    schedule = definitions.resolve_schedule_def(name)
    with dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=at,
        repository_def=definitions.get_repository_def(),
        resources=definitions.resources,
    ) as context:
        return schedule.evaluate_tick(context)


def in_progress(instance: dg.DagsterInstance, job: str) -> None:
    create_run_for_test(instance, job_name=job, status=dg.DagsterRunStatus.STARTED)


# -- the newest partition --------------------------------------------------------------------


def test_times_come_from_the_settings(definitions: dg.Definitions) -> None:
    daily = definitions.resolve_schedule_def("lake_daily_schedule")
    hourly = definitions.resolve_schedule_def("lake_hourly_schedule")
    assert (daily.cron_schedule, daily.execution_timezone) == ("0 2 * * *", "UTC")
    assert (hourly.cron_schedule, hourly.execution_timezone) == ("0 * * * *", "UTC")
    assert daily.job.name == "lake_daily"
    assert hourly.job.name == "lake_hourly"


def test_schedules_run_by_themselves_where_the_settings_say_so(
    settings: Settings, contracts: Any
) -> None:
    for active, status in ((True, "RUNNING"), (False, "STOPPED")):
        schedules = settings.schedules.model_copy(update={"active": active})
        chosen = settings.model_copy(update={"schedules": schedules})
        built = build_definitions(chosen, contracts=contracts, marts=False)
        assert {s.default_status.value for s in built.schedules or ()} == {status}
        assert {s.default_status.value for s in built.sensors or ()} == {status}


@pytest.mark.parametrize(
    ("scheme", "at", "newest"),
    [
        ("daily", datetime(2026, 10, 8, 2, tzinfo=UTC), "2026-10-07"),
        ("hourly", datetime(2026, 10, 8, 2, tzinfo=UTC), "2026-10-08T01"),
        ("hourly", datetime(2026, 10, 8, 0, tzinfo=UTC), "2026-10-07T23"),
    ],
)
def test_the_newest_partition_is_the_one_whose_window_has_ended(
    scheme: Any, at: datetime, newest: str
) -> None:
    assert newest_complete(scheme, at) == newest


def test_the_daily_tick_asks_for_yesterday(
    definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    (request,) = tick(definitions, "lake_daily_schedule", instance).run_requests
    assert request.tags["dagster/partition"] == "2026-10-07"
    assert request.run_key == "2026-10-07"


HOURS = [f"2026-10-07T{hour:02d}" for hour in range(24)]
DAY_OF_HOURS = dg.AssetKey(["gold", "sensor_status_daily"])


@pytest.mark.parametrize("there", [0, 23, 24])
def test_the_daily_tick_leaves_a_day_out_whose_hours_are_not_all_there(
    definitions: dg.Definitions, instance: dg.DagsterInstance, switch: AnyPlane, there: int
) -> None:
    plane = FakePlane()
    plane.rows = [done("silver.sensor_readings", hour) for hour in HOURS[:there]]
    plane.rows += [done("silver.sensor_readings", hour, "failed") for hour in HOURS[there:]]
    switch.plane = plane
    (request,) = tick(definitions, "lake_daily_schedule", instance).run_requests
    assert request.tags["dagster/partition"] == "2026-10-07"
    job = definitions.resolve_job_def("lake_daily").asset_layer.executable_asset_keys
    asked = set(request.asset_selection or job)
    assert job - asked == (set() if there == 24 else {DAY_OF_HOURS})


def test_the_hourly_tick_asks_for_the_last_hour(
    definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    (request,) = tick(definitions, "lake_hourly_schedule", instance).run_requests
    assert request.tags["dagster/partition"] == "2026-10-08T01"


@pytest.mark.parametrize("name", ["lake_daily_schedule", "lake_daily_gap_fill"])
def test_a_tick_is_skipped_while_a_run_of_the_job_is_in_progress(
    definitions: dg.Definitions, instance: dg.DagsterInstance, name: str
) -> None:
    in_progress(instance, "lake_daily")
    result = tick(definitions, name, instance)
    assert not result.run_requests
    assert "lake_daily run" in result.skip_message
    assert "is started" in result.skip_message


def test_a_run_of_another_job_skips_nothing(
    definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    in_progress(instance, "lake_hourly")
    assert tick(definitions, "lake_daily_schedule", instance).run_requests


def test_a_tick_beyond_the_settled_end_is_skipped(
    definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    result = tick(
        definitions, "lake_daily_schedule", instance, datetime(2026, 11, 5, 2, tzinfo=UTC)
    )
    assert "there is no partition 2026-11-04" in result.skip_message


# -- gaps ------------------------------------------------------------------------------------


def some(contracts: dict[str, Contract], *tables: str) -> dict[str, Contract]:
    return {t: c for t, c in contracts.items() if t in tables}


TWO = ("bronze.fx_rates", "silver.fx_rates")
WEEK = (date(2026, 10, 5), date(2026, 10, 11))
WEEKDAYS = [f"2026-10-{d:02d}" for d in range(5, 10)]


def test_a_lake_without_gaps_has_none(contracts: Any) -> None:
    ledger = [done(t, p) for t in TWO for p in WEEKDAYS]
    assert find_gaps(some(contracts, *TWO), ledger, {"fx_rates": WEEKDAYS}, WEEK) == []


def test_days_on_which_the_source_never_delivers_are_no_gaps(contracts: Any) -> None:
    found = find_gaps(some(contracts, "bronze.fx_rates"), [], {"fx_rates": WEEKDAYS}, WEEK)
    assert [g.partition for g in found] == WEEKDAYS


def test_every_gap_has_its_state(contracts: Any) -> None:
    ledger = [
        done("bronze.fx_rates", "2026-10-05"),
        done("bronze.fx_rates", "2026-10-06", "failed", error="half of it is bad"),
        done("bronze.fx_rates", "2026-10-07"),
        done("silver.fx_rates", "2026-10-05"),
        done("bronze.fx_rates", "2026-10-09"),
        done("silver.fx_rates", "2026-10-09", "failed", error="gate"),
    ]
    delivered = {"fx_rates": [p for p in WEEKDAYS if p != "2026-10-08"]}
    found = find_gaps(some(contracts, *TWO), ledger, delivered, WEEK)
    assert {(g.table, g.partition): (g.state, g.root) for g in found} == {
        ("bronze.fx_rates", "2026-10-06"): ("failed", "failed"),
        ("bronze.fx_rates", "2026-10-08"): ("not delivered", "not delivered"),
        ("silver.fx_rates", "2026-10-06"): ("blocked", "failed"),
        ("silver.fx_rates", "2026-10-07"): ("missing", "missing"),
        ("silver.fx_rates", "2026-10-08"): ("blocked", "not delivered"),
        ("silver.fx_rates", "2026-10-09"): ("failed", "failed"),
    }


def test_a_partition_that_failed_and_was_mended_is_no_gap(contracts: Any) -> None:
    ledger = [
        done("bronze.fx_rates", "2026-10-05", "failed", error="x"),
        done("bronze.fx_rates", "2026-10-05"),
    ]
    days = (WEEK[0], WEEK[0])
    delivered = {"fx_rates": ["2026-10-05"]}
    assert find_gaps(some(contracts, "bronze.fx_rates"), ledger, delivered, days) == []


def test_a_closed_history_is_due_as_far_as_it_was_delivered() -> None:
    closed = PartitionSettings(start=date(2026, 10, 5), end=date(2026, 10, 30))
    delivered = {"orders": ["2026-10-05"], "sensors": ["2026-10-06T07"]}
    assert horizon(closed, delivered, AT) == (date(2026, 10, 5), date(2026, 10, 6))
    assert horizon(closed, {}, AT) is None
    still_open = PartitionSettings(start=date(2026, 10, 5))
    assert horizon(still_open, {}, AT) == (date(2026, 10, 5), date(2026, 10, 7))


def gap(table: str, partition: str, state: Any = "missing", **more: Any) -> Gap:
    return Gap(table, partition, state, more.pop("root", state), **more)


def requests(gaps: list[Gap], **versions: str) -> list[tuple[str, str, list[str]]]:
    order = list(dict.fromkeys(g.table for g in gaps))
    known = {t: versions.get(t.replace(".", "_"), "v1") for t in order}
    return [
        (
            r.tags["dagster/asset_partition_range_start"],
            r.tags["dagster/asset_partition_range_end"],
            [".".join(k.path) for k in r.asset_selection or ()],
        )
        for r in gap_requests(gaps, known, order, AT, "daily")
    ]


def test_neighbouring_missing_partitions_are_filled_by_one_run() -> None:
    gaps = [gap("bronze.a", p) for p in ("2026-10-05", "2026-10-06", "2026-10-08")]
    assert requests(gaps) == [
        ("2026-10-05", "2026-10-06", ["bronze.a"]),
        ("2026-10-08", "2026-10-08", ["bronze.a"]),
    ]


def test_what_a_gap_blocks_runs_along_with_it() -> None:
    gaps = [
        gap("bronze.a", "2026-10-05"),
        gap("silver.a", "2026-10-05", "blocked", root="missing", detail="bronze.a is missing"),
        gap("gold.a", "2026-10-05", "blocked", root="missing", detail="silver.a is blocked"),
    ]
    assert requests(gaps) == [("2026-10-05", "2026-10-05", ["bronze.a", "silver.a", "gold.a"])]


def test_a_failed_partition_waits_until_its_code_has_changed() -> None:
    gaps = [gap("silver.a", "2026-10-05", "failed", transform_version="v1")]
    assert requests(gaps) == []
    assert requests(gaps, silver_a="v2") == [("2026-10-05", "2026-10-05", ["silver.a"])]


def test_what_was_not_delivered_cannot_be_filled() -> None:
    gaps = [
        gap("bronze.a", "2026-10-05", "not delivered"),
        gap("silver.a", "2026-10-05", "blocked", root="not delivered",
            detail="bronze.a is not delivered"),
    ]  # fmt: skip
    assert requests(gaps) == []


def test_the_gap_filler_asks_for_delivered_partitions_that_never_ran(
    definitions: dg.Definitions, settings: Settings, instance: dg.DagsterInstance, switch: AnyPlane
) -> None:
    folder = Path(settings.zones["landing"]) / "orders"
    for day in ("2026-10-05", "2026-10-06"):
        (folder / day).mkdir(parents=True, exist_ok=True)
        (folder / day / "orders.parquet").write_bytes(b"x")
    switch.plane.rows = [done("bronze.orders", "2026-10-05")]
    found = tick(definitions, "lake_daily_gap_fill", instance).run_requests
    asked = {
        (r.tags["dagster/asset_partition_range_start"], ".".join(k.path))
        for r in found
        for k in r.asset_selection
    }
    assert ("2026-10-06", "bronze.orders") in asked
    assert ("2026-10-05", "silver.orders") in asked
    assert not any(table == "bronze.customers" for _, table in asked), "it was not delivered"
    assert not any(day == "2026-10-05" and t == "bronze.orders" for day, t in asked)


def test_ranges_have_no_holes_and_end_at_midnight_for_hours() -> None:
    hours = ["2026-10-05T22", "2026-10-05T23", "2026-10-06T00", "2026-10-06T02"]
    assert list(ranges(hours)) == [
        ("2026-10-05T22", "2026-10-06T00"),
        ("2026-10-06T02", "2026-10-06T02"),
    ]
