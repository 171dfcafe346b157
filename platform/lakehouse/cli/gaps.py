"""`lakehouse gaps`: partitions that should be there and are not, or are stale."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import click

from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings

if TYPE_CHECKING:
    from lakehouse.automation.gaps import Gap
    from spark_jobs.contract.model import Contract

_SHOWN = 200


@click.command()
@click.option("--tables", default="", help="Names, layers or domains, with commas; default: all.")
@click.option("--fill", is_flag=True, help="Run what a run can mend, until nothing is left.")
def gaps(tables: str, fill: bool) -> None:
    """List expected partitions that are missing, failed, not delivered, blocked by one that is, or
    stale: rows that they looked up have changed, or records came back into their window.

    Exit code 1 if there are any.
    """
    from lakehouse.cli.selection import select
    from lakehouse.engines.shared import engine_kept_running
    from spark_jobs.contract.reader import load_contracts

    settings = load_settings()
    contracts = load_contracts(settings.contracts)
    names = [n.strip() for n in tables.split(",") if n.strip()]
    wanted = select(contracts, names) if names else list(contracts)
    with engine_kept_running():
        days, found = _find(settings, contracts, wanted)
        if days is None:
            click.echo("Nothing has been delivered yet, so nothing is due.")
            return
        if fill:
            found = _filled(settings, contracts, wanted, found)
    if not found:
        click.echo(f"No gaps from {days[0]} to {days[1]}.")
        return
    _show(found)
    click.echo(f"{len(found)} gaps from {days[0]} to {days[1]}.")
    sys.exit(1)


def _find(
    settings: Settings, contracts: Mapping[str, Contract], wanted: list[str]
) -> tuple[tuple[date, date] | None, list[Gap]]:
    from lakehouse.automation.gaps import find_gaps, horizon
    from lakehouse.engines.ledger import LakeLedger
    from lakehouse.sources.landing import snapshot
    from lakehouse.sources.registry import extracted
    from spark_jobs.contract.model import by_dataset

    datasets = list(by_dataset(contracts))
    delivered = snapshot(settings.storage, settings.zones["landing"], datasets)
    days = horizon(settings.partitions, delivered, datetime.now(UTC))
    if days is None:
        return None, []
    ledger = LakeLedger.of(settings)
    newest = ledger.newest()
    stale = ledger.stale(contracts, newest, list(contracts), settings.engine.name)
    every = find_gaps(contracts, newest, delivered, days, stale, extracted(settings, contracts))
    return days, [g for g in every if g.table in wanted]


def _filled(
    settings: Settings, contracts: Mapping[str, Contract], wanted: list[str], found: list[Gap]
) -> list[Gap]:
    """Runs what can be run, and what that makes stale in turn: a chain of lookups takes a pass per
    link. Returns the gaps that stay."""
    from lakehouse.automation.schedules import gap_ranges
    from lakehouse.cli.lake_run import Request, materialize_lake
    from spark_jobs.contract.versions import transform_version

    versions = {t: transform_version(c) for t, c in contracts.items()}
    for _ in contracts:  # no chain is longer than there are tables
        work = list(gap_ranges(found, versions, wanted))
        if not work:
            return found
        for tables, first, last in work:
            materialize_lake(settings, contracts, Request(first, last, tables))
        found = _find(settings, contracts, wanted)[1]
    click.echo(f"After {len(contracts)} passes partitions are still stale: look at what they read.")
    return found


def _show(found: list[Gap]) -> None:
    from spark_jobs import quoting
    from spark_jobs.window import ranges

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
