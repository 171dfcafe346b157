"""The sample lake as production runs it (tables as jobs of EMR Serverless on S3, marts in Redshift) has
the rows, the quarantine and the marts of the same lake on a laptop.

Run by `make conformance-cloud`: it takes longer than anybody wants to wait for all other tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.documents import PROJECT

pytestmark = [pytest.mark.jvm, pytest.mark.slow, pytest.mark.rehearsal]

SAMPLE = ("--scale", "0.002", "--days", "2")
# What became of rows; seconds, and versions of Delta, are each lake's own.
SAME = (
    "kind", "status", "partitions", "partitions_failed", "read", "published", "duplicate",
    "quarantined", "filtered", "added", "rows",
)  # fmt: skip


def lakehouse(home: Path, *arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("lakehouse")), *arguments, *SAMPLE]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env={**environment, "LAKEHOUSE_HOME": str(home), "LAKEHOUSE_ENV": "local"},
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def summary(path: Path) -> dict[str, dict[str, Any]]:
    return {
        name: {key: of[key] for key in SAME}
        for name, of in json.loads(path.read_text())["tables"].items()
    }


@pytest.mark.timeout(3600)
def test_production_gives_the_answers_of_a_laptop(tmp_path: Path) -> None:
    lakehouse(tmp_path, "run")
    said = lakehouse(tmp_path, "rehearse")
    here = summary(tmp_path / "summary.json")
    there = summary(tmp_path / "rehearsal" / "summary.json")
    assert there.keys() >= here.keys() and len(here) >= 35
    assert {name: there[name] for name in here} == here
    assert "is the current one at s3://" in said
