"""The data plane as a cluster installs it: its own wheel, the contracts in it, nothing else of ours.

Here: that it builds offline, and runs a table with what it declares and no more. Not here: the project's
own environment (tests/unit/test_project.py).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from pydantic import ValidationError

from spark_jobs.contract.location import digest
from spark_jobs.errors import ContractError
from spark_jobs.report import INSTALLED, TableReport
from spark_jobs.run import run_table
from tests.lakes import MONDAY, TinyLake, bronze, column

PROJECT = Path(__file__).parents[2]
# What stands for the cluster: its Spark, and here the engine that answers for it.
OF_THE_CLUSTER = ("pyspark[connect]", "pysail")
FORBIDDEN = ("dagster", "dbt", "lakehouse", "duckdb", "pysail", "delta_spark", "moto")


def closure(wanted: Iterable[str]) -> set[str]:
    """The names of distributions that these need, themselves too, of those installed here."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    due = [(Requirement(w), frozenset(Requirement(w).extras)) for w in wanted]
    seen = set()
    while due:
        of, extras = due.pop()
        if (of.name, extras) in seen:
            continue
        seen.add((of.name, extras))
        try:
            needed = distribution(of.name).requires or ()
        except PackageNotFoundError:
            raise AssertionError(f"{of} is declared and not installed") from None
        found.add(re.sub(r"[-_.]+", "-", of.name).lower())
        for text in needed:
            r = Requirement(text)
            if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in (*extras, "")):
                due.append((r, frozenset(r.extras)))
    return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages: the wheel, and of this environment what it and a cluster's Spark need."""
    root = tmp_path_factory.mktemp("wheel")
    for name in ("spark_jobs", "contracts"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, root / "source" / name, symlinks=True, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    source = root / "source" / "spark_jobs"
    built = [*pip, "wheel", *offline, "--no-build-isolation", "-w", root, source]
    subprocess.run(built, check=True)
    (wheel,) = root.glob("spark_jobs-*.whl")
    packages = root / "packages"
    subprocess.run([*pip, "install", *offline, "--target", packages, wheel], check=True)
    declared = tomllib.loads((source / "pyproject.toml").read_text())["project"]["dependencies"]
    for name in closure([*declared, *OF_THE_CLUSTER]):
        of = distribution(name)
        for top in {Path(f).parts[0] for f in of.files or () if not str(f).startswith("..")}:
            here, there = Path(str(of.locate_file(top))), packages / top
            if here.exists() and not there.exists() and top != "__pycache__":
                there.symlink_to(here)
    return packages


def python(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python that finds the standard library and the folder of packages, and nothing else."""
    program = (
        "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p];"
        f"sys.path.insert(0, {str(installed)!r});"
    )
    command = [sys.executable, "-I", "-S", "-c", program + arguments[0], *arguments[1:]]
    return subprocess.run(command, cwd=installed, capture_output=True, text=True)


RUN = "from spark_jobs.__main__ import main; main()"


def test_the_wheel_brings_no_orchestrator_no_warehouse_and_no_engine() -> None:
    declared = tomllib.loads((PROJECT / "spark_jobs" / "pyproject.toml").read_text())
    ours = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    dependencies = declared["project"]["dependencies"]
    assert not set(dependencies) - set(ours), "pinned as in the project itself"
    names = closure(dependencies)
    assert "dagster-pipes" in names
    assert not {n for n in names - {"dagster-pipes"} if n.startswith(FORBIDDEN)}


def test_every_module_imports_with_what_the_wheel_declares(installed: Path) -> None:
    every = (
        "import pkgutil, importlib, spark_jobs\n"
        "for m in pkgutil.walk_packages(spark_jobs.__path__, 'spark_jobs.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
        "print(spark_jobs.__file__)"
    )
    done = python(installed, every)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == str(installed / "spark_jobs" / "__init__.py")


def test_a_table_runs_by_the_contracts_inside_the_wheel(installed: Path, tmp_path: Path) -> None:
    lake = TinyLake(tmp_path)
    fx = "as_of_date,base_currency,ccy,rate\n2026-10-05,EUR,USD,1.17\n2026-10-05,EUR,GBP,0.87\n"
    lake.land("fx_rates", MONDAY, "rates.csv", fx)
    theirs = {"contracts": INSTALLED, "contracts_sha256": digest(PROJECT / "contracts")}
    spec = lake.spec("bronze.fx_rates", MONDAY, **theirs).model_dump_json()
    done = python(installed, RUN, "run", "--spec", spec)
    assert done.stdout, done.stderr[-2000:]
    report = TableReport.model_validate(json.loads(done.stdout))
    assert (done.returncode, report.counts.read) == (0, 2), done.stderr[-2000:]


def test_a_table_runs_by_contracts_at_a_uri_and_by_no_others(tmp_path: Path, sail) -> None:
    lake = TinyLake(tmp_path, sail)
    lake.define(bronze("feed", "csv", column("id")))
    lake.land("feed", MONDAY, "feed.csv", "id\n1\n")
    there = {"contracts": f"file://{lake.contracts}", "contracts_sha256": digest(lake.contracts)}
    spec = lake.spec("bronze.feed", MONDAY, **there)
    assert not run_table(spec, sail).failed
    lake.define(bronze("feed", "csv", column("id"), column("more")))
    with pytest.raises(ContractError, match=r"have SHA-256 \w{64}, and the run was specified for"):
        run_table(spec, sail)
    with pytest.raises(ValidationError, match="need contracts_sha256"):
        lake.spec("bronze.feed", MONDAY, contracts="s3://bucket/contracts")
