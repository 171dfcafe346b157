"""`lakehouse reconcile`: recount the lake from its tables and compare with the ledger."""

from __future__ import annotations

import sys

import click
from rich.table import Table

from lakehouse.cli.terminal import console
from lakehouse.settings import load_settings
from spark_jobs.contract import load_contracts
from spark_jobs.storage import Lake


@click.command()
@click.option("--tables", default="", help="Names, layers or domains, with commas; default: all.")
def reconcile(tables: str) -> None:
    """Recount rows, files, keys and quarantine, and say where the ledger differs."""
    from lakehouse.cli.lake_run import select
    from spark_jobs.engine import Engine
    from spark_jobs.reconcile import reconcile as recount

    settings = load_settings()
    contracts = load_contracts(settings.contracts)
    wanted = [name.strip() for name in tables.split(",") if name.strip()]
    chosen = select(contracts, wanted) if wanted else list(contracts)
    lake = Lake(settings.zones, settings.lake.storage_options)
    with Engine.start(settings.engine.name) as engine:  # type: ignore[arg-type]
        findings = [f for t in chosen for f in recount(engine.spark, contracts[t], lake)]
    with console() as out:
        if not findings:
            out.print(f"{len(chosen)} tables agree with the ledger.")
            return
        shown = Table("table", "what", "partition or file", "expected", "found")
        for f in findings:
            shown.add_row(f.table, f.what, f.partition, str(f.expected), str(f.found))
        out.print(shown)
    sys.exit(1)
