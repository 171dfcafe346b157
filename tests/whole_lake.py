"""All that is in a lake, to be compared with another one that was made of the same files.

Belongs here: reading rows, quarantine, ledger, checks and marts, without what belongs to a run or to a
place. Does not belong here: running a lake, or assertions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import dagster as dg
import duckdb
from deltalake import DeltaTable

from lakehouse.local.instance import open_instance
from lakehouse.marts.recompute import comparable
from lakehouse.settings.model import Settings
from lakehouse.settings.warehouse import RedshiftWarehouse
from lakehouse.warehouse import rows as redshift
from spark_jobs.contract.reader import load_contracts
from spark_jobs.lake import ledger
from spark_jobs.lake.storage import Lake
from tests.conformance.agreement import content

# When, and by which run or batch; which lake; and how the files were cut.
OF_THE_RUN = {"run_id", "batch_id", "started_at", "seconds", "engine", "files", "bytes", "artifact"}
OF_THE_RUN |= {"delta_version", "fingerprint", "inputs", "table_bytes"}
# How an engine cuts files, and what a job costs, are its own.
CHECKS_OF_THE_RUN = {"small_files", "cost_within_budget", "reconciled"}


def everything(settings: Settings) -> dict[str, list[str]]:
    """The rows of every table, quarantine and mart by its name, and `ledger` and `checks`."""
    lake = Lake(settings.zones, settings.storage)
    tables = list(load_contracts(settings.contracts))
    found = {t: rows(lake, lake.table(t)) for t in tables}
    for table in tables:
        uri = lake.quarantine(table)
        if DeltaTable.is_deltatable(uri, lake.storage.delta_options(uri)):
            found[f"quarantine of {table}"] = rows(lake, uri)
    return found | marts(settings) | {"ledger": batches(lake, tables), "checks": checks(settings)}


def rows(lake: Lake, uri: str) -> list[str]:
    table = DeltaTable(uri, storage_options=lake.storage.delta_options(uri))
    return content(table.to_pyarrow_table())


def batches(lake: Lake, tables: Iterable[str]) -> list[str]:
    """The ledger, but for what belongs to a run."""
    history = (asdict(row) for row in ledger.of_tables(lake, list(tables)))
    return sorted(
        repr({name: value for name, value in row.items() if name not in OF_THE_RUN})
        for row in history
    )


def checks(settings: Settings) -> list[str]:
    """What every check of the last runs has found, as Dagster shows it."""
    runs = json.loads((settings.home / "summary.json").read_text())["runs"].values()
    found = []
    with open_instance(settings) as instance:
        for run in runs:
            for entry in instance.all_logs(run, dg.DagsterEventType.ASSET_CHECK_EVALUATION):
                assert entry.dagster_event is not None
                said = entry.dagster_event.asset_check_evaluation_data
                if said.check_name not in CHECKS_OF_THE_RUN:
                    name = f"{said.asset_key.to_user_string()} {said.check_name}"
                    found.append(f"{name} {said.partition} {said.severity.value} {said.passed}")
    return sorted(found)


def marts(settings: Settings) -> dict[str, list[str]]:
    """The rows of every mart, by the names of its columns; the same in whichever warehouse."""
    read: Callable[[str], tuple[list[str], list[Any]]] = (
        _in_redshift(settings.warehouse)
        if isinstance(settings.warehouse, RedshiftWarehouse)
        else _in_duckdb(str(settings.warehouse_path))
    )
    found = {}
    for mart in comparable(settings):
        names, of_it = read(mart)
        found[mart] = sorted(repr(dict(zip(names, map(_plain, r), strict=True))) for r in of_it)
    return found


def _in_duckdb(path: str) -> Callable[[str], tuple[list[str], list[Any]]]:
    def read(mart: str) -> tuple[list[str], list[Any]]:
        with duckdb.connect(path, read_only=True) as connection:
            cursor = connection.execute(f"select * from {mart}")
            return [c[0] for c in cursor.description or ()], cursor.fetchall()

    return read


def _in_redshift(warehouse: RedshiftWarehouse) -> Callable[[str], tuple[list[str], list[Any]]]:
    def read(mart: str) -> tuple[list[str], list[Any]]:
        schema, _, name = mart.partition(".")
        batches = list(redshift.batches(warehouse, (schema, name)))
        return batches[0][0], [row for _, rows in batches for row in rows]

    return read


def _plain(value: Any) -> Any:
    return value.replace(tzinfo=None) if hasattr(value, "tzinfo") else value
