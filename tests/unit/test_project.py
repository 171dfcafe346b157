"""The project's own files: what Dagster, make, pip and a fresh machine expect of them.

Not here: whether the definitions are right (their own tests), only that they are found.
"""

from __future__ import annotations

import importlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from dagster._core.workspace.config_schema import ensure_workspace_config  # noqa: TID251
from dagster_cloud_cli.config.models import DagsterCloudYaml

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def run(*command: str | Path, cwd: Path = PROJECT, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


# -- Dagster ---------------------------------------------------------------------------------


def test_workspace_yaml_is_valid_and_names_a_module_that_imports():
    read = yaml.safe_load((PROJECT / "workspace.yaml").read_text())
    (location,) = ensure_workspace_config(read, "workspace.yaml")["load_from"]
    assert location["python_module"]["location_name"] == "lakehouse"
    importlib.import_module(location["python_module"]["module_name"])


def test_dagster_cloud_yaml_is_valid_and_names_the_same_code():
    (location,) = DagsterCloudYaml.model_validate(
        yaml.safe_load((PROJECT / "dagster_cloud.yaml").read_text())
    ).locations
    workspace = yaml.safe_load((PROJECT / "workspace.yaml").read_text())
    (local,) = workspace["load_from"]
    assert location.location_name == local["python_module"]["location_name"]
    assert location.code_source.module_name == local["python_module"]["module_name"]


@pytest.mark.parametrize(
    "command",
    [
        ("dagster", "definitions", "validate", "-w", "workspace.yaml"),
        ("dg", "check", "defs"),
        ("dg", "list", "defs", "--json"),
    ],
    ids=" ".join,
)
def test_dagsters_own_commands_accept_the_project(command, tmp_path):
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    said = run(BIN / command[0], *command[1:], DAGSTER_HOME=str(tmp_path))
    assert said.returncode == 0, said.stdout + said.stderr


# -- The environment -------------------------------------------------------------------------


def lock_entries() -> dict[str, str]:
    """Each requirement of the lock with its lines."""
    entries = re.split(r"^(?=[^\s#])", (PROJECT / "requirements.lock").read_text(), flags=re.M)
    return {entry.split("==")[0]: entry for entry in entries if not entry.startswith("#")}


def test_every_locked_requirement_has_a_version_and_a_hash():
    unpinned = [
        name
        for name, entry in lock_entries().items()
        if not re.match(r"\S+==\S+ ", entry) or "--hash=sha256:" not in entry
    ]
    assert unpinned == []


def test_the_lock_covers_every_dependency_and_extra():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *itertools.chain.from_iterable(extras)]
    names = {re.match(r"[A-Za-z0-9_.-]+", each)[0].lower().replace("_", "-") for each in wanted}
    assert names <= lock_entries().keys()


def test_the_lock_for_another_spark_differs_in_spark_and_delta_alone():
    def pins(lock: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9.-]+==[^ ]+", (PROJECT / lock).read_text(), re.M))

    others = pins("requirements-spark40.lock") - pins("requirements.lock")
    assert others == {"delta-spark==4.0.0", "pyspark==4.0.2"}


def test_what_is_shipped_is_locked_to_the_same_versions():
    def pins(lock: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9.-]+==[^ ]+", (PROJECT / lock).read_text(), re.M))

    shipped = (PROJECT / "spark_jobs/pyproject.toml").read_text()
    wanted = tomllib.loads(shipped)["project"]["dependencies"]
    names = {re.match(r"[A-Za-z0-9_.-]+", each)[0] for each in wanted}
    assert pins("requirements-jobs.lock") <= pins("requirements.lock")
    assert names <= {pin.partition("==")[0] for pin in pins("requirements-jobs.lock")}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-jobs.lock"])
def test_the_lock_names_no_registry(lock):
    text = (PROJECT / lock).read_text()
    assert not re.search(r"://|index-url|find-links|trusted-host", text)


def test_the_project_installs_the_two_planes_and_their_data():
    said = run(
        sys.executable,
        "-c",
        "from setuptools.config.pyprojecttoml import read_configuration as read\n"
        "tools = read('pyproject.toml')['tool']['setuptools']\n"
        "print(*tools['packages']); print(*sorted(tools['package-dir'].items()))",
    )
    packages = said.stdout.splitlines()[0].split()
    assert {package.split(".")[0] for package in packages} == {"lakehouse", "spark_jobs"}


# -- The commands ----------------------------------------------------------------------------


def test_make_help_describes_every_target():
    makefile = (PROJECT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY:(.*)$", makefile, re.M)[1].split()
    described = dict(
        re.match(r"make (\S+)\s+(\S.*)$", line).groups()
        for line in run("make", "--no-print-directory", "help").stdout.splitlines()
    )
    assert described.keys() == set(targets)
    assert {"run", "test", "test-fast", "ui", "bench", "lint", "docs", "clean"} <= described.keys()


@pytest.fixture
def bare_machine(tmp_path):
    """A copy of `scripts/test` where Python finds no Java, and apt-get has nothing to offer."""
    shutil.copytree(PROJECT / "scripts", tmp_path / "scripts")
    for tool, script in {
        ".venv/bin/python": 'case "$*" in\n'
        "*find_java*) exit 1 ;;\n"
        "*--collect-only*jvm*) echo tests/conformance/test_some.py: 4 ;;\n"
        "*--collect-only*) ;;\n"
        "*) echo pytest got: $@; echo 3 passed ;;\n"
        "esac",
        "bin/apt-get": "exit 100",
        "bin/sudo": "exit 1",
        "bin/chromium": "exit 0",
        ".venv-spark40/bin/python": "exit 0",
    }.items():
        path = tmp_path / tool
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return tmp_path


def test_without_java_the_rest_runs_and_the_last_line_says_what_did_not(bare_machine):
    path = f"{bare_machine / 'bin'}{os.pathsep}{os.environ['PATH']}"
    said = run(bare_machine / "scripts" / "test", "-q", cwd=bare_machine, PATH=path, CI="")
    assert (
        "pytest got: -m pytest -n 2 --dist loadfile --no-loadscope-reorder"
        " -m not rehearsal and not jvm -q"
    ) in said.stdout
    assert said.stdout.splitlines()[-1] == (
        "Not run, for want of Java 17 or later (Debian, Ubuntu: apt-get install "
        "openjdk-17-jre-headless): the tests marked jvm in tests/conformance/test_some.py "
    )
    assert said.returncode == 0


def test_without_the_other_pyspark_its_tests_are_left_out_by_name(bare_machine):
    python = bare_machine / ".venv/bin/python"
    collect = "*--collect-only*spark40*) echo tests/integration/test_emr_runner.py: 10 ;;"
    with_java = python.read_text().replace("find_java*) exit 1", "find_java*) exit 0")
    python.write_text(with_java.replace("*--collect-only*)", f"{collect}\n*--collect-only*)"))
    (bare_machine / ".venv-spark40/bin/python").unlink()
    path = f"{bare_machine / 'bin'}{os.pathsep}{os.environ['PATH']}"
    said = run(bare_machine / "scripts" / "test", cwd=bare_machine, PATH=path, CI="true")
    assert "-m not rehearsal and not spark40" in said.stdout
    assert said.stdout.splitlines()[-1] == (
        "Not run, for want of PySpark 4.0 beside the other (make conformance-emr): the tests marked"
        " spark40 in tests/integration/test_emr_runner.py "
    )
    assert said.returncode == 1


def test_without_java_continuous_integration_fails(bare_machine):
    path = f"{bare_machine / 'bin'}{os.pathsep}{os.environ['PATH']}"
    said = run(bare_machine / "scripts" / "test", cwd=bare_machine, PATH=path, CI="true")
    assert said.returncode == 1
    assert "3 passed" in said.stdout


# -- The tree --------------------------------------------------------------------------------


def test_no_file_names_a_path_of_one_machine():
    files = run("git", "ls-files", "--cached", "--others", "--exclude-standard").stdout.split("\n")
    assert "Makefile" in files
    places = re.compile(rb"(?<![\w.$}])/(?:work|root|home/\w+|Users/\w+)/")
    found = [
        f"{name}: {match[0].decode()}"
        for name in files
        if (PROJECT / name).is_file() and (match := places.search((PROJECT / name).read_bytes()))
    ]
    assert found == []
