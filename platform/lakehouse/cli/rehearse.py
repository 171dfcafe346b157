"""`lakehouse rehearse`: the sample lake as production would run it, on stand-ins of its services, or of
the systems that its data comes from."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from lakehouse.settings.load import load_settings
from spark_jobs.errors import InputError

if TYPE_CHECKING:
    from lakehouse.settings.model import Settings
    from lakehouse.standins.cloud import Service

_DAYS = 3
"""From sources, each day is run by itself, as it comes."""


@click.command()
@click.option("--scale", type=float, help="Size of the sample, as TPC-H's scale factor.")
@click.option("--days", type=int, help="Days of the sample; 3 from sources.")
@click.option("--runner", type=click.Choice(["emr", "databricks"]), default="emr", show_default=True,
              help="What runs the tables.")  # fmt: skip
@click.option("--sources", is_flag=True, help="Extract the sample from stand-ins of its sources.")
def rehearse(scale: float | None, days: int | None, runner: Service, sources: bool) -> None:
    """Run the sample lake with the settings of production: tables as jobs of EMR Serverless (or of
    Databricks) on S3, marts in Redshift, the run history in PostgreSQL, each played by a stand-in on
    this machine.

    Needs Java 17, and for EMR Serverless its Spark, which `make run-cloud` brings. The services end with
    the command; the summary stays in LAKEHOUSE_HOME/rehearsal.

    With --sources: run it with the settings of a laptop, and extract it day by day from the systems
    that it comes from. The lake stays in LAKEHOUSE_HOME/sources.
    """
    if sources:
        sys.exit(0 if _from_sources(scale, days) else 1)
    with rehearsed(runner, scale, days) as (settings, good):
        summary = settings.home / "summary.json"
    click.echo(f"The services have ended, and the lake with them; {summary} stays.")
    sys.exit(0 if good else 1)


@contextmanager
def rehearsed(
    runner: Service, scale: float | None, days: int | None
) -> Iterator[tuple[Settings, bool]]:
    """The settings of a lake that has been run, as long as its services are up, and whether all went
    well. The environment of this process leads to them."""
    with _not_without("make run-cloud"):
        from lakehouse.standins.cloud import cloud

    local = _begun_anew("rehearsal")
    with cloud(local.partitions.start.isoformat(), runner) as services:
        settings = _led_to(services.variables, local)
        yield settings, _run(settings, scale or local.sample.scale, days or local.sample.days)


def _from_sources(scale: float | None, days: int | None) -> bool:
    """Whether all of it went well."""
    with _not_without("make run-sources"):
        from lakehouse.cli.source_days import run_days
        from lakehouse.standins.systems.together import systems
    from spark_jobs.contract.reader import load_contracts

    local = _begun_anew("sources")
    with systems(load_contracts(local.contracts), local.home / "settings") as up:
        settings = _led_to(up.variables, local)
        return run_days(settings, up, scale or local.sample.scale, days or _DAYS)


@contextmanager
def _not_without(command: str) -> Iterator[None]:
    """Imports of stand-ins, which need more than the platform does."""
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"the stand-ins need {error.name}: install the extras `sample` and `test`, or run"
            f" `{command}`"
        ) from error


def _begun_anew(folder: str) -> Settings:
    """The settings of a laptop, with an empty home below its own."""
    local = load_settings("local")
    home = local.home / folder
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    return local.model_copy(update={"home": home})


def _led_to(variables: Mapping[str, str], local: Settings) -> Settings:
    """The settings of an environment that these variables lead to."""
    os.environ.update(variables, LAKEHOUSE_HOME=str(local.home))
    return load_settings()


def _run(settings: Settings, scale: float, days: int) -> bool:
    """Whether all of it went well."""
    from lakehouse.cli.deliver import deliver_sample
    from lakehouse.cli.deploy import ship
    from lakehouse.cli.lake_run import Request, materialize_lake
    from spark_jobs.contract.reader import load_contracts

    ship(settings)
    deliver_sample(settings, scale, days)
    # What production has is due until today, and the sample ends before.
    first = settings.partitions.start
    request = Request.days(first, first + timedelta(days=days - 1))
    return materialize_lake(settings, load_contracts(settings.contracts), request)
