"""Compares what two engines, or two readers, made of the same thing, row by row.

Belongs here: which columns of a table are no part of its content, and how a difference is shown.
Does not belong here: running tables, or assertions.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from spark_jobs.batch import layout, quarantine
from spark_jobs.report import TableReport
from tests.lakes import TinyLake

# Of the run, and not of the rows.
_OF_THE_RUN = {"_batch_id", "_run_ts", "run_id", "batch_id", "quarantined_at"}
_SHOWN = 5


def content(rows: pa.Table) -> list[str]:
    """The columns and the rows of a table in a settled order, each row as text that tells 1 from
    1.0 and null from false."""
    names = sorted(set(rows.column_names) - _OF_THE_RUN)
    return [repr(names), *sorted(repr(list(r.values())) for r in rows.select(names).to_pylist())]


def differences(**found: list[str]) -> list[str]:
    """A few of the rows that one of two lists has and the other has not, with its name."""
    (one, these), (other, those) = found.items()
    only = {one: Counter(these) - Counter(those), other: Counter(those) - Counter(these)}
    return [f"only {name}: {row}" for name, rows in only.items() for row in list(rows)[:_SHOWN]]


def published(lake: TinyLake, table: str) -> list[str]:
    """What readers of a table see, the platform's own columns with it."""
    return content(DeltaTable(lake.lake.table(table)).to_pyarrow_table())


def rejected(lake: TinyLake, table: str) -> list[str]:
    """What left a table: ids, rules, records, and the decision on each."""
    rows = [
        {n: v for n, v in row.items() if n not in _OF_THE_RUN}
        for row in quarantine.rows(lake.lake, table)
    ]
    return sorted(map(repr, rows))


def accounted(report: TableReport) -> list[dict[str, Any]]:
    """What a report says of each partition, but for when and by which batch, and for how many files
    the engine wrote."""
    return [
        {
            "partition": p.partition,
            "status": p.status,
            "error": p.error,
            "counts": p.counts.model_dump(),
            "checks": [c.model_dump() for c in p.checks if c.name != "small_files"],
        }
        for p in report.partitions
    ]


def column_types(lake: TinyLake, table: str) -> dict[str, str]:
    """The types that the contract gives the table's columns."""
    return dict(layout.table_columns(lake.parsed()[table]))
