"""`lakehouse rehearse`: the sample lake as production would run it, on stand-ins of its services."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import timedelta

import click

from lakehouse.settings.load import load_settings
from spark_jobs.errors import InputError


@click.command()
@click.option("--scale", type=float, help="Size of the sample, as TPC-H's scale factor.")
@click.option("--days", type=int, help="Days of the sample.")
def rehearse(scale: float | None, days: int | None) -> None:
    """Run the sample lake with the settings of production: tables as jobs of EMR Serverless on S3, marts
    in Redshift, the run history in PostgreSQL, each played by a stand-in on this machine.

    Needs Java 17 and the Spark of EMR Serverless, which `make run-cloud` brings. The services end with
    the command; the summary stays in LAKEHOUSE_HOME/rehearsal.
    """
    try:
        from lakehouse.standins.cloud import cloud
    except ImportError as error:
        raise InputError(
            f"the stand-ins need {error.name}: install the extras `sample` and `test`, or run"
            " `make run-cloud`"
        ) from error

    local = load_settings("local")
    home = local.home / "rehearsal"
    shutil.rmtree(home, ignore_errors=True)
    days = days or local.sample.days
    with cloud(local.partitions.start.isoformat()) as variables:
        os.environ.update(variables, LAKEHOUSE_HOME=str(home))
        good = _run(scale or local.sample.scale, days)
    click.echo(f"The services have ended, and the lake with them; {home}/summary.json stays.")
    sys.exit(0 if good else 1)


def _run(scale: float, days: int) -> bool:
    """Whether all of it went well."""
    from lakehouse.cli.deliver import deliver_sample
    from lakehouse.cli.deploy import ship
    from lakehouse.cli.lake_run import Request, materialize_lake
    from spark_jobs.contract.reader import load_contracts

    settings = load_settings()
    ship(settings)
    deliver_sample(settings, scale, days)
    # What production has is due until today, and the sample ends before.
    first = settings.partitions.start
    request = Request.days(first, first + timedelta(days=days - 1))
    return materialize_lake(settings, load_contracts(settings.contracts), request)
