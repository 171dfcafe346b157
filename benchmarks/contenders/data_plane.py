"""The platform's data plane: contracts, transforms and `run_table`, on `sail` or `spark`.

Belongs here: one call of `run_table` per table, in the order of their inputs. Does not belong
here: anything that a table's contract or transform says.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.workload import BESIDE, CONTRACTS, TABLES, contracts

if TYPE_CHECKING:
    from spark_jobs.contract.model import Contract
    from spark_jobs.engines.session import Engine
    from spark_jobs.report import TableReport


def run(
    landing: Path, lake: Path, partitions: Sequence[str], engine_name: str = "sail"
) -> list[str]:
    """Runs every table for the partitions, engine start included; returns their statuses.

    Raises RuntimeError if a partition fails: a contender does all of the work, or none.
    """
    from spark_jobs.engines.session import Engine

    declared, zones = contracts(), zones_of(landing, lake)
    with Engine.start(engine_name) as engine:  # type: ignore[arg-type]
        done = [run_one(t, engine, declared, zones, partitions) for t in (*BESIDE, *TABLES)]
    return [status for statuses in done for status in statuses]


def zones_of(landing: Path, lake: Path) -> dict[str, str]:
    from spark_jobs.lake.storage import Lake

    return {**Lake.at(str(lake)).zones, "landing": str(landing)}


def run_one(
    table: str,
    engine: Engine,
    contracts: dict[str, Contract],
    zones: dict[str, str],
    partitions: Sequence[str],
) -> list[str]:
    """Runs one table; returns the statuses of its partitions."""
    report = report_of(table, engine, contracts, zones, partitions)
    return [p.status for p in report.partitions]


def report_of(
    table: str,
    engine: Engine,
    contracts: dict[str, Contract],
    zones: dict[str, str],
    partitions: Sequence[str],
) -> TableReport:
    """Runs one table. Raises RuntimeError if a partition fails."""
    from spark_jobs.report import RunSpec
    from spark_jobs.run import run_table

    spec = RunSpec(
        table=table,
        partitions=list(partitions),
        contracts=str(CONTRACTS),
        zones=zones,
        engine=engine.name,
        run_id="benchmark",
    )
    report = run_table(spec, engine, contracts)
    for partition in report.failed:
        raise RuntimeError(f"{table} {partition.partition}: {partition.error}")
    return report


if __name__ == "__main__":
    landing, lake, engine_name, *partitions = sys.argv[1:]
    run(Path(landing), Path(lake), partitions, engine_name)
