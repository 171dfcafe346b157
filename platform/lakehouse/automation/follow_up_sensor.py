"""The sensor on finished runs: it starts the rest that a bad partition stopped, and the days that
hours complete or change.

Belongs here: reading finished runs from Dagster's event log, and asking for runs. Does not belong
here: what to ask for (follow_ups.py).

Runs of the command line are left alone: it starts the rest itself, and a person who asks for some
tables gets those. The cursor is stored after the requests, so a crash between the two asks again
with the same run keys, and Dagster launches no run twice for one key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import dagster as dg

from lakehouse.automation.follow_ups import (
    Ended,
    FollowUp,
    coarser,
    due_windows,
    held_back,
    rest_of,
    windows_of,
)
from lakehouse.automation.jobs import LAKE_JOBS, downstream, run_tags
from lakehouse.engines.runner import LedgerReader
from lakehouse.keys import PROCESS_TAG, asset_key, name_of, range_tags, run_range
from lakehouse.settings.model import Settings
from lakehouse.switches import sensor_status
from spark_jobs.contract.model import Contract
from spark_jobs.lake.row import LedgerRow
from spark_jobs.window import Window, windows

if TYPE_CHECKING:
    from lakehouse.keys import FinishedRunEvent

NAME = "follow_up_sensor"
_RUNS_PER_LOOK = 25
_FINISHED: tuple[FinishedRunEvent, ...] = (
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_SUCCESS,
)
_STEPS = {
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    dg.DagsterEventType.STEP_START,
    dg.DagsterEventType.STEP_FAILURE,
}


def ended(instance: dg.DagsterInstance, run: dg.DagsterRun, ours: frozenset[str]) -> Ended | None:
    """What became of the steps of a run of partitions of `ours`; None if it had none."""
    span = run_range(run.tags)
    if span is None:
        return None
    planned: dict[str, list[str]] = {}
    started: set[str] = set()
    failed: set[str] = set()
    for entry in instance.all_logs(run.run_id, of_type=_STEPS):
        event = entry.get_dagster_event()
        if event.event_type == dg.DagsterEventType.STEP_START:
            started.add(event.step_key or "")
        elif event.event_type == dg.DagsterEventType.STEP_FAILURE:
            failed.add(event.step_key or "")
        elif event.asset_key is not None and name_of(event.asset_key) in ours:
            planned.setdefault(event.step_key or "", []).append(name_of(event.asset_key))
    if not planned:
        return None
    names = {step: tuple(dict.fromkeys(assets)) for step, assets in planned.items()}
    return Ended(
        run.run_id,
        Window.of(span[0]).scheme,
        tuple(windows(*span)),
        frozenset(a for step in failed for a in names.get(step, ())),
        tuple(a for step, assets in names.items() if step not in started for a in assets),
    )


def follow_ups(
    run: Ended,
    contracts: Mapping[str, Contract],
    mart_deps: Mapping[dg.AssetKey, Iterable[dg.AssetKey]],
    history: Callable[[str], list[LedgerRow]],
) -> Iterator[FollowUp]:
    """Everything that a run leaves to do. `history` reads a table's rows of the ledger."""
    if run.failed and run.skipped:
        parents = {t: list(c.upstream) for t, c in contracts.items()}
        parents |= {name_of(m): [name_of(d) for d in deps] for m, deps in mart_deps.items()}
        rows = [row for table in run.failed & contracts.keys() for row in history(table)]
        yield from rest_of(run, held_back(run, contracts, parents, rows), contracts)
    for table, driving in coarser(contracts, run.scheme).items():
        rows = [*history(table), *history(driving)]
        due = due_windows(run, contracts[table], driving, rows)
        assets = tuple(name_of(k) for k in downstream(contracts, [table], mart_deps))
        yield from windows_of(run, contracts[table], due, assets)


def build_follow_up_sensor(
    settings: Settings,
    contracts: Mapping[str, Contract],
    jobs: Mapping[str, dg.UnresolvedAssetJobDefinition],
    mart_deps: Mapping[dg.AssetKey, Iterable[dg.AssetKey]],
) -> dg.SensorDefinition:
    """The sensor over all runs of tables and marts."""
    ours = frozenset([*contracts, *map(name_of, mart_deps)])

    @dg.sensor(
        name=NAME,
        jobs=[jobs[name] for name in LAKE_JOBS.values() if name in jobs],
        minimum_interval_seconds=30,
        default_status=sensor_status(settings),
        description="Runs what a bad partition stopped for the others of its run, and days whose"
        " hours a run completed or changed",
    )
    def follow_up(
        context: dg.SensorEvaluationContext, lake_ledger: dg.ResourceParam[LedgerReader]
    ) -> dg.SensorResult:
        known: dict[str, int] = json.loads(context.cursor) if context.cursor else {}
        requests: dict[str, dg.RunRequest] = {}
        for kind in _FINISHED:
            if kind.value not in known:  # switched on for the first time: what ended is past
                newest = context.instance.fetch_run_status_changes(kind, limit=1).records
                known[kind.value] = newest[0].storage_id if newest else -1
                continue
            for change in _changes(context.instance, kind, known[kind.value]):
                known[kind.value] = change.storage_id
                run = context.instance.get_run_by_id(change.event_log_entry.run_id)
                if run is None or PROCESS_TAG in run.tags:
                    continue
                found = ended(context.instance, run, ours)
                for f in (
                    follow_ups(found, contracts, mart_deps, lake_ledger.history) if found else ()
                ):
                    requests[f.run_key] = _request(f)
        skip = None if requests else "no run left anything to do"
        return dg.SensorResult(
            run_requests=list(requests.values()), skip_reason=skip, cursor=json.dumps(known)
        )

    return follow_up


def _changes(
    instance: dg.DagsterInstance, kind: FinishedRunEvent, after: int
) -> Iterable[dg.EventLogRecord]:
    filters = dg.RunStatusChangeRecordsFilter(kind, after_storage_id=after)
    return instance.fetch_run_status_changes(filters, ascending=True, limit=_RUNS_PER_LOOK).records


def _request(follow_up: FollowUp) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=follow_up.run_key,
        job_name=follow_up.job,
        asset_selection=[asset_key(name) for name in follow_up.assets],
        tags={
            **run_tags(follow_up.scheme),
            **range_tags(*follow_up.partitions),
            follow_up.why[0]: follow_up.why[1],
        },
    )
