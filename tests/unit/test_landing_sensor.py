"""The landing sensor asks for exactly what changed, once, whatever happens between two looks."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse.automation.jobs import downstream
from lakehouse.automation.landing_sensor import (
    NAME,
    _existing,
    advance,
    arrivals,
    decode,
    delivered_to,
    encode,
    listed_at,
)
from lakehouse.definitions import build_definitions
from lakehouse.keys import RANGE_START_TAG, SENSOR_TAG
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.settings.sources import FxApiConnection, SourceSettings
from lakehouse.sources.landing import snapshot
from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contracts

PROJECT = Path(__file__).parents[2]
SCHEMES: dict[str, Any] = {"orders": "daily", "fx_rates": "daily", "sensor_readings": "hourly"}


@pytest.fixture(scope="module")
def contracts() -> dict[str, Contract]:
    return load_contracts(PROJECT / "contracts")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings("local", home=tmp_path, project=PROJECT)


@pytest.fixture
def definitions(settings: Settings, contracts: Any) -> dg.Definitions:
    return build_definitions(settings, contracts=contracts, marts=False)


def land(
    settings: Settings, dataset: str, partition: str, content: str = "x", name: str = "f"
) -> None:
    """Delivers a file whose time of change is never that of an earlier version."""
    path = Path(settings.zones["landing"]) / dataset / partition / name
    path.parent.mkdir(parents=True, exist_ok=True)
    seen = path.stat().st_mtime_ns if path.exists() else 1_000_000_000
    path.write_text(content)
    os.utime(path, ns=(seen + 1_000_000, seen + 1_000_000))


def look(
    definitions: dg.Definitions,
    cursor: str | None = None,
    instance: dg.DagsterInstance | None = None,
) -> Any:
    sensor = definitions.resolve_sensor_def(NAME)
    with dg.build_sensor_context(
        cursor=cursor,
        instance=instance or dg.DagsterInstance.ephemeral(),
        repository_def=definitions.get_repository_def(),
    ) as context:
        return sensor.evaluate_tick(context)


def asked(tick: Any) -> list[tuple[str, str, str, set[str]]]:
    return [
        (
            r.job_name,
            r.tags["dagster/asset_partition_range_start"],
            r.tags["dagster/asset_partition_range_end"],
            {".".join(k.path) for k in r.asset_selection},
        )
        for r in tick.run_requests
    ]


def test_a_new_file_asks_for_its_partition_and_what_its_rows_flow_into(
    definitions: dg.Definitions, settings: Settings
) -> None:
    land(settings, "products", "2026-10-06")
    assert asked(look(definitions)) == [
        (
            "lake_daily",
            "2026-10-06",
            "2026-10-06",
            {"bronze.products", "silver.products", "gold.dim_product"},
        )
    ]


def test_what_several_datasets_drive_is_asked_for_once_all_of_them_are_there(
    definitions: dg.Definitions, settings: Settings
) -> None:
    land(settings, "customers", "2026-10-06")
    (first,) = asked(first_look := look(definitions))
    assert first[3] == {"bronze.customers"}
    land(settings, "customer_changes", "2026-10-06")
    (second,) = asked(look(definitions, first_look.cursor))
    assert second[3] == {"bronze.customer_changes", "silver.customers", "gold.dim_customer"}


def test_what_an_extracted_dataset_drives_too_waits_until_that_has_landed(
    settings: Settings, contracts: Any
) -> None:
    given = {"url": "https://rates.internal"}
    api = SourceSettings(fx_api=FxApiConnection(**given))
    here = settings.model_copy(update={"sources": api})
    rates = contracts["bronze.fx_rates"].source
    theirs = replace(
        contracts["bronze.customers"], source=rates.model_copy(update={"dataset": "customers"})
    )
    definitions = build_definitions(here, contracts=contracts | {theirs.table: theirs}, marts=False)
    land(settings, "customer_changes", "2026-10-06")
    (first,) = asked(look(definitions))
    assert first[3] == {"bronze.customer_changes"}
    land(settings, "customers", "2026-10-06", name="_manifest.json")
    land(settings, "customer_changes", "2026-10-06", "changed")
    (second,) = asked(look(definitions))
    assert second[3] == {"bronze.customer_changes", "silver.customers", "gold.dim_customer"}


def test_what_hours_drive_too_does_not_wait_for_a_day_of_them(
    settings: Settings, contracts: Any
) -> None:
    """Of which landing has no folder."""
    readings, products = (contracts[t] for t in ("gold.sensor_status_daily", "gold.dim_product"))
    mixed = replace(readings, inputs=(*readings.inputs, *products.inputs))
    land(settings, "products", "2026-10-06")
    land(settings, "sensor_readings", "2026-10-06T07")
    of = build_definitions(settings, contracts=contracts | {mixed.table: mixed}, marts=False)
    (daily,) = [r for r in asked(look(of)) if r[0] == "lake_daily"]
    assert "gold.sensor_status_daily" in daily[3]


def test_hours_ask_for_the_hourly_job(definitions: dg.Definitions, settings: Settings) -> None:
    land(settings, "sensor_readings", "2026-10-06T07")
    (request,) = asked(look(definitions))
    assert request[:3] == ("lake_hourly", "2026-10-06T07", "2026-10-06T07")
    assert "gold.sensor_status_hourly" in request[3]


def test_datasets_of_one_day_are_one_run_so_that_orders_come_before_their_lines(
    definitions: dg.Definitions, settings: Settings
) -> None:
    land(settings, "orders", "2026-10-06")
    land(settings, "line_items", "2026-10-06")
    (request,) = asked(look(definitions))
    assert {"silver.orders", "silver.line_items", "gold.fact_sales"} <= request[3]


def test_neighbouring_partitions_are_one_run(
    definitions: dg.Definitions, settings: Settings
) -> None:
    for day in (5, 6, 7, 9):
        land(settings, "orders", f"2026-10-{day:02d}")
    assert [r[1:3] for r in asked(look(definitions))] == [
        ("2026-10-05", "2026-10-07"),
        ("2026-10-09", "2026-10-09"),
    ]


def test_nothing_new_asks_for_nothing(definitions: dg.Definitions, settings: Settings) -> None:
    land(settings, "orders", "2026-10-06")
    first = look(definitions)
    second = look(definitions, first.cursor)
    assert second.run_requests == []
    assert second.skip_message == "nothing new in landing"
    assert second.cursor == first.cursor


@pytest.mark.parametrize(
    "change", [{"content": "changed"}, {"name": "late"}, {}], ids=["changed", "late", "rewritten"]
)
def test_a_late_or_changed_file_asks_for_its_partition_again_and_no_other(
    definitions: dg.Definitions, settings: Settings, change: dict[str, str]
) -> None:
    for day in (5, 6, 7):
        land(settings, "orders", f"2026-10-{day:02d}")
    first = look(definitions)
    land(settings, "orders", "2026-10-06", **change)
    second = look(definitions, first.cursor)
    assert [r[1:3] for r in asked(second)] == [("2026-10-06", "2026-10-06")]
    keys = {r.run_key for r in (*first.run_requests, *second.run_requests)}
    assert len(keys) == 2, "other versions, another key"


def test_unfinished_files_are_not_seen(definitions: dg.Definitions, settings: Settings) -> None:
    land(settings, "orders", "2026-10-06", name="_orders.parquet")
    land(settings, "orders", "2026-10-06", name=".orders.parquet.tmp")
    assert look(definitions).run_requests == []


def test_a_new_file_asks_for_every_table_that_reads_its_dataset(
    settings: Settings, contracts: Any
) -> None:
    more = contracts | {"bronze.again": replace(contracts["bronze.products"], name="again")}
    land(settings, "products", "2026-10-06")
    (request,) = asked(look(build_definitions(settings, contracts=more, marts=False)))
    assert {"bronze.products", "bronze.again", "silver.products"} <= request[3]


def test_files_that_are_extracted_here_ask_for_nothing(settings: Settings, contracts: Any) -> None:
    api = SourceSettings(fx_api=FxApiConnection(url="https://rates.internal"))
    here = settings.model_copy(update={"sources": api})
    assert "fx_rates" in delivered_to(settings, contracts)
    assert delivered_to(settings, contracts).keys() - delivered_to(here, contracts) == {"fx_rates"}


def test_a_folder_that_is_no_partition_is_left_alone(
    definitions: dg.Definitions, settings: Settings
) -> None:
    for name in ("2026-10-6", "backup", "2027-01-01", "2026-10-06T07"):
        land(settings, "orders", name)
    land(settings, "orders", "2026-10-06")
    assert [r[1] for r in asked(look(definitions))] == ["2026-10-06"]


def test_the_window_of_now_waits_without_a_warning_and_others_that_do_not_exist_are_told(
    settings: Settings,
) -> None:
    open_ended = settings.partitions.model_copy(update={"end": None})
    settings = settings.model_copy(update={"partitions": open_ended})
    now = datetime(2026, 10, 7, 9, 30, tzinfo=UTC)
    hours = [now + timedelta(hours=n) for n in (-1, 0, 1)]
    before, current, next_ = (f"{hour:%Y-%m-%dT%H}" for hour in hours)
    schemes: dict[str, Any] = {"sensor_readings": "hourly", "orders": "daily"}
    listed = {"sensor_readings": dict.fromkeys((before, current, "new"), "aa"), "orders": {}}
    listed["orders"] = {current: "aa", f"{now:%Y-%m-%d}": "aa"}
    existing, strange = _existing(listed, schemes, settings, now)
    assert existing == {"sensor_readings": {before: "aa"}, "orders": {}}
    assert strange == ["sensor_readings/new", f"orders/{current}"]
    _, strange = _existing({"sensor_readings": {next_: "aa"}}, schemes, settings, now)
    assert strange == [f"sensor_readings/{next_}"], "nothing has arrived in the future"


def test_a_crash_before_the_cursor_was_stored_repeats_the_same_run_keys(
    definitions: dg.Definitions, settings: Settings
) -> None:
    """Dagster launches no second run for a key that it has seen."""
    for day in (5, 6, 9):
        land(settings, "orders", f"2026-10-{day:02d}")
    before = look(definitions, cursor=None)  # its runs are asked for; then the daemon dies
    after = look(definitions, cursor=None)  # and begins again from the old cursor
    assert [r.run_key for r in before.run_requests] == [r.run_key for r in after.run_requests]
    assert look(definitions, after.cursor).run_requests == []


def test_a_crash_and_a_new_file_meanwhile_lose_nothing(
    definitions: dg.Definitions, settings: Settings
) -> None:
    land(settings, "orders", "2026-10-05")
    look(definitions)  # dies before the cursor is stored
    land(settings, "orders", "2026-10-08")
    after = look(definitions)
    assert {r[1] for r in asked(after)} == {"2026-10-05", "2026-10-08"}


def test_what_changes_while_a_run_of_its_partition_is_queued_waits_until_that_begins(
    definitions: dg.Definitions, settings: Settings
) -> None:
    land(settings, "orders", "2026-10-05")
    with dg.DagsterInstance.ephemeral() as instance:
        first = look(definitions, None, instance)
        (request,) = first.run_requests
        run = instance.create_run_for_job(
            definitions.resolve_job_def(request.job_name),
            tags={**request.tags, SENSOR_TAG: NAME},
            status=dg.DagsterRunStatus.NOT_STARTED,
        )
        land(settings, "orders", "2026-10-05", "more")
        land(settings, "orders", "2026-10-08")
        second = look(definitions, first.cursor, instance)
        assert [r.tags[RANGE_START_TAG] for r in second.run_requests] == ["2026-10-08"]
        assert look(definitions, second.cursor, instance).skip_message.endswith("queued: orders")
        instance.report_run_failed(run)
        (late,) = look(definitions, second.cursor, instance).run_requests
        assert (late.tags[RANGE_START_TAG], late.run_key != request.run_key) == ("2026-10-05", True)


def test_what_one_look_does_not_ask_for_the_next_one_does(
    settings: Settings, contracts: Any
) -> None:
    landing = settings.landing.model_copy(update={"requests_per_look": 2})
    limited = build_definitions(
        settings.model_copy(update={"landing": landing}), contracts=contracts, marts=False
    )
    for day in (5, 7, 9, 11, 13):
        land(settings, "orders", f"2026-10-{day:02d}")
    seen, cursor = [], None
    for _ in range(3):
        tick = look(limited, cursor)
        seen.append([r[1] for r in asked(tick)])
        cursor = tick.cursor
    assert seen == [["2026-10-05", "2026-10-07"], ["2026-10-09", "2026-10-11"], ["2026-10-13"]]


def test_a_storm_of_objects_is_few_runs_and_asks_once(
    definitions: dg.Definitions, settings: Settings
) -> None:
    days = [f"2026-10-{day:02}" for day in (*range(5, 10), *range(12, 17))]
    for day in days:
        folder = Path(settings.zones["landing"]) / "orders" / day
        folder.mkdir(parents=True)
        for n in range(1000):
            (folder / f"part-{n:04}").touch()
    tick = look(definitions)
    found = asked(tick)
    assert len(found) <= settings.landing.requests_per_look
    assert [r[1:3] for r in found] == [(days[0], days[4]), (days[5], days[9])]
    assert not look(definitions, tick.cursor).run_requests


def test_a_partition_that_has_left_landing_asks_for_nothing_and_is_forgotten() -> None:
    known = {"orders": {"2026-10-05": "aa", "2026-10-06": "bb"}}
    present = {"orders": {"2026-10-06": "bb"}}
    assert list(arrivals(known, present, SCHEMES)) == []
    assert advance(known, present, []) == present


def test_the_cursor_survives_its_encoding() -> None:
    known = {"orders": {"2026-10-05": "0123abcd"}, "fx_rates": {}}
    at = datetime(2026, 10, 6, 7, 8, tzinfo=UTC)
    for cursor in (encode(known), encode(known, at)):
        assert decode(cursor) == known
    assert (listed_at(encode(known, at)), listed_at(encode(known)), listed_at(None)) == (
        at,
        None,
        None,
    )
    assert decode(None) == {}


def test_the_cursor_of_a_year_is_compact() -> None:
    days = [(date(2026, 1, 1) + timedelta(days=i)).isoformat() for i in range(365)]
    digests = iter(os.urandom(4 * 365 * 33).hex(" ", 4).split())
    year = {f"dataset{n}": {d: next(digests) for d in days} for n in range(9)}
    year["sensor_readings"] = {f"{d}T{h:02d}": next(digests) for d in days for h in range(24)}
    partitions = sum(map(len, year.values()))
    assert partitions == 365 * 33
    assert len(encode(year)) < 8 * partitions


def test_rows_do_not_flow_along_lookups(contracts: Any) -> None:
    found = [".".join(k.path) for k in downstream(contracts, ["bronze.fx_rates"], {})]
    assert found == ["bronze.fx_rates", "silver.fx_rates"]


def test_marts_that_select_from_what_changed_run_along(contracts: Any) -> None:
    mart, of_mart = dg.AssetKey(["sales", "m"]), dg.AssetKey(["sales", "of_m"])
    other = dg.AssetKey(["sales", "other"])
    deps = {of_mart: [mart], mart: [dg.AssetKey(["silver", "fx_rates"])], other: []}
    found = downstream(contracts, ["bronze.fx_rates"], deps)
    assert found[-2:] == [mart, of_mart]
    assert other not in found


def test_listing_tells_versions_of_the_same_name_apart(settings: Settings) -> None:
    land(settings, "orders", "2026-10-05", "one")
    before = snapshot(settings.storage, settings.zones["landing"], ["orders"])
    land(settings, "orders", "2026-10-05", "two")
    assert snapshot(settings.storage, settings.zones["landing"], ["orders"]) != before
    assert snapshot(settings.storage, settings.zones["landing"], ["nothing"]) == {"nothing": {}}
