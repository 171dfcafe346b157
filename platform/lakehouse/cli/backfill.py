"""`lakehouse backfill`: a range of days, as one run per partition scheme."""

from __future__ import annotations

import sys
from datetime import datetime

import click

from lakehouse.settings.load import load_settings

_DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.option("--from", "first", type=_DAY, required=True, help="First day.")
@click.option("--to", "last", type=_DAY, required=True, help="Last day, included.")
@click.option("--tables", default="", help="Names, layers or domains, with commas; default: all.")
@click.option("--force", is_flag=True, help="Do the work even where nothing changed.")
@click.option("--artifact", help="Run with this version of what was shipped, and its contracts.")
def backfill(
    first: datetime, last: datetime, tables: str, force: bool, artifact: str | None
) -> None:
    """Materialize a range of days. A bad day fails and is named; the others are published."""
    if last < first:
        raise click.BadParameter("--to lies before --from")
    from lakehouse.cli.selection import ensure_exist
    from spark_jobs.contract.reader import load_contracts

    settings = load_settings()
    contracts = load_contracts(settings.contracts)
    names = tuple(name.strip() for name in tables.split(",") if name.strip())
    ensure_exist(contracts, names)
    from lakehouse.cli.lake_run import Request, materialize_lake

    request = Request(first.date().isoformat(), last.date().isoformat(), names, force, artifact)
    sys.exit(0 if materialize_lake(settings, contracts, request) else 1)
