"""`lakehouse quarantine`: look at rows that left, run them again, or set them aside for good."""

from __future__ import annotations

import getpass
import json
import sys

import click

from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from spark_jobs import quoting
from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contracts
from spark_jobs.errors import InputError
from spark_jobs.lake.storage import Lake


@click.group()
def quarantine() -> None:
    """Rows that broke a rule: list, show, replay or discard them."""


@quarantine.command("list")
def list_() -> None:
    """Count the quarantined rows of each table, by rule and decision."""
    from rich.table import Table

    from lakehouse.cli.terminal import console, data
    from spark_jobs.batch import quarantine as store
    from spark_jobs.batch import quarantine_queries as queries

    settings = load_settings()
    lake = _lake(settings)
    table = Table("table", "rule", "open", "discarded", title="Quarantined rows")
    for column in table.columns[2:]:
        column.justify = "right"
    for name in store.tables(lake):
        for rule, by in sorted(queries.counts(lake, name).items()):
            table.add_row(data(name), data(rule), str(by["open"]), str(by["discarded"]))
    with console() as out:
        out.print(table if table.row_count else "Nothing is in quarantine.")


@quarantine.command()
@click.argument("table")
@click.option("--partition", help="Only rows of this partition.")
@click.option("--limit", default=20, show_default=True, help="At most so many rows.")
@click.option("--unmasked", is_flag=True, help="Show personal data as it was delivered.")
def show(table: str, partition: str | None, limit: int, unmasked: bool) -> None:
    """Show quarantined rows of TABLE as JSON, one per line, with personal data masked."""
    from lakehouse.governance.masking import Masking
    from spark_jobs.batch import quarantine_queries as queries

    settings = load_settings()
    contracts = load_contracts(settings.contracts)
    masking = Masking.of(_contract(contracts, table), contracts)
    for row in queries.first(_lake(settings), table, partition, limit):
        record = row["record"] if unmasked else masking.record(row["record"])
        shown = {
            "id": row["quarantine_id"],
            "partition": row["partition"],
            "rules": row["rules"],
            "source_file": row["source_file"],
            "decision": row["decision"],
            "record": record,
        }
        click.echo(quoting.plain(json.dumps(shown, ensure_ascii=False)))


@quarantine.command()
@click.argument("table")
@click.option("--partition", help="Only rows of this partition.")
def replay(table: str, partition: str | None) -> None:
    """Run the open rows of TABLE again, through its contract as it is now.

    A replay is a run of the partitions that the rows came with: rows that pass are published and
    leave the quarantine with a decision, the others stay. Doing it again changes nothing.
    """
    from spark_jobs.batch import quarantine_queries as queries

    settings = load_settings()
    contracts = load_contracts(settings.contracts)
    contract = _contract(contracts, table)
    lake = _lake(settings)
    waiting = queries.waiting(lake, table, partition)
    if not waiting.num_rows:
        click.echo(f"{table}: no open rows{f' in {partition}' if partition else ''}.")
        return
    from lakehouse.cli.lake_run import Request, materialize_lake

    partitions = sorted(waiting.column("partition").unique().to_pylist())
    succeeded = True
    for p in partitions if contract.partitioning else [""]:
        request = Request(p, p, (table,), force=True)
        succeeded = materialize_lake(settings, contracts, request) and succeeded
    stay = queries.still_kept(lake, table, waiting.column("quarantine_id"))
    gone = waiting.num_rows - stay
    click.echo(f"{table}: {gone} of {waiting.num_rows} rows replayed, {stay} stay.")
    if gone:
        click.echo("Tables downstream read them with their next run, or now: lakehouse backfill.")
    sys.exit(0 if succeeded else 1)


@quarantine.command()
@click.argument("table")
@click.argument("ids", nargs=-1, required=True)
@click.option("--reason", required=True, help="Why these rows will never be published.")
def discard(table: str, ids: tuple[str, ...], reason: str) -> None:
    """Set rows of TABLE aside for good. They stay in the quarantine, with the decision.

    IDS are ids as `show` prints them, or unambiguous beginnings of them.
    """
    import uuid

    from spark_jobs.batch import quarantine as store
    from spark_jobs.batch import quarantine_queries as queries

    settings = load_settings()
    _contract(load_contracts(settings.contracts), table)
    lake = _lake(settings)
    chosen = queries.by_beginning(lake, table, ids)
    waiting = [r for r in chosen if r["decision"] == queries.OPEN]
    store.decide(
        lake,
        table,
        waiting,
        "discarded",
        reason=reason,
        by=getpass.getuser(),
        run_id=uuid.uuid4().hex,
    )
    click.echo(f"{table}: {len(waiting)} rows discarded.")


def _contract(contracts: dict[str, Contract], table: str) -> Contract:
    if table not in contracts:
        raise InputError(f"there is no table {table}; tables: {', '.join(contracts)}")
    return contracts[table]


def _lake(settings: Settings) -> Lake:
    return Lake(settings.zones, settings.storage)
