"""The one table that a benchmark prints, and the file that keeps it.

Belongs here: rendering. Does not belong here: measuring, or deciding what is compared.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Cost

HEADINGS = (
    "",
    "measured",
    "wall s",
    "CPU s",
    "peak GiB",
    "ratio (wall)",
    "ratio (CPU)",
    "target",
    "",
)
PACKAGES = ("pysail", "pyspark", "deltalake", "polars", "duckdb", "dlt", "dbt-core", "dagster")


@dataclass(frozen=True)
class Row:
    """One contender in one comparison. `ratio` and `cpu_ratio` compare it with the one that it is
    measured against; `target` says what they should be, and `met` whether the first is."""

    comparison: str
    measured: str
    cost: Cost | None = None
    ratio: str = ""
    cpu_ratio: str = ""
    target: str = ""
    met: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        cost = self.cost
        numbers = (
            (f"{cost.wall:.2f}", f"{cost.cpu:.2f}", f"{cost.peak / 2**30:.2f}")
            if cost
            else ("", "", "")
        )
        verdict = {None: "", True: "met", False: "missed"}[self.met]
        ratios = (self.ratio, self.cpu_ratio, self.target, verdict)
        return (self.comparison, self.measured, *numbers, *ratios)


def rendered(rows: Sequence[Row]) -> str:
    """A Markdown table that reads well as plain text too."""
    cells = [HEADINGS, *(r.cells for r in rows)]
    widths = [max(len(c[i]) for c in cells) for i in range(len(HEADINGS))]
    right = {2, 3, 4, 5, 6}

    def line(values: Sequence[str]) -> str:
        padded = (
            v.rjust(w) if i in right else v.ljust(w)
            for i, (v, w) in enumerate(zip(values, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = [("-" * (w - 1) + ":") if i in right else "-" * w for i, w in enumerate(widths)]
    return "\n".join([line(HEADINGS), line(rule), *(line(r.cells) for r in rows)])


def written(path: Path, rows: Sequence[Row], command: str, runs: int) -> None:
    """Keeps the table, and with it what one needs to know to measure again."""
    versions = ", ".join(f"{p} {version(p)}" for p in PACKAGES)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    path.write_text(
        f"""# Benchmark results

`{command}`, {dt.datetime.now(dt.UTC):%Y-%m-%d}. Medians of {runs} turns; contenders take turns, each
in a process of its own, and a ratio compares contenders of one and the same race. Their tables were
compared by hash and agree. What each comparison measures is said in [README.md](README.md).

Machine: {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, Python
{platform.python_version()}. Load average at the end: {os.getloadavg()[0]:.1f}.

Versions: {versions}.

{rendered(rows)}
"""
    )
