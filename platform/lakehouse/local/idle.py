"""Tables that a run in this process leaves out, since nothing has changed for them.

Belongs here: telling them before Dagster runs anything. A step and its checks cost as much where there
is nothing to do, and a history of runs tells more without them. Does not belong here: what makes a
partition due (the data plane's plan), or runs that somebody asked for by the names of tables.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import dagster as dg

from lakehouse.assets.checks import evaluation, lookups_evaluation, states
from lakehouse.assets.tables import run_spec
from lakehouse.engines.embedded import EmbeddedRunner
from lakehouse.engines.runner import runner_of
from lakehouse.governance.masking import Masking
from lakehouse.keys import asset_key, landing_key
from lakehouse.local.execution import CheckResult, check_result
from lakehouse.settings.model import Settings
from spark_jobs.contract.model import Contract
from spark_jobs.errors import LakehouseError
from spark_jobs.lake.row import LedgerRow
from spark_jobs.report import TableReport


@dataclass(frozen=True)
class Unchanged:
    """What a step of the table would have said."""

    report: TableReport
    checks: list[CheckResult]


def unchanged(
    runner: EmbeddedRunner,
    settings: Settings,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    tables: Collection[str],
    partitions: Collection[str],
) -> Iterator[Unchanged]:
    """The tables among these that have nothing to do for the partitions, nor what they read; and that
    Dagster knows to be there, which another instance may have made."""
    contracts, busy = runner.contracts, set[str]()
    made_here = definitions.resolve_asset_graph().executable_asset_keys
    for table, contract in contracts.items():  # upstream first
        if table not in tables:
            continue
        found = None
        extracted = contract.source and landing_key(contract.source.dataset) in made_here
        embedded = runner_of(contract, settings) == "embedded"
        if embedded and not extracted and not busy.intersection(contract.upstream):
            spec = run_spec(contract, settings, partitions if contract.partitioning else (), "")
            with suppress(LakehouseError):  # the step says it
                found = runner.unchanged(spec)
        if found is None or not _known(instance, contract, found[0]):
            busy.add(table)
            continue
        yield Unchanged(found[0], list(_checks(contract, contracts, *found)))


def _known(instance: dg.DagsterInstance, contract: Contract, report: TableReport) -> bool:
    key = asset_key(contract.table)
    if contract.partitioning is None:
        return instance.get_latest_materialization_event(key) is not None
    said = instance.get_materialized_partitions(key)
    return all(p.partition in said for p in report.partitions)


def _checks(
    contract: Contract,
    contracts: Mapping[str, Contract],
    report: TableReport,
    history: list[LedgerRow],
) -> Iterator[CheckResult]:
    masking = Masking.of(contract, contracts)
    for state in states(contract, report, history):
        yield check_result(evaluation(contract, state, masking, report))
    if contract.lookups:
        yield check_result(lookups_evaluation(contract, report.stale))
