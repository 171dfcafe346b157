"""What is shipped: the same tree gives the same version, and a store never has half of one.

Here: building, pushing and choosing, with real wheels and packages from the index that pip is set to.
Not here: that a job runs on what was shipped (tests/integration/test_emr_runner.py).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

from lakehouse.artifacts.artifact import (
    CURRENT,
    ArtifactError,
    artifact_in,
    current,
    manifest,
    versions,
)
from lakehouse.artifacts.build import LOCK, Built, build
from lakehouse.artifacts.push import push
from lakehouse.artifacts.store import FolderStore
from lakehouse.engines.remote import Shipping
from lakehouse.keys import ARTIFACT_TAG
from lakehouse.settings.artifacts import ArtifactSettings, Target
from spark_jobs.contract.location import digest
from spark_jobs.report import INSTALLED, ZONES, RunSpec
from tests.documents import PROJECT

pytestmark = pytest.mark.slow


def small_lock() -> str:
    """The lines of one small package in the lock."""
    lines = (PROJECT / LOCK).read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("tenacity=="))
    more = [line for line in lines[first + 1 : first + 3] if line.startswith("    --hash")]
    return "\n".join([lines[first], *more]) + "\n"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source tree of its own, whose packages are few."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("spark_jobs", "contracts"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, root / name, symlinks=True, ignore=ignored)
    (root / LOCK).write_text(small_lock())
    return root


@pytest.fixture(scope="module")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tree, Target(), tmp_path_factory.mktemp("build"))


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(str(tmp_path / "artifacts"))


def test_the_same_tree_gives_the_same_bytes_elsewhere_and_later(
    tree: Path, built: Built, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tree, elsewhere, symlinks=True)
    for path in elsewhere.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o600)
            os.utime(path, (time.time() + 5000, time.time() + 5000))
    again = build(elsewhere, Target(), tmp_path / "build")
    assert again.artifact == built.artifact
    assert again.files[again.artifact.wheel] == built.files[built.artifact.wheel]
    assert again.packages().read_bytes() == built.packages().read_bytes()


@pytest.mark.parametrize("changed", ["spark_jobs/columns.py", "contracts/gold/dim_date.yaml", LOCK])
def test_another_tree_has_another_version(
    tree: Path, built: Built, tmp_path: Path, changed: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tree, elsewhere, symlinks=True)
    with (elsewhere / changed).open("a") as file:
        file.write("# changed\n")
    again = build(elsewhere, Target(), tmp_path / "build").artifact
    assert again.version != built.artifact.version
    assert (again.contracts_sha256 != built.artifact.contracts_sha256) == (
        changed.startswith("contracts")
    )


def test_another_python_or_processor_gets_other_packages(tree: Path, tmp_path: Path) -> None:
    names = {
        build(tree, Target(python=p, architecture=a), tmp_path).artifact.packages
        for p, a in (("3.11", "x86_64"), ("3.12", "x86_64"), ("3.11", "arm64"))
    }
    assert len(names) == 3


def test_the_wheel_has_the_contracts_and_the_packages_what_the_lock_pins(built: Built) -> None:
    wheel = built.files[built.artifact.wheel]
    names = zipfile.ZipFile(BytesIO(wheel)).namelist()
    assert "spark_jobs/contracts/silver/orders.yaml" in names and "spark_jobs/run.py" in names
    with tarfile.open(built.packages()) as tar:
        packed = tar.getnames()
    assert "tenacity/__init__.py" in packed
    assert not [n for n in packed if n.startswith(("/", "bin/")) or "__pycache__" in n]


def test_a_package_that_is_not_what_the_lock_pins_is_refused(tree: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tree, elsewhere, symlinks=True)
    name = small_lock().split("\n")[0]
    (elsewhere / LOCK).write_text(f"{name}\n    --hash=sha256:{'0' * 64}\n")
    with pytest.raises(ArtifactError, match=r"(?s)downloading the packages.*DO NOT MATCH"):
        build(elsewhere, Target(), tmp_path / "build").packages()
    assert not list((tmp_path / "build").glob("*.tar.gz*"))


def test_a_push_is_idempotent_and_a_change_becomes_the_current_one(
    tree: Path, built: Built, store: FolderStore, tmp_path: Path
) -> None:
    first = push(built, store)
    assert first.before is None and CURRENT in first.written
    assert push(built, store).written == []
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tree, elsewhere, symlinks=True)
    (elsewhere / "spark_jobs" / "columns.py").write_text("")
    other = build(elsewhere, Target(), tmp_path / "build")
    second = push(other, store)
    assert second.before == built.artifact.version
    assert other.artifact.packages not in second.written, "the lock is the same"
    assert current(store) == other.artifact.version
    assert set(versions(store)) == {built.artifact.version, other.artifact.version}
    assert artifact_in(store, built.artifact.version) == built.artifact
    assert artifact_in(store).version == other.artifact.version


def test_a_push_that_was_cut_off_is_seen_by_nobody_and_completed_by_the_next(
    built: Built, store: FolderStore
) -> None:
    class CutOff(FolderStore):
        def write(self, name: str, content: bytes | Path) -> None:
            if name == manifest(built.artifact.version):
                raise KeyboardInterrupt
            super().write(name, content)

    with pytest.raises(KeyboardInterrupt):
        push(built, CutOff(store.root))
    assert store.size(built.artifact.wheel) and versions(store) == []
    with pytest.raises(ArtifactError, match="nothing has been shipped there"):
        artifact_in(store)
    push(built, store)
    assert versions(store) == [built.artifact.version] == [current(store)]


@dataclass
class Step:
    """What a shipment is made from, of a step's context."""

    tags: dict[str, str]
    retry_number: int = 0

    @property
    def run(self) -> Step:
        return self

    run_id = "0f1e2d3c"
    op_handle = "gold__dim_date"

    @property
    def op_execution_context(self) -> Step:
        return self


def test_a_run_uses_the_current_artifact_or_the_one_that_it_asks_for(
    tree: Path, built: Built, store: FolderStore, tmp_path: Path
) -> None:
    push(built, store)
    old, elsewhere = built.artifact, tmp_path / "elsewhere"
    shutil.copytree(tree, elsewhere, symlinks=True)
    with (elsewhere / "contracts/gold/dim_date.yaml").open("a") as file:
        file.write("# changed\n")
    new = build(elsewhere, Target(), tmp_path / "build")
    push(new, store)
    zones = {zone: f"/lake/{zone}" for zone in ZONES}
    spec = RunSpec(table="gold.dim_date", contracts="here", zones=zones, run_id="0f1e2d3c")

    shipping = Shipping(store, elsewhere / "contracts")
    shipped = shipping.ship(Step({}), spec)
    assert (shipped.spec.artifact, shipped.artifact) == (new.artifact.version, new.artifact)
    push(built, store)
    assert shipping.ship(Step({}), spec).artifact == new.artifact, "of an attempt that was sent"
    with pytest.raises(ArtifactError, match=r"has other contracts than .*deploy push"):
        shipping.ship(Step({}, retry_number=1), spec)
    repeated = shipping.ship(Step({ARTIFACT_TAG: old.version}, retry_number=2), spec)
    assert repeated.spec.contracts_sha256 == old.contracts_sha256
    sent = json.loads(store.read(f"{repeated.attempt.folder}/spec.json"))
    assert sent["artifact"] == old.version and sent["contracts"] == INSTALLED
    assert "then" not in sent and "cores" not in sent, "an older artifact would not know them"
    pinned = Shipping(store, tree / "contracts", old.version)
    assert pinned.ship(Step({}, retry_number=3), spec).artifact == old


def test_contracts_of_an_artifact_are_those_that_it_was_built_with(
    built: Built, store: FolderStore
) -> None:
    push(built, store)
    assert digest(store.uri(built.artifact.contracts)) == built.artifact.contracts_sha256


def test_an_unknown_version_is_refused_with_what_to_do(built: Built, store: FolderStore) -> None:
    push(built, store)
    with pytest.raises(ArtifactError, match=r"no artifact of version 0123.*deploy status"):
        artifact_in(store, "0123456789abcdef")


def test_a_location_with_a_login_is_refused() -> None:
    with pytest.raises(ValueError, match="holds a login"):
        ArtifactSettings(location="s3://me:secret@bucket")


def test_the_commands_ship_the_project_and_say_when_it_has_changed(
    tree: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(tree, project, symlinks=True)
    shutil.copy(PROJECT / "pyproject.toml", project)

    def said(command: str, code: int = 0) -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name("lakehouse"), "deploy", command],
            cwd=project,
            env=os.environ | {"LAKEHOUSE_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    assert "nothing" in said("status", 1)
    version = said("build").partition(":")[0]
    assert f"{version} is the current one" in said("push")
    assert f"{version} is there" in said("push")
    assert f"{version}  current, what is here" in said("status")
    (project / "spark_jobs" / "columns.py").write_text("")
    assert f"{version}  current\n" in said("status", 1)
