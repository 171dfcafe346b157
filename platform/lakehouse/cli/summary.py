"""The summary of a run: per table what was read and what became of it, for people and as JSON.

Belongs here: adding up outcomes, the table that is printed, `summary.json`. Does not belong here:
running anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.table import Table

from lakehouse.cli.terminal import data
from lakehouse.keys import LANDING
from lakehouse.local.execution import CheckResult, RunOutcome
from lakehouse.settings.model import Settings
from spark_jobs.contract.model import LAYERS
from spark_jobs.report import Counts, TableReport
from spark_jobs.window import named


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AssetSummary(_Record):
    """One table or mart. Marts have rows and checks only: dbt does not account for rows."""

    kind: str = "table"
    status: str = "published"
    partitions: int = 0
    partitions_failed: list[str] = Field(default_factory=list)
    read: int = 0
    published: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    duplicate: int = 0
    quarantined: int = 0
    filtered: int = 0
    added: int = 0
    withdrawn: int = 0
    revived: int = 0
    rows: int | None = None
    delta_version: int | None = None
    checks_passed: int = 0
    checks_warned: int = 0
    checks_failed: int = 0
    seconds: float = 0.0


class RunSummary(_Record):
    """`failures` maps a table or step to the reason, as people read it. `held_back` are partitions
    that were not run, since something that they read failed there; the others of these tables were,
    in a run of their own."""

    environment: str
    started_at: datetime
    seconds: float
    success: bool
    changed: bool
    runs: dict[str, str]
    tables: dict[str, AssetSummary]
    failures: dict[str, str]
    skipped: list[str]
    held_back: dict[str, list[str]] = Field(default_factory=dict)


def summarize(
    settings: Settings, outcomes: Iterable[RunOutcome], started_at: datetime, seconds: float
) -> RunSummary:
    outcomes = list(outcomes)
    assets: dict[str, AssetSummary] = {}
    for outcome in outcomes:
        for report in outcome.reports:
            before = assets.get(report.table)
            assets[report.table] = _sum(before, _of_report(report))
        for mart in outcome.marts:
            assets[mart.asset] = AssetSummary(
                kind="mart",
                status="unchanged" if mart.unchanged else "published",
                rows=mart.rows,
                seconds=round(mart.seconds or 0.0, 3),
            )
        for check in outcome.checks:
            if check.asset.partition(".")[0] == LANDING:
                continue  # neither a table nor a mart
            _count(assets.setdefault(check.asset, _unreported(check.asset)), check)
        for failure in outcome.failures:
            for name in failure.assets:
                assets.setdefault(name, _unreported(name)).status = "failed"
    ran = set(assets)
    failures = {
        ", ".join(f.assets) if len(f.assets) == 1 else f.step: f.reason
        for o in outcomes
        for f in o.failures
    }
    return RunSummary(
        environment=settings.environment,
        started_at=started_at,
        seconds=round(seconds, 2),
        success=all(o.success for o in outcomes),
        changed=any(a.status != "unchanged" for a in assets.values()),
        runs={_run_name(o): o.run_id for o in outcomes if o.run_id},
        tables=assets,
        failures=failures,
        skipped=[n for n in dict.fromkeys(n for o in outcomes for n in o.skipped) if n not in ran],
        held_back={
            name: sorted({p for o in outcomes for p in o.held_back.get(name, ())})
            for name in dict.fromkeys(n for o in outcomes for n in o.held_back)
        },
    )


def _run_name(outcome: RunOutcome) -> str:
    if outcome.rest_of is None:
        return outcome.job
    of = " to ".join(dict.fromkeys(outcome.partitions or ()))
    return f"{outcome.job}, rest of {outcome.rest_of[:8]}{f', {of}' if of else ''}"


def _sum(before: AssetSummary | None, now: AssetSummary) -> AssetSummary:
    """A table that several runs worked on, one range of partitions each."""
    if before is None or not before.partitions:
        return now
    counted = ("partitions", "partitions_failed", "published", "seconds", *Counts.model_fields)
    added = {n: getattr(before, n) + getattr(now, n) for n in counted}
    statuses = {before.status, now.status}
    status = next(s for s in ("failed", "published", "unchanged") if s in statuses)
    checks = {n: getattr(before, n) for n in ("checks_passed", "checks_warned", "checks_failed")}
    return now.model_copy(update={**added, **checks, "status": status})


def _unreported(name: str) -> AssetSummary:
    """An asset that only its checks or its failure tell of."""
    kind = "table" if name.partition(".")[0] in LAYERS else "mart"
    return AssetSummary(kind=kind, status="failed")


def _of_report(report: TableReport) -> AssetSummary:
    statuses = {p.status for p in report.partitions}
    if "failed" in statuses:
        status = "failed"
    else:
        status = "unchanged" if statuses == {"unchanged"} else "published"
    return AssetSummary(
        status=status,
        partitions=len(report.partitions),
        partitions_failed=[p.partition for p in report.failed],
        published=report.counts.published,
        **report.counts.model_dump(),
        rows=report.table_rows,
        delta_version=report.delta_version,
        seconds=round(sum(report.seconds.values()), 3),
    )


def _count(summary: AssetSummary, check: CheckResult) -> None:
    if check.passed:
        summary.checks_passed += 1
    elif check.severity == "ERROR":
        summary.checks_failed += 1
    else:
        summary.checks_warned += 1


def write(summary: RunSummary, path: Path) -> None:
    path.write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")


def show(summary: RunSummary, settings: Settings, out: Console) -> None:
    """The table, what failed, and what to look at next."""
    out.print(_table(summary.tables))
    if summary.success and not summary.changed:
        out.print(f"[green]Nothing had changed[/]: checked in {summary.seconds:.0f} s, no commit.")
    elif summary.success:
        out.print(f"[green]Done[/] in {summary.seconds:.0f} s.")
    for name, reason in summary.failures.items():
        out.print(f"[red]Failed: {data(name)}[/]")
        for line in reason.splitlines():
            out.print(f"  {data(line)}")
    if summary.skipped:
        names = ", ".join(summary.skipped)
        out.print(f"[yellow]Not run, because something before them failed:[/] {data(names)}")
    waiting: dict[str, list[str]] = {}
    for name, partitions in summary.held_back.items():
        if name not in summary.skipped:
            waiting.setdefault(named(partitions), []).append(name)
    for where, tables in waiting.items():
        out.print(
            f"[yellow]Held back for {data(where)}[/], because something before them failed there;"
            f" the rest is published: {data(', '.join(tables))}"
        )
    out.print()
    for line in _next(summary, settings):
        out.print(data(line))


_COUNTS = ("read", "published", "unchanged", "duplicate", "quarantined", "filtered")


def _table(assets: Mapping[str, AssetSummary]) -> Table:
    """A row per table and mart; columns that would be all zero are left out."""
    shown = {n: a for n, a in assets.items() if a.kind == "table" or a.rows is not None}
    columns = [c for c in _COUNTS if any(getattr(a, c) for a in shown.values()) or c == "read"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("table")
    for name in (*columns, "checks", "warned", "failed", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, a in shown.items():
        table.add_row(
            f"[red]{data(name)}[/]" if a.status == "failed" else data(name),
            *(_count_cell(a, column) for column in columns),
            str(a.checks_passed),
            f"[yellow]{a.checks_warned}[/]" if a.checks_warned else "",
            f"[red]{a.checks_failed}[/]" if a.checks_failed else "",
            f"{a.seconds:.1f}",
        )
    return table


def _count_cell(a: AssetSummary, column: str) -> str:
    if a.kind == "mart":  # dbt tells how many rows there are, not which are new
        return f"{a.rows:,}" if column == a.status else ""
    number = getattr(a, column)
    return f"{number:,}" if number else "[dim]0[/]"


def _next(summary: RunSummary, settings: Settings) -> list[str]:
    """What to look at, most urgent first."""
    shows = {}
    if not summary.success:
        shows["lakehouse gaps"] = "partitions that are missing or failed, and why"
    if rows := sum(a.quarantined for a in summary.tables.values()):
        shows["lakehouse quarantine list"] = (
            f"the {rows:,} rows that left, and the rules they broke"
        )
    shows["lakehouse ui"] = "assets, checks, runs and plots at http://127.0.0.1:3000"
    if settings.warehouse.target == "duckdb" and settings.warehouse_path.exists():
        shows[_near(settings.warehouse_path)] = "the marts, in DuckDB"
    shows[_near(settings.home / "summary.json")] = "this summary"
    width = max(map(len, shows))
    return ["Next:", *(f"  {what.ljust(width)}  {why}" for what, why in shows.items())]


def _near(path: Path) -> str:
    """A path as short as it can be from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
