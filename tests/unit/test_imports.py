"""A command that needs no engine does not wait for one, nor for Dagster.

Here: what a command imports, each in an interpreter of its own. Not here: what it does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.large_lake import LargeLake
from lakehouse.marts.dbt import prepared_project
from lakehouse.settings.load import load_settings
from spark_jobs.lake import ledger

PROJECT = Path(__file__).parents[2]
ENGINES = ("pyspark", "pysail", "duckdb", "dbt", "dagster_dbt", "boto3")
RUN = """
import sys
from lakehouse.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print("exit code", end.code, file=sys.stderr)
print(",".join(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""
COMMANDS = [
    ("--help",),
    ("check",),
    ("quarantine", "list"),
    ("quarantine", "show", "silver.orders"),
    ("reconcile", "--help"),
    ("contract", "new", "--help"),
    ("deliver", "--help"),
    ("backfill", "--help"),
    ("ui", "--help"),
    ("gaps",),
]
REFUSED = [
    ("materialize", "silver.nothing"),
    ("backfill", "--from", "2026-10-05", "--to", "2026-10-06", "--tables", "silver.nothing"),
    ("deliver", "--days", "5000"),
]


def imported(home: Path, *arguments: str, code: int = 0) -> set[str]:
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("LAKEHOUSE", "DAGSTER"))
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        cwd=PROJECT,
        env=environment | {"LAKEHOUSE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    *said, modules = done.stderr.strip().splitlines()
    assert said[-1] == f"exit code {code}", done.stderr
    return set(modules.split(","))


@pytest.fixture(scope="module")
def marts_that_were_checked(tmp_path_factory: pytest.TempPathFactory) -> None:
    """dbt looks at the marts again only after their project has changed."""
    prepared_project(load_settings("local", home=tmp_path_factory.mktemp("home"), project=PROJECT))


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.usefixtures("marts_that_were_checked")
def test_a_command_without_a_run_imports_neither_an_engine_nor_dagster(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    found = imported(tmp_path, *arguments)
    assert not found & {*ENGINES, "dagster"}


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_a_command_that_refuses_imports_neither_an_engine_nor_dagster(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    found = imported(tmp_path, *arguments, code=2)
    assert not found & {*ENGINES, "dagster"}


def test_a_question_for_gaps_reads_only_what_it_needs_of_a_ledger(tmp_path: Path) -> None:
    """No counts and checks, and in Python only the newest record of each partition."""
    large = LargeLake(tmp_path, days=2, rejected=10)
    large.write()
    code = f"""
from spark_jobs.lake import delta
real = delta.read_files
def read_files(table, storage, paths, columns=None):
    print(*sorted(columns))
    return real(table, storage, paths, columns)
delta.read_files = read_files
{RUN}"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LAKEHOUSE")}
    done = subprocess.run(
        [sys.executable, "-c", code, "gaps"],
        cwd=PROJECT,
        env=environment | large.variables,
        capture_output=True,
        text=True,
        check=True,
    )
    state, revivals, said = done.stdout.splitlines()
    assert state.split() == sorted({*ledger.STATE, "started_at"} - {"table"})
    assert revivals.split() == ["revived_in", "started_at"]
    assert said == "No gaps from 2025-10-27 to 2025-10-28."
    assert "pandas" not in done.stderr.splitlines()[-1].split(",")


@pytest.mark.parametrize("arguments", [("--help",), ("check",), ("gaps",)], ids=" ".join)
@pytest.mark.usefixtures("marts_that_were_checked")
def test_looking_without_reading_rows_imports_no_data_frames(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    assert "pandas" not in imported(tmp_path, *arguments)
