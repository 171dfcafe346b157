"""`lakehouse load`: lake tables into Redshift, for whoever runs the lake without Dagster."""

from __future__ import annotations

import sys
from uuid import uuid4

import click

from lakehouse.settings.load import load_settings
from lakehouse.settings.warehouse import RedshiftWarehouse
from spark_jobs.errors import InputError, LakehouseError


@click.command()
@click.argument("tables", nargs=-1)
@click.option(
    "--whole", is_flag=True, help="Replace tables as a whole, whatever was loaded before."
)
def load(tables: tuple[str, ...], whole: bool) -> None:
    """Bring TABLES in Redshift to what the lake has, by default all that marts select from. Exit code
    1 if one could not be loaded: it is as it was before, and the others are loaded."""
    from lakehouse.cli.selection import select
    from lakehouse.marts.sources import STAGED
    from lakehouse.warehouse.load import Loader
    from spark_jobs.contract.reader import load_contracts
    from spark_jobs.lake.storage import Lake

    settings = load_settings()
    warehouse = settings.warehouse
    if not isinstance(warehouse, RedshiftWarehouse) or warehouse.lake != "copy":
        raise InputError(
            f"the {settings.environment} warehouse reads the lake where it is: there is nothing to load"
        )
    contracts = load_contracts(settings.contracts)
    loader, failed = Loader(warehouse, Lake(settings.zones, settings.storage)), False
    for table in select(contracts, tables or STAGED):
        try:
            done = loader.load(contracts[table], str(uuid4()), whole=whole)
        except LakehouseError as error:
            failed = True
            click.echo(f"{table}: {error}", err=True)
            continue
        record = done.record
        said = "unchanged" if done.unchanged else f"{record.came} rows in, {record.gone} out"
        click.echo(f"{table}: version {record.version}, {record.row_count} rows, {said}")
    sys.exit(1 if failed else 0)
