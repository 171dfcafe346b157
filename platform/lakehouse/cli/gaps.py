"""`lakehouse gaps`: partitions that should be there and are not."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click

from lakehouse.settings import load_settings

_SHOWN = 200


@click.command()
@click.option("--tables", default="", help="Names, layers or domains, with commas; default: all.")
def gaps(tables: str) -> None:
    """List expected partitions that are missing, failed, not delivered, or blocked by one that is.

    Exit code 1 if there are any.
    """
    from lakehouse.cli.lake_run import select
    from lakehouse.data_plane import EmbeddedDataPlane
    from lakehouse.gaps import find_gaps, horizon
    from lakehouse.landing import snapshot
    from lakehouse.partitions import ranges
    from spark_jobs import quoting
    from spark_jobs.contract import load_contracts

    settings = load_settings()
    contracts = load_contracts(settings.contracts)
    names = [n.strip() for n in tables.split(",") if n.strip()]
    wanted = set(select(contracts, names)) if names else set(contracts)
    datasets = [c.source.dataset for c in contracts.values() if c.source]
    delivered = snapshot(settings.zones["landing"], datasets)
    days = horizon(settings.partitions, delivered, datetime.now(UTC))
    if days is None:
        click.echo("Nothing has been delivered yet, so nothing is due.")
        return
    plane = EmbeddedDataPlane.of(settings)
    found = [
        g for g in find_gaps(contracts, plane.history(None), delivered, days) if g.table in wanted
    ]
    if not found:
        click.echo(f"No gaps from {days[0]} to {days[1]}.")
        return
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for gap in found:
        detail = gap.detail.replace(gap.partition, "…").splitlines()[0] if gap.detail else ""
        grouped.setdefault((gap.table, gap.state, detail), []).append(gap.partition)
    lines = [
        f"{table:<28} {state:<14} {first if first == last else f'{first} to {last}':<32} {detail}"
        for (table, state, detail), partitions in grouped.items()
        for first, last in ranges(partitions)
    ]
    for line in lines[:_SHOWN]:
        click.echo(quoting.plain(line.rstrip()))
    if len(lines) > _SHOWN:
        click.echo(f"… and {len(lines) - _SHOWN} more")
    click.echo(f"{len(found)} gaps from {days[0]} to {days[1]}.")
    sys.exit(1)
