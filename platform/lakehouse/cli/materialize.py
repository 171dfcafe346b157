"""`lakehouse materialize`: some tables, for one partition or a few days."""

from __future__ import annotations

import sys

import click

from lakehouse.settings.load import load_settings


@click.command()
@click.argument("tables", nargs=-1, required=True)
@click.option("--partition", help="A day (2026-10-07) or an hour (2026-10-07T13); default: newest.")
@click.option("--force", is_flag=True, help="Do the work even where nothing changed.")
@click.option("--artifact", help="Run with this version of what was shipped, and its contracts.")
def materialize(
    tables: tuple[str, ...], partition: str | None, force: bool, artifact: str | None
) -> None:
    """Materialize TABLES: names (silver.orders), layers (silver), domains (crm), or marts."""
    from lakehouse.cli.selection import ensure_exist
    from spark_jobs.contract.reader import load_contracts

    settings = load_settings()
    contracts = load_contracts(settings.contracts)
    ensure_exist(contracts, tables)
    from lakehouse.cli.lake_run import Request, delivered_days, materialize_lake

    if partition is None:
        partition = delivered_days(settings, contracts)[1].isoformat()
    request = Request(partition, partition, tables, force, artifact)
    sys.exit(0 if materialize_lake(settings, contracts, request) else 1)
