"""Days that are made of the hours of a stream, some of which were silent: they are due, and published.

Here: sensors, and the runs that they ask for, one after the other, from a drain to the table of days.
Not here: which hours are silent (test_silent_hours.py), or what else runs leave to do
(tests/unit/test_follow_ups.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml

from lakehouse.automation import follow_up_sensor, landing_sensor
from lakehouse.definitions import build_definitions
from lakehouse.keys import run_range
from lakehouse.local.execution import QUIET
from lakehouse.settings.load import load_settings
from lakehouse.sources.stream_datasets import Streams
from lakehouse.standins.servers.aws import REGION, Aws
from spark_jobs.contract.reader import load_contracts
from tests.integration.kinesis_streams import DATASET, NAME, client
from tests.lakes import TinyLake

DAILY = "gold.sensor_status_daily"
TABLES = ("bronze.sensor_readings", "silver.sensor_readings", DAILY)


@dataclass
class Daemon:
    """What Dagster's daemon does, in this process."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    cursors: dict[str, str | None] = field(default_factory=dict)

    def look(self, sensor: str) -> list[tuple[str, str] | None]:
        """Runs what a sensor asks for; returns for which partitions."""
        with dg.build_sensor_context(
            cursor=self.cursors.get(sensor),
            instance=self.instance,
            repository_def=self.definitions.get_repository_def(),
            resources=self.definitions.resources,
        ) as context:
            tick = self.definitions.resolve_sensor_def(sensor).evaluate_tick(context)
        self.cursors[sensor] = tick.cursor
        for request in tick.run_requests or ():
            assert request.job_name
            self.definitions.resolve_job_def(request.job_name).execute_in_process(
                run_config=QUIET,
                instance=self.instance,
                asset_selection=list(request.asset_selection or ()),
                tags=request.tags,
            )
        return [run_range(request.tags) for request in tick.run_requests or ()]


def test_a_day_is_published_when_its_hours_are_over_and_again_when_a_silent_one_was_not(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_engine: None
) -> None:
    connection = {"kinesis": {"region": REGION, "endpoint": aws.url, "calls_per_second": 1000}}
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump(connection))
    monkeypatch.setenv("LAKEHOUSE_SOURCES", str(tmp_path / "sources.yaml"))
    now = datetime.now(UTC)
    read = load_settings("local", home=tmp_path)
    days = {"start": (now - timedelta(days=3)).date(), "end": now.date()}
    settings = read.model_copy(update={"partitions": read.partitions.model_copy(update=days)})
    every = load_contracts(settings.contracts)
    contracts = {table: every[table] for table in TABLES}
    client(aws.url).create_stream(StreamName=NAME, ShardCount=2)
    stream = Streams(settings, contracts)[DATASET]
    lake = TinyLake(tmp_path, zones=dict(settings.zones), _parsed=contracts)
    yesterday = now.replace(minute=30) - timedelta(days=1)
    day = f"{yesterday:%Y-%m-%d}"

    def put(hour: int) -> None:
        at = yesterday.replace(hour=hour)
        aws.set_kinesis_clock(at.isoformat())
        reading = {"timestamp": f"{at:%Y-%m-%dT%H:%M:%S}", "temperature_celsius": -18}
        stream.put(json.dumps({**reading, "sensor_id": "sensor_1"}).encode(), "sensor_1")

    def counted() -> list[tuple[str, int]]:
        return [(str(row["date"]), row["readings"]) for row in lake.rows(DAILY)]

    with dg.instance_for_test() as instance:
        daemon = Daemon(build_definitions(settings, contracts=contracts, marts=False), instance)
        daemon.look(follow_up_sensor.NAME)
        for hour in (3, 20):
            put(hour)
        stream.drain()
        assert daemon.look(landing_sensor.NAME) == [(f"{day}T00", f"{day}T23")]
        states = {row.partition: row.status for row in lake.ledger(TABLES[1])}
        published = {hour for hour, status in states.items() if status == "published"}
        assert published == {f"{day}T03", f"{day}T20"} and len(states) == 24
        assert daemon.look(follow_up_sensor.NAME) == [(day, day)]
        assert counted() == [(day, 2)]
        assert not daemon.look(landing_sensor.NAME) and not daemon.look(follow_up_sensor.NAME)

        put(10)
        stream.drain()
        assert daemon.look(landing_sensor.NAME) == [(f"{day}T10", f"{day}T10")]
        assert daemon.look(follow_up_sensor.NAME) == [(day, day)]
        assert counted() == [(day, 3)]
