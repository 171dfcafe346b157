"""Rows of the ledger as values: what they keep on the way through Arrow and through a commit.

Here: the conversions, and what follows from a row alone. Not here: which rows a run makes (the
integration tests).
"""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from spark_jobs.lake import jobs, ledger
from spark_jobs.lake.jobs import JobRow
from spark_jobs.lake.row import LedgerRow, PartitionState, newest_batches, rows_of
from spark_jobs.lake.storage import Lake
from spark_jobs.report import Check, Counts, PartitionReport, TableReport

AT = dt.datetime(2026, 10, 5, 12, 30, 0, 123456, tzinfo=dt.UTC)
COUNTS = Counts(**{name: n for n, name in enumerate(Counts.model_fields, start=1)})
BROKEN = Check(name="id_not_null", passed=False, blocking=True, failing_rows=3, detail="3 rows")
PASSED = Check(name="row_count", passed=True)
REPORT = TableReport(
    table="silver.people",
    run_id="run",
    batch_id="batch",
    engine="sail",
    contract_version="1.2.0",
    transform_version="code",
    artifact="0123456789abcdef",
    delta_version=7,
    seconds={"read": 0.5, "publish": 1.25},
    inputs={"silver.rates": "4@id"},
    partitions=[
        PartitionReport(
            partition="2026-10-05",
            status="published",
            counts=COUNTS,
            checks=[BROKEN, PASSED],
            fingerprint="print",
            revived_in=["2026-10-04"],
        ),
        PartitionReport(partition="2026-10-06", status="failed", error="nothing delivered"),
        PartitionReport(partition="2026-10-07", status="unchanged"),
    ],
)


def test_a_report_has_a_row_for_each_partition_with_which_something_was_done() -> None:
    row, failed = rows_of(REPORT, AT)
    assert (row.partition, row.failed, failed.partition, failed.failed) == (
        "2026-10-05", False, "2026-10-06", True,
    )  # fmt: skip
    assert row.counts == COUNTS
    assert row.failed_checks == [BROKEN]
    assert row.looked_up == {"silver.rates": "4@id"}
    assert row.done_at == AT + dt.timedelta(seconds=1.75)
    assert failed.error == "nothing delivered"
    assert row.artifact == "0123456789abcdef"
    assert newest_batches([replace(row, batch_id="older"), row, failed]) == {"2026-10-05": "batch"}


def test_every_count_of_a_report_is_a_field_of_a_row() -> None:
    assert Counts.model_fields.keys() <= {f.name for f in fields(LedgerRow)}


def test_rows_come_back_from_arrow_as_they_were() -> None:
    rows = rows_of(REPORT, AT)
    kept = ledger.to_arrow(rows)
    assert kept.schema == ledger.SCHEMA
    assert ledger.of_arrow(kept, LedgerRow) == rows


def test_rows_come_back_from_a_ledger_as_they_were(tmp_path: Path) -> None:
    lake, rows = Lake.at(str(tmp_path)), rows_of(REPORT, AT)
    ledger.append(lake, rows)
    assert ledger.history(lake, "silver.people") == rows
    assert ledger.of_tables(lake, ["silver.people"]) == rows
    assert [(s.partition, s.failed, s.error) for s in ledger.newest(lake)] == [
        ("2026-10-05", False, ""), ("2026-10-06", True, "nothing delivered"),
    ]  # fmt: skip


def test_rows_come_back_from_the_commit_that_carries_them_with_its_version(tmp_path: Path) -> None:
    rows = rows_of(REPORT, AT)
    write_deltalake(
        str(tmp_path),
        pa.table({"id": [1]}),
        commit_properties=CommitProperties(
            {"batch_id": "batch", ledger.CARRIED: ledger.carried(rows)}
        ),
    )
    table = DeltaTable(str(tmp_path))
    recorded = [replace(row, delta_version=0) for row in rows]
    assert ledger.unrecorded(table, []) == recorded
    assert ledger.unrecorded(table, recorded) == []


def test_a_ledger_that_is_older_than_some_fields_is_read_and_continued(tmp_path: Path) -> None:
    """Its files lack them, and have the others in another order."""
    lake, (row, _) = Lake.at(str(tmp_path)), rows_of(REPORT, AT)
    newer = {"inputs", "revived_in", "added", "withdrawn", "revived"}
    names = [n for n in reversed(ledger.SCHEMA.names) if n not in newer]
    old = ledger.to_arrow([row]).select(names)
    write_deltalake(lake.ledger("batches"), old, partition_by=["table"])
    before = replace(row, inputs="", revived_in=(), added=0, withdrawn=0, revived=0)
    assert ledger.history(lake) == [before]
    assert (before.looked_up, before.counts.added) == ({}, 0)
    later = replace(row, batch_id="later", started_at=AT + dt.timedelta(days=1))
    ledger.append(lake, [later])
    assert ledger.history(lake) == [before, later]


@pytest.mark.parametrize("count", Counts.model_fields)
def test_a_batch_changes_its_table_unless_it_left_every_row_as_it_was(count: str) -> None:
    (row, _) = rows_of(REPORT, AT)
    zero = dict.fromkeys(Counts.model_fields, 0)
    alike = {"read", "unchanged", "duplicate", "quarantined", "filtered"}
    changed = replace(row, **(zero | {count: 1}))
    assert changed.changes == (count not in alike)
    assert changed.changes == bool(changed.counts.changed)


def test_a_row_is_whole_and_never_changes() -> None:
    (row, _) = rows_of(REPORT, AT)
    with pytest.raises(TypeError, match="missing"):
        PartitionState(table="silver.people", partition="2026-10-05")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected"):
        replace(row, partitions="2026-10-05")  # type: ignore[call-arg]
    with pytest.raises(FrozenInstanceError):
        row.status = "failed"  # type: ignore[misc]


def test_rows_need_neither_arrow_nor_delta() -> None:
    code = "import sys, spark_jobs.lake.row; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "spark_jobs.lake.row" in loaded
    assert not loaded & {"pyarrow", "deltalake", "pandas"}


def test_jobs_that_end_at_once_all_have_their_row(tmp_path: Path) -> None:
    lake = Lake.at(str(tmp_path))
    rows = [
        JobRow(
            table=f"bronze.t{n}",
            run_id="run",
            attempt=0,
            service="EMR Serverless",
            job="job",
            state="SUCCESS",
            artifact="",
            partitions=1,
            ended_at=AT,
            billed="{}",
            cost=0.5,
            currency="USD",
        )
        for n in range(6)
    ]
    with ThreadPoolExecutor(len(rows)) as threads:
        list(threads.map(lambda row: jobs.record(lake, row), [*rows, *rows]))
    recorded = DeltaTable(lake.ledger("jobs")).to_pyarrow_table().to_pylist()
    assert sorted(r["table"] for r in recorded) == [row.table for row in rows]
