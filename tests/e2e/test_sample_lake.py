"""The README's path, as a new user walks it, against the delivery's answer sheet.

The answer sheet is written by the delivery from what it planted; the platform never reads it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable

from spark_jobs.lake import ledger
from spark_jobs.lake.storage import Lake

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[2]
# Rates are thresholds over a partition; the answer sheet counts the rows behind them.
RATES = ("quarantine_rate", "duplicate_rate", "null_rate", "schema_drift")


def lakehouse(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line as a user would, on a lake of its own."""
    command = [str(Path(sys.executable).with_name("lakehouse")), *arguments]
    environment = {**os.environ, "LAKEHOUSE_HOME": str(home), "LAKEHOUSE_ENV": "local"}
    return subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=600
    )


def versions(home: Path) -> dict[str, int]:
    """The Delta version of every table below the lake, the ledger and quarantine included."""
    logs = sorted((home / "lake").rglob("_delta_log"))
    return {
        str(log.parent.relative_to(home)): DeltaTable(str(log.parent)).version() for log in logs
    }


def differences(home: Path, expected: dict[str, dict[str, dict]]) -> list[str]:
    """Where the ledger's newest records differ from the answer sheet's `expected` part."""
    lake = Lake.at(str(home / "lake"))
    out = []
    for table, partitions in expected.items():
        latest = ledger.latest(lake, table)
        for partition, answer in partitions.items():
            row = latest.get(partition)
            if row is None:
                out.append(f"{table} {partition}: not in the ledger")
                continue
            counted = {
                "read": row.read,
                "published": row.counts.published,
                "unchanged": row.unchanged,
                "duplicate": row.duplicate,
                "quarantined": row.quarantined,
                "filtered": row.filtered,
            }
            out += [
                f"{table} {partition} {name}: expected {answer.get(name, 0)}, counted {count}"
                for name, count in counted.items()
                if answer.get(name, 0) != count
            ]
            broken = {
                c.name: c.failing_rows
                for c in row.failed_checks
                if c.failing_rows and c.name not in RATES
            }
            rules = {n: c for n, c in answer["rules"].items() if c and n not in RATES}
            if broken != rules:
                out.append(f"{table} {partition} rules: expected {rules}, counted {broken}")
    return out


def rows(home: Path, tables: list[str]) -> dict[str, int]:
    lake = Lake.at(str(home / "lake"))
    return {t: DeltaTable(lake.table(t)).count() for t in tables}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lakehouse")


@pytest.fixture(scope="module")
def first(home: Path) -> subprocess.CompletedProcess[str]:
    return lakehouse(home, "run")


def answers(home: Path) -> dict:
    return json.loads((home / "answers.json").read_text())


def test_the_run_succeeds_and_ends_with_a_summary(home, first):
    assert first.returncode == 0, first.stdout + first.stderr
    assert "fact_sales" in first.stdout
    summary = json.loads((home / "summary.json").read_text())
    assert summary


def test_every_partition_has_the_planted_counts(home, first):
    assert differences(home, answers(home)["tables"]) == []


def test_every_table_has_the_planted_rows(home, first):
    final = answers(home)["final"]
    assert rows(home, list(final)) == final


def test_reconcile_recounts_the_same_from_the_tables(home, first):
    done = lakehouse(home, "reconcile")
    assert done.returncode == 0, done.stdout + done.stderr


def test_running_again_changes_nothing(home, first):
    before = versions(home)
    again = lakehouse(home, "run")
    assert again.returncode == 0, again.stdout + again.stderr
    assert versions(home) == before


def test_one_more_day_does_only_that_days_work(home, first):
    before = versions(home)
    newest = Lake.at(str(home / "lake"))
    recorded = len(ledger.history(newest))
    done = lakehouse(home, "run", "--days", "15")
    assert done.returncode == 0, done.stdout + done.stderr
    sheet = answers(home)
    assert differences(home, sheet["increment"]) == []
    final = sheet["increment_final"]
    assert rows(home, list(final)) == final
    history = ledger.history(newest)[recorded:]
    assert {r.partition[:10] for r in history} == {max(sheet["increment"]["bronze.orders"])}
    after = versions(home)
    zones = ("bronze", "silver", "gold")
    tables = [t for t in after if t.split("/")[1] in zones and "_superseded" not in t]
    assert {t: after[t] - before[t] for t in tables if after[t] - before[t] > 1} == {}
    assert after["lake/gold/dim_date"] == before["lake/gold/dim_date"]
