"""The terminal: where commands print, and the display of a run in progress.

Belongs here: printing. Does not belong here: what a run is, or its summary.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import IO, TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed

from lakehouse.partitions import span
from spark_jobs import quoting

if TYPE_CHECKING:
    from dagster import EventLogEntry

    from spark_jobs.report import RunSpec, TableReport


@contextmanager
def console() -> Iterator[Console]:
    """A console on this process's real output. Runs redirect the output of their steps into their
    logs, file descriptor and all; what a person is to see must not go there."""
    try:
        descriptor = os.dup(sys.stdout.fileno())
    except (OSError, ValueError):  # a stream without a descriptor, as tests have
        yield _console(sys.stdout)
        return
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        yield _console(stream)


def data(text: object) -> str:
    """Text that may come from data, for a line that has rich's markup in it."""
    return escape(quoting.plain(str(text)))


def _console(stream: IO[str]) -> Console:
    """As wide as the terminal; wide enough for every line where there is none (a file, CI)."""
    return Console(
        file=stream, highlight=False, emoji=False, width=None if stream.isatty() else 160
    )


class RunDisplay:
    """A line for every finished table, and a bar while there is work; a context manager."""

    def __init__(self, out: Console, total: int) -> None:
        self._shown: set[str] = set()  # failed steps that sent a report
        self._built: set[tuple[str, str]] = set()  # marts of runs
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            Elapsed(),
            console=out,
            transient=True,
            disable=not out.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=total)

    def __enter__(self) -> RunDisplay:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def expect(self, total: int) -> None:
        """How many tables and marts there will be."""
        self._progress.update(self._task, total=total)

    def on_start(self, spec: RunSpec) -> None:
        self._progress.update(
            self._task,
            description=f"{data(spec.table)} {span(spec.partitions) if spec.partitions else ''}",
        )

    def on_report(self, report: TableReport) -> None:
        counts, failed = report.counts, len(report.failed)
        mark = "[red]✗[/]" if failed else "[green]✓[/]"
        if all(p.status == "unchanged" for p in report.partitions):
            text = "[dim]unchanged[/]"
        else:
            text = f"{counts.read:>9,} read {counts.published:>9,} published"
            text += f" {counts.quarantined:>6,} quarantined" if counts.quarantined else ""
        if failed:
            self._shown.add(report.table.replace(".", "__"))
            text += f" [red]{failed} of {len(report.partitions)} partitions failed[/]"
        self._line(f"{mark} {data(report.table):<28} {text}  {sum(report.seconds.values()):.1f} s")
        self._progress.advance(self._task)

    def on_rest(self, partitions: tuple[str, str] | None, assets: Sequence[str]) -> None:
        """A further run begins, of what bad partitions stopped."""
        of = f" for {data(' to '.join(dict.fromkeys(partitions)))}" if partitions else ""
        self._line(f"[yellow]The rest{of}[/], as a run of its own: {data(', '.join(assets))}")

    def on_event(self, entry: EventLogEntry) -> None:
        """Steps that send no report: marts, and those that failed as a whole."""
        from dagster import DagsterEventType

        from lakehouse.keys import name_of
        from lakehouse.local.execution import reason_of

        if not entry.is_dagster_event:
            return
        event = entry.get_dagster_event()
        if event.event_type == DagsterEventType.STEP_FAILURE:
            if event.step_key in self._shown:
                return
            reason = data(reason_of(event).strip().partition("\n")[0])
            self._line(f"[red]✗ {data(event.step_key)}[/] {reason}")
        elif event.event_type == DagsterEventType.STEP_START and event.step_key == "marts":
            self._progress.update(self._task, description="marts (dbt)")
        elif (
            event.event_type == DagsterEventType.ASSET_MATERIALIZATION
            and "Execution Duration" in event.materialization.metadata
            and (made := (entry.run_id, name_of(event.materialization.asset_key)))
            not in self._built
        ):
            self._built.add(made)  # a mart with partitions has an event for each
            self._line(f"[green]✓[/] {data(made[1]):<28}")
            self._progress.advance(self._task)

    def _line(self, text: str) -> None:
        self._progress.console.print(text, soft_wrap=True)
