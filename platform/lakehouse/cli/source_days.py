"""The sample, day by day, from the systems that it comes from to the marts.

Belongs here: what happens on a day, and the looks of sensors and schedules that follow from it. Does not
belong here: the systems (standins/systems/), or what a look asks for (automation/).

What the daemon would do is done here, in this process: sensors look when there is something to see, and
not each minute, and what they ask for runs at once. Sources know what day it is in the sample; how long
a record of a stream has waited is told by today's clock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
import dagster as dg

from lakehouse.automation import extraction_sensor, landing_sensor, stream_sensor
from lakehouse.automation.jobs import DAILY
from lakehouse.cli import summary
from lakehouse.cli.deliver import deliver_sample
from lakehouse.cli.lake_run import OpenLake, open_lake
from lakehouse.cli.terminal import console
from lakehouse.keys import PARTITION_TAG, run_range
from lakehouse.settings.model import Settings
from spark_jobs.report import TableReport

if TYPE_CHECKING:
    from lakehouse.local.execution import RunOutcome
    from lakehouse.standins.systems.together import Systems

LEFT_OUT = "left_out.json"


def run_days(settings: Settings, systems: Systems, scale: float, days: int) -> bool:
    """Runs the days, showing progress and a summary. Returns whether all of it went well. What landed is
    kept with the lake: the bucket is not."""
    started_at, clock = datetime.now(UTC), time.monotonic()
    for text in systems.told():
        click.echo(text)
    sample = settings.home / "sample"
    with console() as out:
        with open_lake(settings, systems.contracts, out) as lake:
            outcomes = list(_days(settings, systems, lake, sample, scale, days))
        settings.storage.add(settings.zones["landing"], str(settings.home / "lake" / "landing"))
        done = summary.summarize(settings, outcomes, started_at, time.monotonic() - clock)
        summary.write(done, settings.home / "summary.json")
        summary.show(done, settings, out)
    text = json.dumps(systems.left_out, indent=1)
    (settings.home / LEFT_OUT).write_text(text + "\n", encoding="utf-8")
    _tell(systems)
    return done.success


def _days(
    settings: Settings, systems: Systems, lake: OpenLake, sample: Path, scale: float, days: int
) -> Iterator[RunOutcome]:
    daemon = _Daemon(lake)
    for index in range(days):
        day = settings.partitions.start + timedelta(days=index)
        deliver_sample(settings, scale, index + 1, to=sample)
        # By day: files come, and readings, which are drained when they have waited.
        systems.fill(sample, day.isoformat(), evening=False, first=not index)
        yield from daemon.look(stream_sensor.NAME)
        yield from daemon.look(landing_sensor.NAME)
        # In the evening the other systems have the day, and the clock strikes two.
        systems.fill(sample, day.isoformat(), evening=True, first=not index)
        yield from daemon.strike(f"{DAILY}_schedule", day + timedelta(days=1))
    # What the sensors find then has been made.
    yield from daemon.look(landing_sensor.NAME)
    yield from daemon.look(extraction_sensor.NAME)


@dataclass
class _Daemon:
    """Looks of sensors and schedules, and the runs that they ask for."""

    lake: OpenLake
    cursors: dict[str, str | None] = field(default_factory=dict)

    def look(self, name: str) -> Iterator[RunOutcome]:
        """A sensor looks. As the daemon does, its cursor is kept after what it asked for."""
        definitions = self.lake.definitions
        with dg.build_sensor_context(
            instance=self.lake.instance,
            cursor=self.cursors.get(name),
            repository_def=definitions.get_repository_def(),
            resources=definitions.resources,
        ) as context:
            tick = definitions.resolve_sensor_def(name).evaluate_tick(context)
        for request in tick.run_requests or ():
            yield self._run(request, request.job_name)
        self.cursors[name] = tick.cursor

    def strike(self, name: str, on: date) -> Iterator[RunOutcome]:
        """A schedule's hour has come."""
        definitions = self.lake.definitions
        schedule = definitions.resolve_schedule_def(name)
        with dg.build_schedule_context(
            instance=self.lake.instance,
            scheduled_execution_time=datetime(on.year, on.month, on.day, 2, tzinfo=UTC),
            repository_def=definitions.get_repository_def(),
            resources=definitions.resources,
        ) as context:
            tick = schedule.evaluate_tick(context)
        for request in tick.run_requests or ():
            yield self._run(request, schedule.job_name)

    def _run(self, request: dg.RunRequest, job: str | None) -> RunOutcome:
        assert job is not None
        partitions = run_range(request.tags)
        tags = {tag: value for tag, value in request.tags.items() if tag != PARTITION_TAG}
        outcome = self.lake.run(job, partitions, request.asset_selection or (), tags)
        if outcome.interrupted:
            raise click.Abort
        # What had been made already is counted with the run that made it.
        outcome.reports = [r for r in outcome.reports if _is_new(r)]
        outcome.marts = [mart for mart in outcome.marts if not mart.unchanged]
        return outcome


def _is_new(report: TableReport) -> bool:
    return any(p.status != "unchanged" for p in report.partitions)


def _tell(systems: Systems) -> None:
    """Says what of the sample has not come."""
    reasons: dict[str, int] = {}
    for partitions in systems.left_out.values():
        for left in partitions.values():
            for reason, rows in left.items():
                reasons[reason] = reasons.get(reason, 0) + rows
    said = ", ".join(f"{rows:,} {reason}" for reason, rows in sorted(reasons.items()))
    click.echo(f"\nPlanted rows that no system has, or no pull brings: {said or 'none'}")
