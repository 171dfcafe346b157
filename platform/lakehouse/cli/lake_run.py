"""Materializing ranges of partitions from the command line, through Dagster, in this process.

Belongs here: choosing what runs in which order, and seeing it through. The commands `run`,
`materialize` and `backfill` differ only in what they ask for. Does not belong here: their options.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import dagster as dg
from dagster import DagsterInstance
from rich.console import Console

from lakehouse.automation.follow_ups import Ended, held_back, rest_of
from lakehouse.automation.gaps import horizon
from lakehouse.automation.jobs import LAKE_JOBS, MARTS, run_tags
from lakehouse.cli import summary
from lakehouse.cli.selection import MARTS as MARTS_NAME
from lakehouse.cli.selection import select
from lakehouse.cli.terminal import RunDisplay, console
from lakehouse.definitions import build_definitions
from lakehouse.engines.embedded import EmbeddedRunner
from lakehouse.engines.ledger import LakeLedger
from lakehouse.engines.runner import Runner, build_runners
from lakehouse.engines.shared import engine_kept_running
from lakehouse.keys import (
    ARTIFACT_TAG,
    FORCE_TAG,
    KIND_TAG,
    LANDING,
    LEDGER,
    REST_TAG,
    asset_key,
    name_of,
)
from lakehouse.local.execution import ReportingRunner, RunOutcome, execute
from lakehouse.local.idle import Unchanged, unchanged
from lakehouse.local.instance import open_instance
from lakehouse.partitions import keys, partitions_def
from lakehouse.settings.model import Settings
from lakehouse.sources.landing import snapshot
from spark_jobs.contract.model import Contract, by_dataset
from spark_jobs.errors import InputError
from spark_jobs.report import TableReport
from spark_jobs.window import Scheme, windows


@dataclass(frozen=True)
class Request:
    """Whole days from first to last, or single partitions of one scheme; of some assets or all."""

    first: str
    last: str
    tables: tuple[str, ...] = ()
    force: bool = False
    artifact: str | None = None

    @property
    def tags(self) -> dict[str, str]:
        """What the runs are told."""
        asked_for = {ARTIFACT_TAG: self.artifact, FORCE_TAG: "true" if self.force else None}
        return {tag: value for tag, value in asked_for.items() if value is not None}

    @classmethod
    def days(cls, first: date, last: date) -> Request:
        return cls(first.isoformat(), last.isoformat())

    def only(self, tables: Iterable[str]) -> Request:
        return replace(self, tables=tuple(tables))


def materialize_lake(
    settings: Settings, contracts: Mapping[str, Contract], request: Request
) -> bool:
    """Runs what is asked for, showing progress and a summary. Returns whether all of it went well.

    Raises InputError for tables or partitions that do not exist.
    """
    started_at, clock = datetime.now(UTC), time.monotonic()
    work = list(plan(settings, contracts, request))
    with console() as out:
        outcomes = list(_runs(settings, contracts, work, request.tags, out))
        done = summary.summarize(settings, outcomes, started_at, time.monotonic() - clock)
        summary.write(done, settings.home / "summary.json")
        summary.show(done, settings, out)
    return done.success


@dataclass(frozen=True)
class Work:
    """One run: a job, for a range of partitions (if its assets have any), of some of its tables
    (all if there are none). `rest_of` is the run whose bad partitions stopped these."""

    job: str
    scheme: Scheme | None
    partitions: tuple[str, str] | None
    tables: tuple[str, ...] = ()
    rest_of: str | None = None


def plan(settings: Settings, contracts: Mapping[str, Contract], request: Request) -> Iterator[Work]:
    """The runs that a request takes: hours before days, since marts come with the days, or after
    them where marts are asked for by name."""
    names = [n for n in request.tables if n != MARTS_NAME]
    chosen = tuple(select(contracts, names)) if names else ()
    for scheme, job in sorted(LAKE_JOBS.items(), reverse=True):
        ours = tuple(t for t in chosen if (contracts[t].partitioning or "daily") == scheme)
        if request.tables and not ours:
            continue
        if scheme == "hourly" and not any(c.partitioning == scheme for c in contracts.values()):
            continue
        if ours and not any(contracts[t].partitioning for t in ours):
            yield Work(job, scheme, None, ours)
            continue
        partitions = partitions_of(settings, scheme, request)
        if partitions is not None:
            yield Work(job, scheme, partitions, ours)
    if MARTS_NAME in request.tables:
        yield Work(MARTS, None, partitions_of(settings, "daily", request))


def partitions_of(settings: Settings, scheme: Scheme, request: Request) -> tuple[str, str] | None:
    """The first and the last partition of a scheme; None if the request has none of it. Raises
    InputError if they do not exist."""
    first, last = request.first, request.last
    if "T" in first or "T" in last:
        if scheme == "daily":
            return None
        wanted = (first, last)
    else:
        every = keys(scheme, date.fromisoformat(first), date.fromisoformat(last))
        wanted = (every[0], every[-1])
    definition = partitions_def(scheme, settings.partitions)
    existing = definition.get_partition_keys()
    for key in wanted:
        if key not in existing:
            present = f"{existing[0]} to {existing[-1]}" if existing else "none yet"
            raise InputError(
                f"there is no {scheme} partition {key}: the settings have {present}"
                " (partitions.start and partitions.end)"
            )
    return wanted


def delivered_days(settings: Settings, contracts: Mapping[str, Contract]) -> tuple[date, date]:
    """The days that are due, from the first to the newest; InputError if nothing is there yet."""
    datasets = list(by_dataset(contracts))
    delivered = snapshot(settings.storage, settings.zones["landing"], datasets)
    days = horizon(settings.partitions, delivered, datetime.now(UTC))
    if days is None:
        raise InputError(
            f"{settings.zones['landing']}: nothing has been delivered yet. Deliver files, or the"
            " sample with `lakehouse deliver`."
        )
    return days


@dataclass
class OpenLake:
    """A lake whose jobs can be run in this process, one after another."""

    definitions: dg.Definitions
    instance: DagsterInstance
    display: RunDisplay
    ledger: LakeLedger
    settings: Settings
    runner: Runner | None
    _reports: list[TableReport]

    def run(
        self,
        job: str,
        partitions: tuple[str, str] | None,
        assets: Sequence[dg.AssetKey],
        tags: Mapping[str, str],
    ) -> RunOutcome:
        """Runs a job, or some of its assets; shows its progress."""
        self._reports.clear()
        outcome = execute(
            self.definitions,
            job,
            self.instance,
            partitions=partitions,
            assets=assets or None,
            tags=tags,
            on_event=self.display.on_event,
        )
        outcome.reports = list(self._reports)
        return outcome

    def unchanged(
        self, tables: Collection[str], partitions: tuple[str, str] | None
    ) -> list[Unchanged]:
        """What has nothing to do among tables; shown as done."""
        if not isinstance(self.runner, EmbeddedRunner):
            return []
        keys = windows(*partitions) if partitions else []
        of = (self.runner, self.settings, self.definitions, self.instance)
        found = []
        for one in unchanged(*of, tables, keys):
            self.display.on_report(one.report)
            found.append(one)
        return found


@contextmanager
def open_lake(
    settings: Settings, contracts: Mapping[str, Contract], out: Console, *, marts: bool = True
) -> Iterator[OpenLake]:
    """Its definitions and its run history; engines run on from one job to the next."""
    reports: list[TableReport] = []
    ledger = LakeLedger.of(settings)
    with RunDisplay(out, total=0) as display, engine_kept_running():

        def on_report(report: TableReport) -> None:
            reports.append(report)
            display.on_report(report)

        runners = build_runners(settings, contracts)
        definitions = build_definitions(
            settings,
            contracts=contracts,
            marts=marts,
            **{LEDGER: ledger},
            **{
                name: ReportingRunner(runner, display.on_start, on_report)
                for name, runner in runners.items()
            },
        )
        with open_instance(settings) as instance:
            embedded = runners.get("embedded")
            yield OpenLake(definitions, instance, display, ledger, settings, embedded, reports)


def _runs(
    settings: Settings,
    contracts: Mapping[str, Contract],
    work: Sequence[Work],
    tags: Mapping[str, str],
    out: Console,
) -> Iterator[RunOutcome]:
    marts = any(not w.tables for w in work)
    with open_lake(settings, contracts, out, marts=marts) as lake:
        lake.display.expect(sum(len(_assets(lake.definitions, w)) for w in work))
        due = deque(work)
        while due:
            w = due.popleft()
            outcome = _execute(lake, w, tags)
            outcome.rest_of = w.rest_of
            rest = [] if outcome.interrupted else _rest(lake, contracts, w, outcome)
            yield outcome
            if outcome.interrupted:
                return
            for r in rest:
                lake.display.on_rest(r.partitions, r.tables)
            due.extendleft(reversed(rest))


def _rest(
    lake: OpenLake, contracts: Mapping[str, Contract], work: Work, outcome: RunOutcome
) -> list[Work]:
    """The runs of what bad partitions stopped; notes which partitions have to wait for them."""
    failed = frozenset(name for f in outcome.failures for name in f.assets)
    if not (failed and outcome.skipped and work.partitions and work.scheme):
        return []
    partitions, skipped = tuple(windows(*work.partitions)), tuple(outcome.skipped)
    ended = Ended(outcome.run_id, work.scheme, partitions, failed, skipped)
    graph = lake.definitions.resolve_asset_graph()
    parents = {a: [name_of(k) for k in graph.get(asset_key(a)).parent_keys] for a in skipped}
    rows = [row for table in failed & contracts.keys() for row in lake.ledger.history(table)]
    held = held_back(ended, contracts, parents, rows)
    outcome.held_back = {a: sorted(held[a]) for a in skipped if held[a]}
    return [
        Work(f.job, f.scheme, f.partitions, f.assets, rest_of=outcome.run_id)
        for f in rest_of(ended, held, contracts)
    ]


def _execute(lake: OpenLake, work: Work, tags: Mapping[str, str]) -> RunOutcome:
    assets = [*_extracted(lake.definitions, work.tables), *map(asset_key, work.tables)]
    whole = not work.tables and not tags
    idle = lake.unchanged(_assets(lake.definitions, work), work.partitions) if whole else []
    if idle:
        graph = lake.definitions.resolve_job_def(work.job).asset_layer.asset_graph
        left_out = {asset_key(one.report.table) for one in idle}
        assets = [k for k in graph.executable_asset_keys if k not in left_out]
    if idle and not assets:
        outcome = RunOutcome(work.job, "", success=True, partitions=work.partitions)
    else:
        rest = {REST_TAG: work.rest_of} if work.rest_of else {}
        told = {**run_tags(work.scheme), **tags, **rest}
        outcome = lake.run(work.job, work.partitions, assets, told)
    outcome.reports = [*(one.report for one in idle), *outcome.reports]
    outcome.checks = [*(check for one in idle for check in one.checks), *outcome.checks]
    return outcome


def _extracted(definitions: dg.Definitions, tables: Iterable[str]) -> list[dg.AssetKey]:
    """The datasets that tables read and that are extracted here: they are, if they have not landed."""
    graph = definitions.resolve_asset_graph()
    read = [k for t in tables for k in graph.get(asset_key(t)).parent_keys]
    kinds = {k: graph.get(k).tags.get(KIND_TAG) for k in read if k in graph.executable_asset_keys}
    return [key for key, kind in kinds.items() if kind == LANDING]


def _assets(definitions: dg.Definitions, work: Work) -> list[str]:
    if work.tables:
        return list(work.tables)
    job = definitions.resolve_job_def(work.job)
    graph = job.asset_layer.asset_graph
    return [
        name_of(key)
        for key in graph.executable_asset_keys
        if graph.get(key).tags.get(KIND_TAG) != LANDING
    ]
