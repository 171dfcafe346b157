"""The platform's data plane on Sail with tables side by side: each as soon as those that it reads are
done, as many at once as there are cores, on the one engine of the process.

Belongs here: that order. Does not belong here: what a table does (data_plane.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from benchmarks.contenders.data_plane import run_one, zones_of
from benchmarks.workload import BESIDE, TABLES, contracts


def run(landing: Path, lake: Path, partitions: Sequence[str]) -> None:
    """Raises RuntimeError if a partition fails."""
    from spark_jobs.engines.session import Engine

    declared, zones = contracts(), zones_of(landing, lake)
    tables = (*BESIDE, *TABLES)
    waiting = {t: set(declared[t].upstream) & set(tables) for t in tables}
    running: dict[Future[list[str]], str] = {}
    with Engine.start("sail") as engine, ThreadPoolExecutor(os.cpu_count()) as threads:
        while waiting or running:
            for table in [t for t, upstream in waiting.items() if not upstream]:
                del waiting[table]
                one = threads.submit(run_one, table, engine, declared, zones, partitions)
                running[one] = table
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                done.result()
                table = running.pop(done)
                for upstream in waiting.values():
                    upstream.discard(table)


if __name__ == "__main__":
    landing, lake, *partitions = sys.argv[1:]
    run(Path(landing), Path(lake), partitions)
