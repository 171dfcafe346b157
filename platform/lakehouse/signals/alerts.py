"""Alerts: what a finished run tells people, and the sensor that tells it.

Belongs here: reading a finished run from Dagster's event log, and deciding what is worth an alert
and how it reads. Does not belong here: where alerts go (topics.py).

Why not Dagster's `run_status_sensor`: when its function raises, Dagster notes the error, moves the
cursor on, and never comes back to the run. Here a tick that cannot send fails, and the next one
begins where it began; a tag on the run keeps it from being announced twice.

Why not all of a failure's text: messages of engines and databases quote values of rows. What may
leave the platform is said where a failure is raised (failures.py); check results are masked already.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dagster as dg

from lakehouse.keys import (
    ALERTED_TAG,
    ANNOUNCED,
    BEFORE,
    FOUND,
    UNEVALUATED,
    name_of,
    run_range,
)
from lakehouse.settings.model import Settings
from lakehouse.signals.topics import Alert, Severity, send
from lakehouse.switches import sensor_status
from spark_jobs import quoting
from spark_jobs.contract.model import LAYERS

if TYPE_CHECKING:
    from lakehouse.keys import FinishedRunEvent

NAME = "alert_sensor"

_SHOWN = 20
_RUNS_PER_LOOK = 25
_FINISHED: tuple[FinishedRunEvent, ...] = (
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_SUCCESS,
)


@dataclass(frozen=True)
class FailedCheck:
    """A check that this run found failing; `reason` is masked. Not `evaluated` if it only counts as
    failed because its partitions failed before it was made."""

    asset: str
    name: str
    severity: Severity
    reason: str
    evaluated: bool = True


@dataclass(frozen=True)
class FailedStep:
    """A step that failed, the assets that it would have made, a reason without any value, and how often
    it was tried."""

    step: str
    assets: tuple[str, ...]
    reason: str
    attempts: int = 1

    @property
    def said(self) -> str:
        tried = f", tried {self.attempts} times" if self.attempts > 1 else ""
        return f"{self.step}{tried}: {self.reason}"


@dataclass(frozen=True)
class FinishedRun:
    """What a run left in the event log, as far as alerts need it. `message` is what Dagster says
    of its end; `partitions` are the first and the last, none for a run without."""

    run_id: str
    job: str
    success: bool
    message: str = ""
    partitions: tuple[str, str] | None = None
    steps: tuple[FailedStep, ...] = ()
    checks: tuple[FailedCheck, ...] = ()
    planned: frozenset[dg.AssetKey] = field(default_factory=frozenset)

    @property
    def span(self) -> str:
        if self.partitions is None:
            return ""
        first, last = self.partitions
        return first if first == last else f"{first} to {last}"


# -- what is worth an alert, and what it says ------------------------------------------------------


def alerts_of(run: FinishedRun, environment: str) -> list[Alert]:
    """At most one alert of each severity: `critical` for a run that failed or an ERROR check that
    did, `warning` for WARN checks."""
    errors = [c for c in run.checks if c.severity == "critical"]
    warnings = [c for c in run.checks if c.severity == "warning" and c.evaluated]
    found = []
    if errors or not run.success:
        found.append(_critical(run, errors, environment))
    if warnings:
        found.append(_warning(run, warnings, environment))
    return found


def _critical(run: FinishedRun, errors: list[FailedCheck], environment: str) -> Alert:
    failed = _unique([*(a for s in run.steps for a in s.assets), *(c.asset for c in errors)])
    reasons = [step.said for step in run.steps]
    if not run.success and not reasons:
        reasons = [run.message or "the run ended without a reason"]
    what = "succeeded, but checks failed" if run.success else "failed"
    why = ["", *_shown(reasons)] if reasons else []
    body = [*why, *_checks("Failed checks that close the gate:", errors), *_mend(run, errors)]
    return _alert("critical", run, environment, what, failed, body)


def _warning(run: FinishedRun, warnings: list[FailedCheck], environment: str) -> Alert:
    assets = _unique(c.asset for c in warnings)
    count = "1 warning" if len(warnings) == 1 else f"{len(warnings)} warnings"
    body = _checks("Checks that found something, and stop nothing:", warnings)
    tables = [a for a in assets if _is_table(a)]
    look = [f"  lakehouse quarantine show {t}{_partition(run)}" for t in tables]
    return _alert("warning", run, environment, count, assets, [*body, *_next(look)])


def _alert(
    severity: Severity,
    run: FinishedRun,
    environment: str,
    what: str,
    assets: list[str],
    body: list[str],
) -> Alert:
    names = list(map(quoting.plain, assets))
    words = [f"[{environment}] {severity}: {run.job}", run.span, what]
    subject = quoting.plain(" ".join(filter(None, words)))
    head = [f"run         {run.run_id}", f"job         {run.job}"]
    head += [f"partitions  {run.span}"] if run.span else []
    head += [f"assets      {', '.join(_shown(names))}"] if names else []
    text = quoting.plain("\n".join([subject, "", *head, *body]), lines=True)
    return Alert(severity, environment, run.job, run.run_id, tuple(names), subject, text)


def _checks(title: str, checks: list[FailedCheck]) -> Iterator[str]:
    made = [f"- {c.asset} {c.name}: {c.reason}" for c in checks if c.evaluated]
    if made:
        yield from ["", title, *_shown(made)]
    if len(made) < len(checks):
        yield f"- {len(checks) - len(made)} more could not be evaluated"


def _mend(run: FinishedRun, errors: list[FailedCheck]) -> list[str]:
    """What the runbook begins with for a failed run."""
    left = _unique(c.asset for c in errors if c.name == "quarantine_rate")
    commands = ["  lakehouse gaps"]
    commands += [f"  lakehouse quarantine show {table}{_partition(run)}" for table in left]
    if run.partitions is not None:
        first, last = (p[:10] for p in run.partitions)  # a backfill goes by days
        again = f"lakehouse backfill --from {first} --to {last}"
    else:
        again = "lakehouse materialize marts"
    return _next([*commands, f"  {again}   (when the cause is mended)"])


def _next(commands: list[str]) -> list[str]:
    return ["", "Next:", *commands[:_SHOWN], "  docs/runbook.md"]


def _partition(run: FinishedRun) -> str:
    one = run.partitions is not None and run.partitions[0] == run.partitions[1]
    return f" --partition {run.span}" if one else ""


def _is_table(asset: str) -> bool:
    return asset.partition(".")[0] in LAYERS


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _shown(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], f"… and {more} more"] if more > 0 else lines


# -- what a run left in the event log --------------------------------------------------------------


def finished_run(
    instance: dg.DagsterInstance, run: dg.DagsterRun, success: bool, message: str
) -> FinishedRun:
    """Reads the events of a run that has ended."""
    planned: dict[str, list[dg.AssetKey]] = {}
    steps: list[dg.DagsterEvent] = []
    again: Counter[str] = Counter()
    checks: dict[tuple[str, str], FailedCheck | None] = {}
    wanted = {
        dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
        dg.DagsterEventType.ASSET_CHECK_EVALUATION,
        dg.DagsterEventType.STEP_FAILURE,
        dg.DagsterEventType.STEP_RESTARTED,
    }
    for entry in instance.all_logs(run.run_id, of_type=wanted):
        event = entry.get_dagster_event()
        if event.event_type == dg.DagsterEventType.STEP_FAILURE:
            steps.append(event)
        elif event.event_type == dg.DagsterEventType.STEP_RESTARTED:
            again[event.step_key or ""] += 1
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            made = event.asset_check_evaluation_data
            checks[name_of(made.asset_key), made.check_name] = _failed(made)  # the last attempt's
        elif event.asset_key is not None:
            planned.setdefault(event.step_key or "", []).append(event.asset_key)
    return FinishedRun(
        run_id=run.run_id,
        job=run.job_name,
        success=success,
        message=message,
        partitions=run_range(run.tags),
        steps=tuple(
            FailedStep(
                e.step_key or "",
                tuple(_unique(map(name_of, planned.get(e.step_key or "", ())))),
                announced_reason(e),
                1 + again[e.step_key or ""],
            )
            for e in steps
        ),
        checks=tuple(c for c in checks.values() if c is not None),
        planned=frozenset(key for keys in planned.values() for key in keys),
    )


def _failed(made: dg.AssetCheckEvaluation) -> FailedCheck | None:
    """The check, if it failed and this run is what found it: a bad day keeps its check failed
    until it is mended, and was announced when it came."""
    description = made.description or ""
    found = made.metadata.get(FOUND)
    if made.passed or found == dg.TextMetadataValue(BEFORE):
        return None
    severity: Severity = "critical" if made.severity == dg.AssetCheckSeverity.ERROR else "warning"
    rows = made.metadata.get("dagster_dbt/failed_row_count")
    reason = description or (f"{rows.value} rows fail it" if rows else "failed")
    evaluated = found != dg.TextMetadataValue(UNEVALUATED)
    return FailedCheck(name_of(made.asset_key), made.check_name, severity, reason, evaluated)


def announced_reason(event: dg.DagsterEvent) -> str:
    """Why a step failed, in words that may leave the platform: what its failure says for this
    purpose, or else no more than the name of the error."""
    data = event.step_failure_data
    said = data.user_failure_data.metadata.get(ANNOUNCED) if data.user_failure_data else None
    if said is not None:
        return str(said.value)
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    name = error.cls_name if error is not None and error.cls_name else "an error"
    return f"{name}; its message is in the run"


# -- the sensor ------------------------------------------------------------------------------------


def build_alert_sensors(
    settings: Settings, assets: Iterable[dg.AssetKey]
) -> list[dg.SensorDefinition]:
    """The sensor over runs of `assets`; none if no severity has a topic."""
    topics = settings.alerts.topics
    if topics.critical is None and topics.warning is None:
        return []
    ours = frozenset(assets)

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=30,
        default_status=sensor_status(settings),
        description="Sends an alert for failed runs and failed checks, once per run and severity",
    )
    def alert(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        known: dict[str, int] = json.loads(context.cursor) if context.cursor else {}
        after, sent = {}, 0
        for kind in _FINISHED:
            if kind.value in known:
                after[kind.value], count = _look(context, kind, known[kind.value], ours, settings)
                sent += count
            else:  # switched on for the first time: what ended before is past
                newest = context.instance.fetch_run_status_changes(kind, limit=1).records
                after[kind.value] = newest[0].storage_id if newest else -1
        return dg.SensorResult(skip_reason=f"{sent} alerts sent", cursor=json.dumps(after))

    return [alert]


def _look(
    context: dg.SensorEvaluationContext,
    kind: FinishedRunEvent,
    known: int,
    ours: frozenset[dg.AssetKey],
    settings: Settings,
) -> tuple[int, int]:
    """Announces the runs that ended after the event `known`; returns the last event that was seen
    and how many alerts were sent. Raises AlertError if one could not be."""
    changes = context.instance.fetch_run_status_changes(
        dg.RunStatusChangeRecordsFilter(kind, after_storage_id=known),
        ascending=True,
        limit=_RUNS_PER_LOOK,
    ).records
    sent = 0
    for change in changes:
        known = change.storage_id
        run = context.instance.get_run_by_id(change.event_log_entry.run_id)
        if run is None:  # deleted meanwhile
            continue
        success = kind == dg.DagsterEventType.RUN_SUCCESS
        message = change.event_log_entry.get_dagster_event().message or ""
        finished = finished_run(context.instance, run, success, message)
        # Other code locations have runs on the same instance.
        if finished.planned & ours:
            sent += announce(context.instance, run, finished, settings)
    return known, sent


def announce(
    instance: dg.DagsterInstance, run: dg.DagsterRun, finished: FinishedRun, settings: Settings
) -> int:
    """Sends what is to be said of a run and has not been said yet; returns how many alerts.

    A process that dies between sending and tagging sends again: twice rather than never.
    """
    sent = 0
    for alert in alerts_of(finished, settings.environment):
        topic, tag = getattr(settings.alerts.topics, alert.severity), ALERTED_TAG + alert.severity
        if topic is not None and tag not in run.tags:
            send(alert, topic, settings.home)
            instance.add_run_tags(run.run_id, {tag: "true"})
            sent += 1
    return sent
