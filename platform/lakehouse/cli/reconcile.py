"""`lakehouse reconcile`: compare the lake with its ledger and with what its inputs and code say."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click

from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from spark_jobs.contract.model import LAYERS, Contract
from spark_jobs.contract.reader import load_contracts
from spark_jobs.lake.storage import Lake


@click.command()
@click.option(
    "--tables", default="", help="Names, layers, domains or marts, with commas; default: all."
)
@click.option("--quick", is_flag=True, help="Count only; compute no table and no mart again.")
def reconcile(tables: str, quick: bool) -> None:
    """Recount rows, files, keys and quarantine, compute every table and mart again from its inputs,
    and say where the lake differs."""
    from rich.table import Table

    from lakehouse.cli.selection import select
    from lakehouse.cli.terminal import console, data
    from spark_jobs.batch.reconcile import reconcile as recount
    from spark_jobs.engines.session import Engine
    from spark_jobs.recompute import reconciled

    settings = load_settings()
    contracts = load_contracts(settings.contracts)
    wanted = [name.strip() for name in tables.split(",") if name.strip()]
    marts = [] if quick else _marts(settings, contracts, wanted)
    schemas = {*marts, *(mart.partition(".")[0] for mart in marts)}
    known = {name for c in contracts.values() for name in (c.table, c.layer, c.domain)}
    of_tables = [name for name in wanted if name in known or name not in schemas]
    chosen = select(contracts, of_tables) if wanted else list(contracts)
    lake = Lake(settings.zones, settings.storage)
    with Engine.start(settings.engine.name, store=lake.store) as engine:
        findings = []
        for table in chosen:
            if quick:
                findings += recount(engine.spark, contracts[table], lake)
            else:
                findings += reconciled(engine, contracts, contracts[table], lake)
    if marts:
        from lakehouse.marts.recompute import differences

        findings += differences(settings, marts)
    with console() as out:
        if not findings:
            whom = "the ledger" if quick else "the ledger, and with their inputs and code"
            and_marts = f" and {len(marts)} marts" if marts else ""
            out.print(f"{len(chosen)} tables{and_marts} agree with {whom}.")
            return
        shown = Table("table", "what", "partition or file", "expected", "found")
        for f in findings:
            shown.add_row(*map(data, (f.table, f.what, f.partition, f.expected, f.found)))
        out.print(shown)
    sys.exit(1)


def _marts(settings: Settings, contracts: Mapping[str, Contract], wanted: list[str]) -> list[str]:
    """The marts of the selection, by name or schema."""
    if wanted and all(name in contracts or name in LAYERS for name in wanted):
        return []  # told without dbt
    from lakehouse.marts.recompute import comparable

    every = comparable(settings)
    return [m for m in every if not wanted or {m, m.partition(".")[0]} & set(wanted)]
