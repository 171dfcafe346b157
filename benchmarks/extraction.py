"""What a large table of Snowflake takes to land: rows a second, and memory that does not grow with it.

Belongs here: two tables, one four times the other, and both pulls. Does not belong here: the pull
(contenders/snowflake_pull.py), or other sources.

The account is a stand-in, in the process of the benchmark: its memory is not counted. It answers in
parts, as Snowflake does, which the client fetches some at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.contenders.snowflake_pull import PASSWORD
from benchmarks.measure import ContenderFailed
from benchmarks.race import Contender, race
from benchmarks.table import Row
from lakehouse.standins.data import tpch
from lakehouse.standins.servers import snowflake

GROWTH, MOST = 4, 1.25


def compared(scale: float, runs: int, work: Path, tell: Callable[[str], None]) -> list[Row]:
    """Lines of orders at a scale of TPC-H and at a quarter of it. Raises ContenderFailed if a pull lands
    other than all rows."""
    file = tpch.generate(scale).folder / "lineitem.parquet"
    total = pq.read_metadata(file).num_rows
    sizes = {"lines_of_a_quarter": total // GROWTH, "lines": total}
    with snowflake.serve() as service:
        entrants = []
        for table, rows in sizes.items():
            tell(f"m, {rows:,} rows into the account")
            service.load(table, file, rows)
            given = (str(service.given["host"]), str(service.given["port"]), table, "{out}")
            variables = {PASSWORD: str(service.given["password"])}
            entrants.append(
                Contender(table, "benchmarks.contenders.snowflake_pull", given,
                          inspect=_landed(table, rows), variables=variables)
            )  # fmt: skip
        costs = race(entrants, runs, work, tell)
    small, large = costs.values()
    ratio = large.peak / small.peak
    return [
        Row("m", f"{rows:,} rows of Snowflake into landing, {rows / cost.wall:,.0f} a second", cost)
        for rows, cost in zip(sizes.values(), costs.values(), strict=True)
    ] + [
        Row("m", f"peak memory, {GROWTH} times the rows", ratio=f"{ratio:.2f}",
            target=f"<= {MOST:g}", met=ratio <= MOST)
    ]  # fmt: skip


def _landed(table: str, rows: int) -> Callable[[Path], None]:
    def inspect(out: Path) -> None:
        files = (out / "landing").rglob("*.parquet")
        found = sum(pq.read_metadata(f).num_rows for f in files)
        if found != rows:
            raise ContenderFailed(f"{table}: {found:,} rows have landed, of {rows:,}")

    return inspect
