"""The session that a job finds, classic or of Spark Connect, answers as the embedded engine does: in
this environment's PySpark, and in that of EMR Serverless where `make conformance-emr` has prepared it.

Here: agreement, and that the session stays what it was. Not here: what is asked (answers.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spark_jobs.engines.session import Engine
from tests.conformance.agreement import differences
from tests.conformance.answers import answers
from tests.conformance.stories import STORIES

PROJECT = Path(__file__).parents[2]
SPARK_40 = PROJECT / ".venv-spark40" / "bin" / "python"
ALL = tuple(STORIES)
# What every other test of conformance runs on is a client of Connect, and this release.
FEW = ("upsert", "snapshot")
SESSIONS = [
    pytest.param((python, kind, stories), marks=marks, id=f"{kind} {release}")
    for release, python, kind, stories, marks in (
        ("4.2", sys.executable, "classic", FEW, [pytest.mark.jvm]),
        ("4.2", sys.executable, "connect", FEW, [pytest.mark.jvm]),
        ("4.0", str(SPARK_40), "classic", ALL, [pytest.mark.jvm, pytest.mark.spark40]),
        ("4.0", str(SPARK_40), "connect", FEW, [pytest.mark.jvm, pytest.mark.spark40]),
    )
]


@pytest.fixture(scope="module")
def ours(sail: Engine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return answers(sail, tmp_path_factory.mktemp("sail"), ALL)


@pytest.fixture(scope="module", params=SESSIONS)
def theirs(request: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process with such a session answered."""
    python, kind, stories = request.param
    if not Path(python).exists():
        # `scripts/test` says what it left out, and fails in CI
        pytest.skip("no environment with PySpark 4.0: make conformance-emr prepares it")
    out = tmp_path_factory.mktemp("answers") / "answers.json"
    command = [python, "-m", "tests.conformance.answers", kind, str(out), json.dumps(stories)]
    # A job finds none of what an engine of this process has set.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SPARK_")}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(out.read_text())
    release = "4.0." if python == str(SPARK_40) else "4.2."
    assert found["pyspark"].startswith(release)
    return found | {"stories": stories}


def test_it_answers_as_the_embedded_engine_does(ours: Any, theirs: Any) -> None:
    found = theirs["answers"]
    left_out = tuple(f"{name}, batch " for name in STORIES if name not in theirs["stories"])
    asked = {name: answer for name, answer in ours.items() if not name.startswith(left_out)}
    assert found.keys() == asked.keys() and len(asked) > 100
    wrong = {
        name: differences(ours=answer, theirs=found[name])
        for name, answer in asked.items()
        if answer != found[name]
    }
    assert not wrong, f"{len(wrong)} answers differ: {json.dumps(wrong, indent=1)[:5000]}"


def test_it_is_left_running(theirs: Any) -> None:
    assert theirs["left running"]


def test_a_setting_that_it_does_not_take_is_named(theirs: Any) -> None:
    assert "spark.sql.warehouse.dir has to be /elsewhere" in theirs["refusal"]


def test_a_session_of_this_process_goes_on_when_its_guest_has_gone(sail: Engine) -> None:
    with Engine.start("ambient") as guest:
        assert guest.spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert sail.spark.range(3).count() == 3
