"""`python -m benchmarks`: runs comparisons, prints one table, keeps it in benchmarks/results.md.

Belongs here: the command line. Does not belong here: what is compared.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from benchmarks.comparisons import Bench
from benchmarks.measure import ContenderFailed
from benchmarks.table import rendered, written
from benchmarks.workload import PROJECT

LETTERS = "abcdefghijklmno"
RESULTS = Path(__file__).with_name("results.md")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help="comparisons, a to o (all)")
    parser.add_argument("--scale", type=float, help="one TPC-H scale for all (0.1 and 1)")
    parser.add_argument("--runs", type=int, help="turns of each contender (5)")
    parser.add_argument("--gigabytes", type=float,
                        help="g reads files of this size for their memory, nothing kept")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="scale 0.01, one turn, nothing kept")
    parser.add_argument("--work", type=Path, default=PROJECT / ".lakehouse" / "benchmarks",
                        help="where deliveries are kept and contenders write")  # fmt: skip
    asked = parser.parse_args(arguments)
    letters = asked.names or list(LETTERS)
    unknown = set(letters) - set(LETTERS)
    if unknown:
        parser.error(f"no comparison {', '.join(sorted(unknown))}; there are {', '.join(LETTERS)}")
    if asked.gigabytes and letters != ["g"]:
        parser.error("--gigabytes is for g alone")
    runs = asked.runs or (1 if asked.quick else 5)
    scale = asked.scale or (0.01 if asked.quick else None)
    work = asked.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(work, runs, _progress, g_gigabytes=asked.gigabytes)
    if scale is not None:
        bench.a_scales, bench.b_scale, bench.c_scale, bench.d_scale = (scale,), scale, scale, scale
        bench.f_scale, bench.h_scale, bench.g_lines = scale, scale, int(scale * 10_000_000)
        bench.j_scale, bench.k_scale, bench.l_scale, bench.m_scale = scale, scale, scale, scale
    if asked.quick:
        bench.f_days, bench.f_rejected, bench.n_records = 30, 5_000, 20_000
        bench.o_seconds = 5
        bench.j_scale, bench.k_tables = (
            0.001,
            ("bronze.products", "bronze.orders", "silver.products"),
        )
    try:
        rows = bench.compared(letters)
    except ContenderFailed as error:
        print(error, file=sys.stderr)
        return 1
    print(rendered(rows))
    if not asked.quick and not asked.gigabytes:
        command = shlex.join(["python", "-m", "benchmarks", *(arguments or sys.argv[1:])])
        written(RESULTS, rows, command, runs)
    return 0


def _progress(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
