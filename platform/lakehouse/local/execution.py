"""Runs of the lake in this process, through Dagster: one run per partition scheme.

Belongs here: executing a selection of assets for a range of partitions on the instance, and what
came out of it as values. Does not belong here: printing it (cli), or choosing the range.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

import dagster as dg

from lakehouse.dagster_private import InMemoryJob, core_execute_in_process
from lakehouse.engines.executor import side_by_side
from lakehouse.engines.runner import Runner
from lakehouse.keys import KIND_TAG, LOAD, MART, PROCESS_TAG, name_of, range_tags
from spark_jobs.report import RunSpec, TableReport

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class CheckResult:
    asset: str
    name: str
    passed: bool
    severity: str
    description: str = ""


@dataclass(frozen=True)
class StepFailure:
    """A step that failed; `assets` are those that it would have made."""

    step: str
    assets: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class MartResult:
    """A materialization of a mart."""

    asset: str
    rows: int | None
    seconds: float | None
    unchanged: bool


@dataclass
class RunOutcome:
    """What one run did, by the names of its assets (`layer.table`)."""

    job: str
    run_id: str
    success: bool = False
    interrupted: bool = False
    reports: list[TableReport] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)
    failures: list[StepFailure] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    # Of what was skipped, the partitions that no later run takes up.
    held_back: dict[str, list[str]] = field(default_factory=dict)
    rest_of: str | None = None
    partitions: tuple[str, str] | None = None
    marts: list[MartResult] = field(default_factory=list)


class ReportingRunner:
    """Another runner, whose reports are also handed to `on_report`."""

    def __init__(
        self,
        inner: Runner,
        on_start: Callable[[RunSpec], None],
        on_report: Callable[[TableReport], None],
    ) -> None:
        self._inner, self._on_start, self._on_report = inner, on_start, on_report

    def run(self, context: dg.AssetExecutionContext, spec: RunSpec) -> TableReport:
        self._on_start(spec)
        report = self._inner.run(context, spec)
        self._on_report(report)
        return report


def execute(
    definitions: dg.Definitions,
    job: str,
    instance: dg.DagsterInstance,
    *,
    partitions: tuple[str, str] | None = None,
    assets: Sequence[dg.AssetKey] | None = None,
    tags: Mapping[str, str] | None = None,
    on_event: Callable[[dg.EventLogEntry], None] | None = None,
) -> RunOutcome:
    """Runs a job, or some of its assets, for the partitions from first to last.

    A failed step does not raise: it is in the outcome. `reports` is left to the caller's
    ReportingRunner.
    """
    outcome = RunOutcome(job, str(uuid4()), partitions=partitions)
    if on_event is not None:
        instance.add_event_listener(outcome.run_id, on_event)
    selected = list(assets or [])
    chosen = definitions.resolve_job_def(job).as_ephemeral_job({}, {}, asset_selection=selected)
    result = core_execute_in_process(
        job=InMemoryJob(chosen.with_executor_def(side_by_side)),
        run_config=QUIET,
        instance=instance,
        output_capturing_enabled=False,
        raise_on_error=False,
        run_tags={
            **(tags or {}),
            **(range_tags(*partitions) if partitions else {}),
            PROCESS_TAG: str(os.getpid()),
        },
        run_id=outcome.run_id,
        asset_selection=frozenset(selected),
    )
    outcome.success = result.success
    made: dict[str, tuple[str, ...]] = {}
    graph = definitions.resolve_job_def(job).asset_layer.asset_graph
    marts = {
        k for k in graph.executable_asset_keys if graph.get(k).tags.get(KIND_TAG) in (LOAD, MART)
    }
    for key, step in _steps(definitions, job).items():
        made[step] = (*made.get(step, ()), key)
    for event in result.all_events:
        _note(outcome, event, made, marts)
    outcome.skipped = _not_started(made, assets, result.all_events)
    return outcome


def _not_started(
    made: Mapping[str, tuple[str, ...]],
    selected: Sequence[dg.AssetKey] | None,
    events: Sequence[dg.DagsterEvent],
) -> list[str]:
    """The assets whose step never began, because one before it failed."""
    started = {e.step_key for e in events if e.event_type == dg.DagsterEventType.STEP_START}
    wanted = None if selected is None else {name_of(key) for key in selected}
    return [
        name
        for step, names in made.items()
        if step not in started
        for name in names
        if wanted is None or name in wanted
    ]


def _steps(definitions: dg.Definitions, job: str) -> dict[str, str]:
    """The step that makes each asset."""
    layer = definitions.resolve_job_def(job).asset_layer
    return {
        name_of(key): layer.get(key).assets_def.node_def.name
        for key in layer.asset_graph.executable_asset_keys
    }


def _note(
    outcome: RunOutcome,
    event: dg.DagsterEvent,
    made: Mapping[str, tuple[str, ...]],
    marts: Collection[dg.AssetKey],
) -> None:
    kind = event.event_type
    if kind == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        outcome.checks.append(check_result(event.asset_check_evaluation_data))
    elif kind == dg.DagsterEventType.STEP_FAILURE:
        step = event.step_key or ""
        outcome.interrupted = outcome.interrupted or _interrupted(event)
        outcome.failures.append(StepFailure(step, made.get(step, ()), reason_of(event)))
    elif kind == dg.DagsterEventType.RUN_FAILURE and not outcome.failures:
        error = event.job_failure_data.error
        reason = error.message.strip() if error is not None else event.message or "unknown"
        outcome.failures.append(StepFailure(outcome.job, (), reason))
    elif kind == dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key in marts:
        mart = _mart(event)
        if mart not in outcome.marts:  # one of several partitions has an event for each
            outcome.marts.append(mart)


def check_result(check: dg.AssetCheckEvaluation) -> CheckResult:
    return CheckResult(
        name_of(check.asset_key),
        check.check_name,
        check.passed,
        check.severity.value,
        check.description or "",
    )


def _mart(event: dg.DagsterEvent) -> MartResult:
    metadata = {k: getattr(v, "value", None) for k, v in event.materialization.metadata.items()}
    return MartResult(
        name_of(event.materialization.asset_key),
        metadata.get("dagster/row_count"),
        metadata.get("Execution Duration"),
        metadata.get("status") == "unchanged",
    )


def _interrupted(event: dg.DagsterEvent) -> bool:
    error = event.step_failure_data.error
    return error is not None and error.cls_name == dg.DagsterExecutionInterruptedError.__name__


def reason_of(event: dg.DagsterEvent) -> str:
    """Why a step failed, for people: the failure's own description, or else the error."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    if _interrupted(event):
        return "interrupted; the run can simply be repeated"
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else "unknown"
