"""A command that needs no engine does not wait for one, nor for Dagster.

Here: what a command imports, each in an interpreter of its own. Not here: what it does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
]


def imported(home: Path, *arguments: str) -> set[str]:
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
    assert said == ["exit code 0"], done.stderr
    return set(modules.split(","))


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_command_without_a_run_imports_neither_an_engine_nor_dagster(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    found = imported(tmp_path, *arguments)
    assert not found & {*ENGINES, "dagster"}


def test_looking_for_gaps_imports_no_engine(tmp_path: Path) -> None:
    assert not imported(tmp_path, "gaps") & set(ENGINES)


@pytest.mark.parametrize("arguments", [("--help",), ("check",), ("gaps",)], ids=" ".join)
def test_looking_without_reading_rows_imports_no_data_frames(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    assert "pandas" not in imported(tmp_path, *arguments)
