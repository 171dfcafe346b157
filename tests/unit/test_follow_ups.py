"""What a finished run leaves to do: the rest that a bad day stopped, and the days that hours make.

The runs are Dagster's own, over a data plane that runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse.automation.follow_up_sensor import NAME
from lakehouse.automation.follow_ups import Ended, due_windows, held_back, rest_of
from lakehouse.automation.gaps import find_gaps
from lakehouse.definitions import build_definitions
from lakehouse.keys import PROCESS_TAG, REST_TAG, WINDOWS_TAG, asset_key, range_tags, run_range
from lakehouse.local.execution import QUIET
from lakehouse.settings.load import load_settings
from spark_jobs.contract.model import Contract
from spark_jobs.report import Check
from tests.fake_plane import AnyPlane, FakePlane, recorded
from tests.lakes import TinyLake, bronze, column, contract, copied, transforms_in

DAYS = tuple(f"2026-10-{day:02d}" for day in range(5, 10))
HOURS = [f"2026-10-06T{hour:02d}" for hour in range(24)]
SHUT = [Check(name="row_count", passed=False, blocking=True, observed=0, threshold=">= 1")]


def _id(table: str = "") -> dict:
    return column("id", "string", key=1, of=f"{table}.id" if table else "")


@pytest.fixture(scope="module")
def contracts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Contract]]:
    """People day by day in three layers; readings hour by hour, with a daily table over them."""
    lake = TinyLake(tmp_path_factory.mktemp("lake"))
    same = copied("id", table="x")
    lake.define(bronze("people", "csv", column("id")))
    hourly: dict[str, Any] = {"partitioning": "hourly"}
    lake.define(bronze("readings", "csv", column("id"), **hourly))
    of = {
        "silver.people": ("bronze.people", {}),
        "gold.people": ("silver.people", {}),
        "silver.readings": ("bronze.readings", hourly),
        "gold.readings_daily": ("silver.readings", {}),
        "gold.worst_daily": ("gold.readings_daily", {}),
    }
    for table, (source, more) in of.items():
        document = contract(table, [_id(source)], inputs=[{"table": source}], **more)
        lake.define(document, same)
    with transforms_in(lake.transforms):
        yield lake.parsed()


@pytest.fixture(scope="module")
def switch() -> AnyPlane:
    return AnyPlane()


@pytest.fixture(scope="module")
def definitions(
    contracts: Any, switch: AnyPlane, tmp_path_factory: pytest.TempPathFactory
) -> dg.Definitions:
    home = tmp_path_factory.mktemp("home")
    settings = load_settings("local", home=home, project=home)
    return build_definitions(
        settings, contracts=contracts, marts=False, embedded=switch, lake_ledger=switch
    )


class Sensed:
    """A Dagster instance, the runs of a test on it, and what the sensor asks for."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self.definitions, self.instance = definitions, instance
        self.cursor: str | None = None
        self.look()

    def run(self, first: str, last: str, *tables: str, **tags: str) -> str:
        job = "lake_hourly" if "T" in first else "lake_daily"
        result = self.definitions.resolve_job_def(job).execute_in_process(
            run_config=QUIET,
            instance=self.instance,
            asset_selection=[asset_key(t) for t in tables] or None,
            tags={**range_tags(first, last), **{k.replace("__", "/"): v for k, v in tags.items()}},
            raise_on_error=False,
        )
        return result.run_id

    def look(self) -> list[dg.RunRequest]:
        with dg.build_sensor_context(
            cursor=self.cursor,
            instance=self.instance,
            repository_def=self.definitions.get_repository_def(),
            resources=self.definitions.resources,
        ) as context:
            tick = self.definitions.resolve_sensor_def(NAME).evaluate_tick(context)
        self.cursor = tick.cursor
        return list(tick.run_requests or ())

    def asked(self) -> list[tuple[Any, ...]]:
        return [
            (run_range(r.tags), {".".join(k.path) for k in r.asset_selection or ()})
            for r in self.look()
        ]


@pytest.fixture
def sensed(definitions: dg.Definitions, switch: AnyPlane) -> Iterator[Sensed]:
    switch.plane = FakePlane()
    with dg.instance_for_test() as instance:
        yield Sensed(definitions, instance)


PEOPLE = ("bronze.people", "silver.people", "gold.people")


def test_the_other_days_of_a_bad_one_run_downstream_a_range_each(
    sensed: Sensed, switch: AnyPlane
) -> None:
    switch.plane = FakePlane({("bronze.people", DAYS[2]): SHUT})
    run_id = sensed.run(DAYS[0], DAYS[4], *PEOPLE)
    requests = sensed.look()
    assert [(run_range(r.tags), [k.path[-2:] for k in r.asset_selection]) for r in requests] == [
        ((DAYS[0], DAYS[1]), [["silver", "people"], ["gold", "people"]]),
        ((DAYS[3], DAYS[4]), [["silver", "people"], ["gold", "people"]]),
    ]
    assert {r.tags[REST_TAG] for r in requests} == {run_id}
    assert {r.job_name for r in requests} == {"lake_daily"}
    assert len({r.run_key for r in requests}) == 2
    assert sensed.look() == [], "it was asked for once"


def test_a_crash_before_the_cursor_asks_with_the_same_run_keys(
    sensed: Sensed, switch: AnyPlane
) -> None:
    switch.plane = FakePlane({("bronze.people", DAYS[2]): SHUT})
    sensed.run(DAYS[0], DAYS[4], *PEOPLE)
    before = sensed.cursor
    first = [r.run_key for r in sensed.look()]
    sensed.cursor = before
    assert [r.run_key for r in sensed.look()] == first


def test_the_rest_of_a_rest_is_smaller_and_ends(sensed: Sensed, switch: AnyPlane) -> None:
    switch.plane = FakePlane(
        {("bronze.people", DAYS[0]): SHUT, ("silver.people", DAYS[2]): SHUT,
         ("gold.people", DAYS[3]): SHUT}
    )  # fmt: skip
    due, rounds = [((DAYS[0], DAYS[4]), set(PEOPLE))], []
    while due and len(rounds) < 9:
        rounds.append(due)
        for (first, last), tables in due:
            sensed.run(first, last, *tables)
        due = sensed.asked()
    assert rounds[1:] == [
        [((DAYS[1], DAYS[4]), {"silver.people", "gold.people"})],
        [((DAYS[1], DAYS[1]), {"gold.people"}), ((DAYS[3], DAYS[4]), {"gold.people"})],
    ]


def test_a_single_bad_day_leaves_nothing(sensed: Sensed, switch: AnyPlane) -> None:
    switch.plane = FakePlane({("bronze.people", DAYS[2]): SHUT})
    sensed.run(DAYS[2], DAYS[2], *PEOPLE)
    assert sensed.look() == []


def test_a_table_that_failed_as_a_whole_leaves_nothing(sensed: Sensed, switch: AnyPlane) -> None:
    switch.plane = FakePlane(raises={"bronze.people": [RuntimeError("no engine")] * 9})
    sensed.run(DAYS[0], DAYS[4], *PEOPLE)
    assert sensed.look() == []


def test_runs_of_the_command_line_are_left_to_it(sensed: Sensed, switch: AnyPlane) -> None:
    switch.plane = FakePlane({("bronze.people", DAYS[2]): SHUT})
    sensed.run(DAYS[0], DAYS[4], *PEOPLE, **{PROCESS_TAG: "1"})
    assert sensed.look() == []


def test_marts_run_over_what_is_published_with_the_last_range(contracts: Any) -> None:
    skipped = ("silver.people", "gold.people", "marts.sales")
    ended = Ended("run", "daily", DAYS, frozenset({"bronze.people"}), skipped)
    parents = {t: list(c.upstream) for t, c in contracts.items()}
    parents["marts.sales"] = ["gold.people"]
    rows = [recorded("bronze.people", DAYS[2], "failed", run_id="run")]
    held = held_back(ended, contracts, parents, rows)
    assert held["gold.people"] == {DAYS[2]}
    found = [(f.partitions, f.assets) for f in rest_of(ended, held, contracts)]
    assert found == [
        ((DAYS[0], DAYS[1]), ("silver.people", "gold.people")),
        ((DAYS[3], DAYS[4]), ("silver.people", "gold.people", "marts.sales")),
    ]
    none = held_back(ended, contracts, parents, [])
    assert rest_of(ended, none, contracts) == [], "nothing of the input is published"


# -- days made of hours ------------------------------------------------------------------------

READINGS = ("bronze.readings", "silver.readings")
DAILY = {"gold.readings_daily", "gold.worst_daily"}


def test_the_last_hour_of_a_day_asks_for_the_day_and_what_its_rows_flow_into(
    sensed: Sensed,
) -> None:
    sensed.run(HOURS[0], HOURS[22])
    assert sensed.look() == []
    run_id = sensed.run(HOURS[23], HOURS[23])
    (request,) = sensed.look()
    assert request.job_name == "lake_daily"
    assert run_range(request.tags) == ("2026-10-06", "2026-10-06")
    assert {".".join(k.path) for k in request.asset_selection} == DAILY
    assert request.tags[WINDOWS_TAG] == run_id


def test_an_hour_that_changes_asks_for_its_day_again(sensed: Sensed) -> None:
    sensed.run(HOURS[0], HOURS[23])
    (first,) = sensed.look()
    sensed.run("2026-10-06", "2026-10-06", *DAILY)
    assert sensed.look() == []
    sensed.run(HOURS[7], HOURS[7])
    (again,) = sensed.look()
    assert run_range(again.tags) == ("2026-10-06", "2026-10-06")
    assert again.run_key != first.run_key


def test_a_failed_hour_holds_its_day_back(sensed: Sensed, switch: AnyPlane) -> None:
    switch.plane = FakePlane({("silver.readings", HOURS[7]): SHUT})
    sensed.run(HOURS[0], HOURS[23])
    assert sensed.look() == []


@pytest.mark.parametrize(
    ("day", "hours_last", "is_due"),
    [
        pytest.param(None, 0, True, id="a day that never ran"),
        pytest.param(("failed", 5), 10, True, id="a day that failed before its last hour came"),
        pytest.param(("failed", 60), 0, False, id="a day that failed with all its hours there"),
        pytest.param(("published", 60), 0, False, id="a day that has seen its hours"),
        pytest.param(("published", 5), 30, True, id="an hour that was being published meanwhile"),
    ],
)
def test_a_day_is_due_while_an_hour_is_newer(
    contracts: Any, day: tuple[str, int] | None, hours_last: float, is_due: bool
) -> None:
    start = datetime(2026, 10, 7, tzinfo=UTC)
    rows = [
        recorded("silver.readings", hour, started_at=start, seconds=float(hours_last))
        for hour in HOURS
    ]
    if day is not None:
        began = start + timedelta(seconds=day[1])
        rows.append(recorded("gold.readings_daily", "2026-10-06", day[0], started_at=began))
    ended = Ended("run", "hourly", (HOURS[7],))
    found = due_windows(ended, contracts["gold.readings_daily"], "silver.readings", rows)
    assert list(found) == (["2026-10-06"] if is_due else [])


def test_dagster_shows_which_hours_a_day_is_made_of(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    key = dg.AssetKey(["gold", "readings_daily"])
    spec = next(s for a in definitions.assets or () for s in a.specs if s.key == key)
    (dep,) = spec.deps
    assert isinstance(dep.partition_mapping, dg.TimeWindowPartitionMapping)
    upstream = graph.get(dg.AssetKey(["silver", "readings"])).partitions_def
    mapped = dep.partition_mapping.get_upstream_mapped_partitions_result_for_partitions(
        graph.get(key).partitions_def.empty_subset().with_partition_keys(["2026-10-06"]),
        graph.get(key).partitions_def,
        upstream,
    )
    assert list(mapped.partitions_subset.get_partition_keys()) == HOURS


def test_a_blocked_day_says_which_hours_it_waits_for(contracts: Any) -> None:
    chosen = {t: contracts[t] for t in (*READINGS, "gold.readings_daily")}
    ledger = [recorded(t, h) for t in READINGS for h in HOURS if h[-2:] not in ("03", "04", "17")]
    delivered = {"readings": [h for h in HOURS if h[-2:] != "17"]}
    day = date(2026, 10, 6)
    gaps = {(g.table, g.partition): g for g in find_gaps(chosen, ledger, delivered, (day, day))}
    gap = gaps["gold.readings_daily", "2026-10-06"]
    assert gap.state == "blocked"
    assert gap.detail == (
        "silver.readings is blocked for 2026-10-06T03 to 2026-10-06T04, 2026-10-06T17"
    )
    ready = [recorded(t, h) for t in READINGS for h in HOURS]
    (missing,) = find_gaps(chosen, ready, {"readings": HOURS}, (day, day))
    assert (missing.table, missing.state) == ("gold.readings_daily", "missing")


def test_an_hourly_table_cannot_be_made_of_days(tmp_path: Path) -> None:
    lake = TinyLake(tmp_path)
    lake.define(bronze("people", "csv", column("id")))
    document = contract(
        "silver.people", [_id("bronze.people")], inputs=[{"table": "bronze.people"}],
        partitioning="hourly",
    )  # fmt: skip
    lake.define(document, copied("id", table="people"))
    with pytest.raises(Exception, match=r"silver\.people is hourly and its first input bronze\.p"):
        lake.parsed()
