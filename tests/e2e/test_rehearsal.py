"""The sample lake is the same lake wherever it runs: rows, quarantine, ledger, checks and marts.

Here: Sail on a laptop, Sail on S3, and the settings of production with the tables as jobs of EMR
Serverless (Spark 4.0) and of Databricks (Spark 4.2) on S3 and the marts in Redshift; and the commands of
the way to production, there. Not here: what goes wrong on the way.

Run by `make conformance-cloud`: it takes longer than anybody wants to wait for all other tests.
REHEARSAL_DAYS and REHEARSAL_SCALE make the sample another one.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from lakehouse.cli.rehearse import rehearsed
from lakehouse.settings.load import FILES, load_settings
from lakehouse.settings.model import Settings
from lakehouse.standins.servers.aws import CREDENTIALS, aws
from spark_jobs.report import ZONES
from tests.conformance.agreement import differences
from tests.documents import PROJECT, inline_code
from tests.e2e.conftest import elsewhere
from tests.whole_lake import everything

pytestmark = [pytest.mark.jvm, pytest.mark.slow, pytest.mark.rehearsal]

DAYS = int(os.environ.get("REHEARSAL_DAYS", "2"))
SCALE = float(os.environ.get("REHEARSAL_SCALE", "0.002"))
MATERIALIZE = "lakehouse materialize bronze.inventory --partition 2026-10-05"
GAPS = "lakehouse gaps"
WAYS = ("sail", "emr", "databricks")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The lake of a laptop: Sail, files, and marts in DuckDB."""
    home = tmp_path_factory.mktemp("laptop")
    with elsewhere(home):
        return everything(ran())


def ran() -> Settings:
    """The settings of this environment, whose lake has been run by the command."""
    said(f"lakehouse run --scale {SCALE} --days {DAYS}")
    return load_settings()


def said(command: str, code: int = 0) -> str:
    """What a command of the project says, if it ends as it should."""
    program, *arguments = shlex.split(command)
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert done.returncode == code, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def of_the_way_to_production() -> dict[str, int]:
    """Its commands, but for those that make whole days, which a rehearsal has made; and how each ends
    there. Days are due until now, and the sample has ended before: there are gaps."""
    told = inline_code(PROJECT / "docs/how-to/production.md")
    commands = [c for c in told if c.startswith("lakehouse ") and "DAY" not in c]
    return {command: int(command == GAPS) for command in commands}


@contextmanager
def lake_of(way: str, home: Path) -> Iterator[Settings]:
    """A lake that has been run one way, as long as it is there."""
    if way != "sail":
        with elsewhere(home), rehearsed(way, SCALE, DAYS) as (settings, good):  # type: ignore[arg-type]
            assert good
            yield settings
        return
    with aws() as store:
        store.create_buckets(*(f"lake-{zone}" for zone in ZONES))
        settings = yaml.safe_load((FILES / "local.yaml").read_text())
        settings["lake"] = {
            "buckets": {zone: f"lake-{zone}" for zone in ZONES},
            "storage_options": store.storage_options,
        }
        (home / "local.yaml").write_text(yaml.safe_dump(settings))
        with elsewhere(home, **CREDENTIALS, LAKEHOUSE_SETTINGS=str(home)):
            yield ran()


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("way", WAYS)
def test_a_lake_is_the_same_wherever_it_runs(
    way: str, here: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    with lake_of(way, tmp_path) as settings:
        seconds = time.monotonic() - started
        there = everything(settings)
        assert there.keys() == here.keys() and len(here) > 60 and len(here["checks"]) > 200
        other = {n: differences(**{way: there[n], "here": here[n]}) for n in here}
        assert {name: found for name, found in other.items() if found} == {}
        if way != "sail":
            told = {c: said(c, code) for c, code in of_the_way_to_production().items()}
            assert "bronze.inventory" in told[MATERIALIZE] and len(told) > 5
            assert "gaps from 2026-10-05 to " in told[GAPS]
    with capsys.disabled():
        print(
            f"\n{way} on S3, marts in {settings.warehouse.target}: {len(here)} tables, quarantines,"
            f" marts, ledger and checks with {sum(map(len, here.values())):,} rows are the same"
            f" ({DAYS} days, scale {SCALE}, {seconds:,.0f} s)"
        )
