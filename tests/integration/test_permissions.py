"""Files are for the user who ran the platform, whoever made them: Dagster, dbt, an engine, Delta.

The processes here are the real ones, started as a shell with the usual umask starts them.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lakes import MONDAY, TinyLake, bronze, column

PROJECT = Path(__file__).parents[2]
USUAL, OPEN = 0o022, 0o077


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=PROJECT,
        env=os.environ | {"LAKEHOUSE_ENV": "local"} | variables,
        umask=USUAL,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )


def lakehouse(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(Path(sys.executable).with_name("lakehouse"), *arguments, **variables)


def readable(root: Path, bits: int = OPEN) -> Iterator[str]:
    """What lies below `root`, itself included, that others may use, with its mode."""
    for path in (root, *root.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode & bits and not path.is_symlink():
            yield f"{mode:o} {path}"


@pytest.mark.slow
def test_no_path_that_a_run_of_the_lake_creates_is_open_to_others(tmp_path: Path) -> None:
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    scratch.mkdir(0o700)
    done = lakehouse(
        *("run", "--days", "1", "--scale", "0.001"), LAKEHOUSE_HOME=str(home), TMPDIR=str(scratch)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for made in ("summary.json", "warehouse.duckdb", "lake/gold", "dagster/history/runs.db", "dbt"):
        assert (home / made).exists(), made
    assert list(readable(home)) == []
    assert list(readable(scratch)) == []


def define(lake: TinyLake) -> str:
    """A table of one row; returns the specification of its run."""
    lake.define(bronze("feed", "csv", column("id", key=1)))
    lake.land("feed", MONDAY, "feed.csv", "id\n1\n")
    return lake.spec("bronze.feed", MONDAY).model_dump_json()


def written(lake: TinyLake) -> list[Path]:
    return [Path(lake.zones[zone]) for zone in ("bronze", "ledger")]


def test_the_data_plane_by_itself_writes_for_its_user_alone(lake: TinyLake) -> None:
    done = run(sys.executable, "-m", "spark_jobs", "run", "--spec", define(lake))
    assert done.returncode == 0, done.stderr
    for root in written(lake):
        assert list(readable(root)) == []


def test_a_lake_is_shared_by_a_setting_only(lake: TinyLake) -> None:
    done = run(
        *(sys.executable, "-m", "spark_jobs", "run", "--spec", define(lake)), LAKEHOUSE_UMASK="027"
    )
    assert done.returncode == 0, done.stderr
    for root in written(lake):
        assert list(readable(root, bits=0o027)) == []
        assert any(path.stat().st_mode & 0o040 for path in root.rglob("*.parquet"))


@pytest.mark.parametrize("given", ["7", "0o77", "777", "0177", "rw-------"])
def test_a_umask_that_cannot_be_meant_stops_every_command(given: str) -> None:
    done = lakehouse("check", LAKEHOUSE_UMASK=given)
    assert done.returncode == 2
    assert "LAKEHOUSE_UMASK" in done.stderr
    assert "077" in done.stderr


@pytest.mark.parametrize(
    "program",
    [
        "from lakehouse.definitions import defs; defs()",
        "from lakehouse.local.event_log import LocalStorage; LocalStorage.from_local('history')",
    ],
    ids=["a code server", "a webserver or daemon"],
)
def test_a_process_that_dagster_starts_writes_for_its_user_alone(
    program: str, tmp_path: Path
) -> None:
    program = f"import os; os.chdir({str(tmp_path)!r}); {program}; open('written', 'w')"
    done = run(sys.executable, "-c", program, LAKEHOUSE_HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert list(readable(tmp_path / "written")) == []
