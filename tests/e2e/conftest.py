"""Copies of the project with a small lake in them, in which a test may do as people do.

Here: the copy, running a block of a document in it, and an environment of one's own. Not here: what a
document promises.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.documents import PROJECT, Block

# A few days are enough for every command of the documents; they name these days.
SAMPLE = ("--days", "3", "--scale", "0.003")


@dataclass(frozen=True)
class ProjectCopy:
    """A copy of the project; `.lakehouse` in it is a lake of its own."""

    root: Path

    @property
    def lake(self) -> Path:
        return self.root / ".lakehouse" / "lake"

    def run(self, script: str, expected: int = 0) -> str:
        """Runs a shell script as a person in the copy would, and returns what was said."""
        environment = {
            n: v for n, v in os.environ.items() if not n.startswith(("LAKEHOUSE", "DAGSTER"))
        }
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        # Before the environment's own, which are those of the project that was copied.
        environment["PYTHONPATH"] = f"{self.root}{os.pathsep}{self.root / 'platform'}"
        said = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        output = said.stdout + said.stderr
        assert said.returncode == expected, f"{script}\nexit code {said.returncode}\n{output}"
        assert "Traceback" not in output, output
        return output

    def run_block(self, block: Block) -> str:
        try:
            return self.run(block.text, block.expected_exit_code)
        except AssertionError as error:
            raise AssertionError(f"{block}\n{error}") from None

    def write(self, block: Block) -> None:
        """Writes a block to the file that its title names."""
        path = self.root / block.title
        assert not path.exists(), f"{block}: {block.title} is there already"
        path.write_text(block.text)


def copy_project(to: Path) -> ProjectCopy:
    """Everything that git knows or would take, as it is now."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        source = PROJECT / name
        if source.is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to / name)
    return ProjectCopy(to)


@contextmanager
def elsewhere(home: Path, **variables: str) -> Iterator[None]:
    """An environment that knows of no cloud but what is given."""
    theirs = ("AWS_", "DATABRICKS_", "LAKEHOUSE_", "SSL_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(theirs)}
    with patch.dict(os.environ, clear=True):
        os.environ.update(kept | variables, LAKEHOUSE_HOME=str(home))
        yield


@pytest.fixture(scope="session")
def small_lake(tmp_path_factory: pytest.TempPathFactory) -> ProjectCopy:
    """A copy that has been run once. Nobody changes it."""
    copy = copy_project(tmp_path_factory.mktemp("project") / "lakehouse")
    copy.run(f"lakehouse run {' '.join(SAMPLE)}")
    return copy


@pytest.fixture
def project(small_lake: ProjectCopy, tmp_path: Path) -> Iterator[ProjectCopy]:
    """A copy with a small lake, for one test."""
    root = tmp_path / "lakehouse"
    shutil.copytree(small_lake.root, root, symlinks=True)
    yield ProjectCopy(root)
    shutil.rmtree(root, ignore_errors=True)
