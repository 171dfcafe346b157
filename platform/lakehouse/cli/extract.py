"""`lakehouse extract`: one dataset from its source into landing."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from lakehouse.settings.load import load_settings

if TYPE_CHECKING:
    import dagster as dg

_DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.argument("dataset")
@click.option("--from", "first", type=_DAY, help="First day; default: the newest complete one.")
@click.option("--to", "last", type=_DAY, help="Last day, included; default: the first one.")
@click.option("--again", is_flag=True, help="Extract what has landed already anew.")
@click.option("--full", is_flag=True, help="Take all rows of the source into the first day.")
def extract(
    dataset: str, first: datetime | None, last: datetime | None, again: bool, full: bool
) -> None:
    """Extract DATASET into landing. Its tables run with the next run of the lake, or by the sensor on
    extractions."""
    from lakehouse.automation.jobs import LAKE_JOBS
    from lakehouse.automation.schedules import newest_complete
    from lakehouse.cli.lake_run import Request, partitions_of
    from lakehouse.definitions import build_definitions
    from lakehouse.keys import AGAIN_TAG, FULL_TAG, landing_key
    from lakehouse.local.execution import execute
    from lakehouse.local.instance import open_instance
    from lakehouse.sources.registry import extracted
    from spark_jobs.contract.reader import load_contracts
    from spark_jobs.errors import InputError

    settings = load_settings()
    contracts = load_contracts(settings.contracts)
    there = extracted(settings, contracts)
    if dataset not in there:
        known = ", ".join(there) or "none"
        raise InputError(
            f"{dataset}: is not extracted in {settings.environment}; {known} is. Give its kind of"
            " source a connection in the settings (sources), or let others deliver it."
        )
    scheme = there[dataset][0].partitioning or "daily"
    newest = newest_complete("daily", datetime.now(UTC))
    begin = first.date().isoformat() if first else newest
    end = last.date().isoformat() if last else begin
    if end < begin:
        raise click.BadParameter("--to lies before --from")
    partitions = partitions_of(settings, scheme, Request(begin, end))
    tags = {AGAIN_TAG: again, FULL_TAG: full}
    with open_instance(settings) as instance:
        done = execute(
            build_definitions(settings, contracts=contracts, marts=False),
            LAKE_JOBS[scheme],
            instance,
            partitions=partitions,
            assets=[landing_key(dataset)],
            tags={tag: "true" for tag, given in tags.items() if given},
            on_event=_tell,
        )
    for failure in done.failures:
        click.echo(failure.reason, err=True)
    sys.exit(0 if done.success else 1)


def _tell(entry: dg.EventLogEntry) -> None:
    """Shows what the extraction says itself."""
    if entry.dagster_event is None and entry.level == logging.INFO:
        click.echo(entry.user_message)
