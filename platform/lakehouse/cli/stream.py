"""`lakehouse stream`: the streams that are drained here.

Belongs here: what is asked and said. Does not belong here: streams (sources/stream_datasets.py).
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from lakehouse.settings.load import load_settings
from spark_jobs import quoting
from spark_jobs.window import FORMATS

if TYPE_CHECKING:
    import dagster as dg

    from lakehouse.sources.stream_datasets import StreamDataset


@click.group()
def stream() -> None:
    """Send to streams, look at them, and land what they have."""


@stream.command()
@click.argument("dataset")
@click.argument("record")
@click.option("--key", required=True, help="Its key: records of one key stay in their order.")
def put(dataset: str, record: str, key: str) -> None:
    """Send RECORD to the stream of DATASET."""
    shard, position = _dataset(dataset).put(record.encode(), key)
    click.echo(f"{shard} {position}")


@stream.command()
@click.argument("dataset")
@click.option("--limit", default=10, show_default=True, help="So many records.")
@click.option("--shard", help="Of this shard alone.")
@click.option("--landed", is_flag=True, help="Those that have landed too.")
def tail(dataset: str, limit: int, shard: str | None, landed: bool) -> None:
    """Show the newest records of DATASET that have not landed yet."""
    for record in _dataset(dataset).tail(limit, shard, landed=landed):
        text = quoting.plain(record.data.decode(errors="backslashreplace"))
        click.echo(f"{record.arrived} {record.shard} {record.position} {record.key or '-'} {text}")


@stream.command()
@click.argument("dataset")
def lag(dataset: str) -> None:
    """Show how far landing is behind the stream of DATASET."""
    for found in _dataset(dataset).lag():
        count = "" if found.records is None else f"  {found.records:,} records"
        waits = f"waits for {found.seconds:.1f} s" if found.seconds else "all has landed"
        click.echo(f"{found.shard}  {waits}{count}")


@stream.command()
@click.argument("dataset")
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(dataset: str, yes: bool) -> None:
    """Forget how far the stream of DATASET has landed, and begin at its oldest record."""
    of = _dataset(dataset)
    since, count = of.again()
    if not since:
        click.echo("The stream has no records: nothing lands again.")
    else:
        records = "all records" if count is None else f"all {count:,} records"
        last = f"{datetime.now(UTC):{FORMATS[of.scheme]}}"
        click.echo(
            f"{records} since {since} land again, in new files beside the old ones, and the tables that"
            f" read them run again for the partitions {since[: len(last)]} to {last} that have some."
            " Bronze tables have them twice until the old files are removed from landing; silver"
            " tables with a key count them as duplicates and do not change."
        )
    if not yes:
        click.confirm("Reset?", abort=True)
    of.reset()


@stream.command()
@click.argument("dataset")
def drain(dataset: str) -> None:
    """Land what the stream of DATASET has. Its tables run with the sensor on landing."""
    from lakehouse.automation.jobs import LAKE_JOBS
    from lakehouse.definitions import build_definitions
    from lakehouse.keys import landing_key
    from lakehouse.local.execution import execute
    from lakehouse.local.instance import open_instance
    from lakehouse.partitions import partitions_def

    settings = load_settings()
    of = _dataset(dataset)
    newest = partitions_def(of.scheme, settings.partitions).get_last_partition_key()
    with open_instance(settings) as instance:
        done = execute(
            build_definitions(settings, marts=False),
            LAKE_JOBS[of.scheme],
            instance,
            partitions=(newest, newest) if newest else None,
            assets=[landing_key(dataset)],
            tags={},
            on_event=_tell,
        )
    for failure in done.failures:
        click.echo(failure.reason, err=True)
    sys.exit(0 if done.success else 1)


def _dataset(name: str) -> StreamDataset:
    from lakehouse.sources.stream_datasets import Streams
    from spark_jobs.contract.reader import load_contracts

    settings = load_settings()
    return Streams(settings, load_contracts(settings.contracts))[name]


def _tell(entry: dg.EventLogEntry) -> None:
    """Shows what the drain says itself."""
    if entry.dagster_event is None and entry.level == logging.INFO:
        click.echo(entry.user_message)
