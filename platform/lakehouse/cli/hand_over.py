"""`lakehouse hand-over`: a table on a shared store gets another engine."""

from __future__ import annotations

import click

from lakehouse.settings.load import load_settings
from spark_jobs.errors import InputError


@click.command("hand-over")
@click.argument("tables", nargs=-1, required=True)
@click.option("--to", "engine", type=click.Choice(["sail", "spark"]), required=True)
def hand_over(tables: tuple[str, ...], engine: str) -> None:
    """Let another engine write TABLES from here on. Only when no run of them is left."""
    from lakehouse.cli.selection import ensure_exist, select
    from spark_jobs.contract.reader import load_contracts
    from spark_jobs.lake import delta, making
    from spark_jobs.lake.storage import Lake

    settings = load_settings()
    contracts = load_contracts(settings.contracts)
    ensure_exist(contracts, tables)
    lake = Lake(settings.zones, settings.storage)
    for name in select(contracts, list(tables)):
        table = delta.open_table(lake.table(name), lake.storage)
        if table is None:
            raise InputError(f"{name}: there is no table at {lake.table(name)}")
        making.hand_over(table, engine)
        click.echo(f"{name} is written by {engine} from here on")
