"""`lakehouse reconcile`: compare the lake with its ledger and with what its inputs and code say."""

from __future__ import annotations

import sys

import click

from lakehouse.settings.model import load_settings
from spark_jobs.contract.model import load_contracts
from spark_jobs.lake.storage import Lake


@click.command()
@click.option("--tables", default="", help="Names, layers or domains, with commas; default: all.")
@click.option("--quick", is_flag=True, help="Count only; compute no table again.")
def reconcile(tables: str, quick: bool) -> None:
    """Recount rows, files, keys and quarantine, compute every table again from its inputs, and say
    where the lake differs."""
    from rich.table import Table

    from lakehouse.cli.selection import select
    from lakehouse.cli.terminal import console, data
    from spark_jobs.batch.reconcile import reconcile as recount
    from spark_jobs.engines.session import Engine
    from spark_jobs.recompute import reconciled

    settings = load_settings()
    contracts = load_contracts(settings.contracts)
    wanted = [name.strip() for name in tables.split(",") if name.strip()]
    chosen = select(contracts, wanted) if wanted else list(contracts)
    lake = Lake(settings.zones, settings.lake.storage_options)
    with Engine.start(settings.engine.name) as engine:  # type: ignore[arg-type]
        findings = []
        for table in chosen:
            if quick:
                findings += recount(engine.spark, contracts[table], lake)
            else:
                findings += reconciled(engine, contracts, contracts[table], lake)
    with console() as out:
        if not findings:
            whom = "the ledger" if quick else "the ledger, and with their inputs and code"
            out.print(f"{len(chosen)} tables agree with {whom}.")
            return
        shown = Table("table", "what", "partition or file", "expected", "found")
        for f in findings:
            shown.add_row(*map(data, (f.table, f.what, f.partition, f.expected, f.found)))
        out.print(shown)
    sys.exit(1)
