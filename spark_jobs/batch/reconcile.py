"""Recomputes the row accounting from the tables themselves and compares it with the ledger.

Belongs here: independent recounts. It reads what is there, and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from deltalake import DeltaTable

from spark_jobs.batch import quarantine
from spark_jobs.contract.model import Contract
from spark_jobs.lake import delta, ledger
from spark_jobs.lake.row import LedgerRow
from spark_jobs.lake.storage import Lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Finding:
    """One disagreement: what was expected by the ledger or the log, and what is there."""

    table: str
    what: str
    expected: int
    found: int
    partition: str = ""


def reconcile(spark: SparkSession, contract: Contract, lake: Lake) -> list[Finding]:
    """Every disagreement of one table; none if it never ran.

    Recounted are: the balance of each recorded batch, the files that the log names, rows per
    partition (or in all, for tables merged by key), uniqueness of the key, and quarantined rows.
    """
    records = ledger.history(lake, contract.table)
    if not records:
        return []
    out = list(_balances(contract, records))
    latest = {r.partition: r for r in records}
    kept = Counter(r["partition"] for r in quarantine.rows(lake, contract.table))
    # A rejected row of an aggregate stands for as many as were read; recompute.py compares those.
    for partition, row in latest.items() if contract.grain == "row" else ():
        # A failed attempt adds to what the published version had left in quarantine.
        if row.failed or row.quarantined == kept[partition]:
            continue
        expected = row.quarantined - _gone_since(lake, contract.table, row)
        if expected != kept[partition]:
            out.append(
                Finding(contract.table, "quarantined rows", expected, kept[partition], partition)
            )
    table = delta.open_table(lake.table(contract.table), lake.storage)
    if table is None:
        published = any(not r.failed for r in records)
        return [*out, Finding(contract.table, "table", 1, 0)] if published else out
    out += _files(contract, lake, table)
    if any(f.what == "data file" for f in out):
        return out  # counting rows would fail on the missing file
    reader = spark.read.format("delta").option("versionAsOf", table.version())
    return out + list(_rows(contract, records, reader.load(lake.table(contract.table))))


def _gone_since(lake: Lake, table: str, row: LedgerRow) -> int:
    """How many rows have left the quarantine of a partition since its newest batch: their records
    came again on another day."""
    return sum(
        d["partition"] == row.partition
        and d["decision"] == "replayed"
        and d["run_id"] != row.run_id
        and d["decided_at"] > row.started_at
        for d in quarantine.decisions(lake, table)
    )


def _balances(contract: Contract, records: list[LedgerRow]) -> Iterator[Finding]:
    for row in records:
        counts = row.counts
        if not row.failed and counts.read != counts.accounted:
            yield Finding(
                contract.table, "row balance", counts.read, counts.accounted, row.partition
            )


def _files(contract: Contract, lake: Lake, table: DeltaTable) -> Iterator[Finding]:
    present = dict(lake.storage.tree(lake.table(contract.table)))
    for file in delta.active_files(table):
        size = present.get(unquote(file.path), -1)
        if size != file.size:
            yield Finding(contract.table, "data file", file.size, max(size, 0), file.path)


def _rows(contract: Contract, records: list[LedgerRow], rows: DataFrame) -> Iterator[Finding]:
    from pyspark.sql import functions as F

    done = [r for r in records if not r.failed]
    if contract.key and contract.layer != "bronze":
        repeated = rows.groupBy(*contract.key).count().where("count > 1").count()
        if repeated:
            yield Finding(contract.table, "keys that occur more than once", 0, repeated)
    if contract.keyed:
        expected = sum(r.inserted + r.added - r.withdrawn for r in done)
        found = rows.count()
        if expected != found:
            yield Finding(contract.table, "rows", expected, found)
    elif contract.grain == "row" and contract.partitioning:
        latest = {r.partition: r.inserted for r in done}
        found = rows.groupBy("_partition").agg(F.count("*").alias("n")).toArrow().to_pylist()
        counted = {r["_partition"]: r["n"] for r in found}
        for partition in sorted(latest.keys() | counted.keys()):
            expected, n = latest.get(partition, 0), counted.get(partition, 0)
            if expected != n:
                yield Finding(contract.table, "rows", expected, n, partition)
