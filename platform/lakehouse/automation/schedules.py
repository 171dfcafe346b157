"""When jobs run by the clock: the newest partition of each scheme, and gaps.

Belongs here: schedules and what one tick asks for. Does not belong here: reacting to files
(landing_sensor.py). Every cron expression comes from the settings, in UTC.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from lakehouse.assets.checks import lookups_evaluation
from lakehouse.automation.gaps import Gap, find_gaps, horizon
from lakehouse.automation.jobs import LAKE_JOBS, downstream, job_specs, run_tags
from lakehouse.engines.runner import LedgerReader
from lakehouse.keys import GAP_TAG, asset_key, landing_key, range_tags
from lakehouse.partitions import partitions_def
from lakehouse.settings.model import Settings
from lakehouse.sources.landing import snapshot
from lakehouse.sources.registry import drained, extracted
from lakehouse.switches import schedule_status
from spark_jobs.contract.model import Contract, by_dataset
from spark_jobs.contract.versions import transform_version
from spark_jobs.lake.row import LedgerRow
from spark_jobs.window import FORMATS, Scheme, Window, inside, named, ranges

_FINISHED = {
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
}


def run_in_progress(instance: dg.DagsterInstance, jobs: Iterable[str]) -> dg.DagsterRun | None:
    """A run of one of the jobs that is queued or has not finished."""
    for job in jobs:
        filters = dg.RunsFilter(
            job_name=job, statuses=[s for s in dg.DagsterRunStatus if s not in _FINISHED]
        )
        found = instance.get_runs(filters, limit=1)
        if found:
            return found[0]
    return None


def newest_complete(scheme: Scheme, at: datetime) -> str:
    """The partition whose arrival window ended last, seen from `at`."""
    step = timedelta(hours=1) if scheme == "hourly" else timedelta(days=1)
    return (at.astimezone(UTC) - step).strftime(FORMATS[scheme])


def waiting(
    contracts: Mapping[str, Contract],
    partition: str,
    history: Callable[[str], Iterable[LedgerRow]],
) -> dict[str, list[str]]:
    """The tables of a partition's scheme that are made of finer windows of which some are not
    published yet, with those. `history` reads a table's rows of the ledger."""
    out = {}
    for contract in contracts.values():
        driving = contracts[contract.inputs[0].table] if contract.inputs else None
        if driving is None or contract.partitioning != Window.of(partition).scheme:
            continue
        if driving.partitioning in (None, contract.partitioning):
            continue
        rows = history(driving.table)
        published = {row.partition for row in rows if not row.failed}
        missing = [w for w in inside(partition, driving.partitioning) if w not in published]
        if missing:
            out[contract.table] = missing
    return out


def build_schedules(
    settings: Settings,
    contracts: Mapping[str, Contract],
    jobs: Mapping[str, dg.UnresolvedAssetJobDefinition],
    marts: Iterable[dg.AssetKey] = (),
) -> list[dg.ScheduleDefinition]:
    """A schedule for the newest partition of each scheme that has tables, and the gap filler."""
    schemes: list[Scheme] = [s for s in LAKE_JOBS if LAKE_JOBS[s] in jobs]
    landing = [*extracted(settings, contracts), *drained(settings, contracts)]
    specs = {spec.name: spec for spec in job_specs(contracts, marts, landing)}
    newest = [
        _newest_partition(settings, contracts, s, jobs[LAKE_JOBS[s]], specs[LAKE_JOBS[s]].keys)
        for s in schemes
    ]
    return [*newest, *(_gap_filler(settings, contracts, s, jobs[LAKE_JOBS[s]]) for s in schemes)]


def _newest_partition(
    settings: Settings,
    contracts: Mapping[str, Contract],
    scheme: Scheme,
    job: dg.UnresolvedAssetJobDefinition,
    keys: Sequence[dg.AssetKey],
) -> dg.ScheduleDefinition:
    name = LAKE_JOBS[scheme]
    definition = partitions_def(scheme, settings.partitions)

    @dg.schedule(
        name=f"{name}_schedule",
        job=job,
        cron_schedule=getattr(settings.schedules, scheme),
        execution_timezone="UTC",
        default_status=schedule_status(settings),
        description=f"The newest complete {scheme} partition of every table; a tick is skipped"
        f" while a run of {name} is in progress. Tables that are made of finer windows wait until all"
        " of those are published",
    )
    def newest(
        context: dg.ScheduleEvaluationContext, lake_ledger: dg.ResourceParam[LedgerReader]
    ) -> dg.RunRequest | dg.SkipReason:
        running = run_in_progress(context.instance, [name])
        if running is not None:
            return dg.SkipReason(
                f"{name} run {running.run_id} is {running.status.value.lower()}; its partition is"
                " left to the gap filler"
            )
        partition = newest_complete(scheme, context.scheduled_execution_time)
        if not definition.has_partition_key(partition):
            return dg.SkipReason(
                f"there is no partition {partition}: see partitions in the settings"
            )
        incomplete = waiting(contracts, partition, lake_ledger.history)
        if not incomplete:
            return dg.RunRequest(run_key=partition, partition_key=partition)
        for table, windows in incomplete.items():
            context.log.info(f"{table} {partition} waits for {named(windows)}")
        held = set(downstream(contracts, incomplete, {}))
        return dg.RunRequest(
            run_key=partition,
            partition_key=partition,
            asset_selection=[key for key in keys if key not in held],
        )

    return newest


def _gap_filler(
    settings: Settings,
    contracts: Mapping[str, Contract],
    scheme: Scheme,
    job: dg.UnresolvedAssetJobDefinition,
) -> dg.ScheduleDefinition:
    name = LAKE_JOBS[scheme]
    ours = {t: c for t, c in contracts.items() if c.partitioning == scheme}
    # A daily table may be made of hours: their gaps are looked for too, and left to their own job.
    datasets, landing = list(by_dataset(contracts)), extracted(settings, contracts)

    @dg.schedule(
        name=f"{name}_gap_fill",
        job=job,
        cron_schedule=settings.schedules.gap_fill,
        execution_timezone="UTC",
        default_status=schedule_status(settings),
        description=f"Runs {scheme} partitions that were delivered and never ran, failed ones whose"
        " contract or transform has changed since, and those that looked up rows which have or lack"
        " records that came back",
    )
    def fill(
        context: dg.ScheduleEvaluationContext, lake_ledger: dg.ResourceParam[LedgerReader]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        running = run_in_progress(context.instance, [name])
        if running is not None:
            return dg.SkipReason(f"{name} run {running.run_id} is {running.status.value.lower()}")
        at = context.scheduled_execution_time
        delivered = snapshot(settings.storage, settings.zones["landing"], datasets)
        days = horizon(settings.partitions, delivered, at)
        if days is None:
            return dg.SkipReason("nothing has been delivered yet")
        first = max(days[0], days[1] - timedelta(days=settings.schedules.gap_fill_days - 1))
        ledger = lake_ledger.newest()
        stale = lake_ledger.stale(contracts, ledger, list(ours), settings.engine.name)
        for table, partitions in stale.items():  # the run that makes it current says so itself
            if contracts[table].lookups:
                context.instance.report_runless_asset_event(
                    lookups_evaluation(contracts[table], partitions)
                )
        every = find_gaps(contracts, ledger, delivered, (first, days[1]), stale, landing)
        gaps = [g for g in every if g.table in ours]
        versions = {t: transform_version(c) for t, c in ours.items()}
        read = {t: c.source.dataset for t, c in ours.items()
                if c.source and c.source.dataset in landing}  # fmt: skip
        found = list(gap_requests(gaps, versions, list(ours), at, scheme, read))
        return found or dg.SkipReason(f"no gap to fill from {first} to {days[1]}")

    return fill


def gap_requests(
    gaps: Iterable[Gap],
    versions: Mapping[str, str],
    order: Sequence[str],
    at: datetime,
    scheme: Scheme,
    landing: Mapping[str, str] | None = None,
) -> Iterator[dg.RunRequest]:
    """One request per range of partitions in which the same tables have a gap that a run can fill.
    `at` makes a new attempt possible at each tick. `landing` has the dataset of each table that reads
    one which is extracted here: it is, if it has not landed."""
    for tables, first, last in gap_ranges(gaps, versions, order):
        digest = hashlib.sha256("|".join(tables).encode()).hexdigest()[:8]
        yield dg.RunRequest(
            run_key=f"gap:{first}:{last}:{digest}:{at:%Y-%m-%dT%H}",
            asset_selection=[
                *dict.fromkeys(landing_key(landing[t]) for t in tables if landing and t in landing),
                *(asset_key(t) for t in tables),
            ],
            tags={**run_tags(scheme), **range_tags(first, last), GAP_TAG: "true"},
        )


def gap_ranges(
    gaps: Iterable[Gap], versions: Mapping[str, str], order: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Tables and the first and last partition of each range in which they have a gap that a run can
    fill.

    A failed partition fails again on the same input, lookups and code, so it waits until one has
    changed; changed input is the landing sensor's.
    """
    fillable = {
        (g.table, g.partition)
        for g in gaps
        if g.state in ("missing", "stale")
        or (g.state == "failed" and (g.again or g.transform_version != versions[g.table]))
    }
    # What is blocked runs along with what blocks it.
    for gap in gaps:
        if gap.state == "blocked" and (gap.detail.partition(" ")[0], gap.partition) in fillable:
            fillable.add((gap.table, gap.partition))
    by_partition: dict[str, tuple[str, ...]] = {}
    for table in order:
        for t, partition in fillable:
            if t == table:
                by_partition[partition] = (*by_partition.get(partition, ()), table)
    for tables in sorted(set(by_partition.values())):
        for first, last in ranges([p for p, t in by_partition.items() if t == tables]):
            yield tables, first, last
