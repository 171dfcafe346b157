"""`python -m benchmarks.parts`: the CPU seconds of the platform's data plane on Sail, by step.

Belongs here: one run of all tables in this process, its engine's threads included, and its table.
Does not belong here: what a step does, or what it is compared with (comparisons.py).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contenders.data_plane import report_of, zones_of
from benchmarks.workload import BESIDE, PROJECT, TABLES, Delivery, contracts, deliver
from spark_jobs import run
from spark_jobs.batch.steps import Steps

START, END = "start of the process and of the engine", "everything else"


class _OfCpu(Steps):
    """Counts CPU seconds of the process where a run counts seconds."""

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        start, self.current = time.process_time(), step
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0) + time.process_time() - start


def measured(delivery: Delivery, lake: Path) -> dict[str, float]:
    """CPU seconds by step, over all tables, from the start of this process to the end of its engine.
    Raises RuntimeError if a partition fails."""
    from spark_jobs.engines.session import Engine

    run.Steps = _OfCpu  # type: ignore[attr-defined]
    declared, zones = contracts(), zones_of(delivery.landing, lake)
    spent: dict[str, float] = defaultdict(float)
    try:
        with Engine.start("sail") as engine:
            spent[START] = time.process_time()
            for table in (*BESIDE, *TABLES):
                report = report_of(table, engine, declared, zones, delivery.partitions())
                for step, seconds in report.seconds.items():
                    spent[step] += seconds
    finally:
        run.Steps = Steps  # type: ignore[attr-defined]
    spent[END] = time.process_time() - sum(spent.values())
    return dict(spent)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parts", description=__doc__)
    parser.add_argument("--scale", type=float, default=0.1, help="TPC-H scale of the fourteen days")
    parser.add_argument("--work", type=Path, default=PROJECT / ".lakehouse" / "benchmarks")
    asked = parser.parse_args(arguments)
    asked.work.mkdir(parents=True, exist_ok=True)
    delivery = deliver(asked.work.resolve(), asked.scale)
    with tempfile.TemporaryDirectory(dir=asked.work) as lake:
        spent = measured(delivery, Path(lake).resolve())
    total = sum(spent.values())
    print("| part | CPU s | of all |\n| - | -: | -: |")
    for part, seconds in spent.items():
        print(f"| {part} | {seconds:.2f} | {seconds / total:.0%} |")


if __name__ == "__main__":
    main()
