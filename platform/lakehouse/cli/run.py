"""`lakehouse run`: the whole lake, from delivered files to marts."""

from __future__ import annotations

import sys

import click

from lakehouse.settings.load import load_settings


@click.command()
@click.option("--scale", type=float, help="Size of the sample, as TPC-H's scale factor.")
@click.option("--days", type=int, help="Days of the sample.")
@click.option("--force", is_flag=True, help="Do the work even where nothing changed.")
def run(scale: float | None, days: int | None, force: bool) -> None:
    """Deliver the sample data (where the settings say so) and materialize every table and mart.

    Safe to repeat: what has not changed since the last run is left alone.
    """
    settings = load_settings()
    if settings.sample.deliver:
        from lakehouse.cli.deliver import deliver_sample

        deliver_sample(settings, scale, days)
    from lakehouse.cli.lake_run import Request, delivered_days, materialize_lake
    from spark_jobs.contract.reader import load_contracts

    contracts = load_contracts(settings.contracts)
    first, last = delivered_days(settings, contracts)
    request = Request(first.isoformat(), last.isoformat(), force=force)
    sys.exit(0 if materialize_lake(settings, contracts, request) else 1)
