"""A day without an orchestrator: what is due runs, and a day that is not whole is not called good.

Here: the commands that a workflow calls, on the embedded engine. Not here: workflows (test_bundle.py).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spark_jobs import workflow
from spark_jobs.engines.session import Engine
from spark_jobs.errors import InputError
from spark_jobs.report import LakeSpec
from tests.integration.dagster_lake import people_lake
from tests.lakes import MONDAY, TUESDAY, TinyLake

BAD = b"id,email,updated\n1,\xff\xfe,2026\n"
BRONZE, SILVER = "bronze.people", "silver.people"


@pytest.fixture
def people(tmp_path: Path, sail: Engine):
    with people_lake(tmp_path) as dagster:
        dagster.lake.engine = sail
        yield dagster.lake


def spec(lake: TinyLake) -> LakeSpec:
    return LakeSpec(contracts=str(lake.contracts), zones=lake.zones, run_id="by hand")


def run(lake: TinyLake, *layers: str, day: str = MONDAY) -> workflow.Outcome:
    with workflow.day_of(spec(lake), day) as due:
        return due.run(layers or ("bronze", "silver", "gold"), lake.engine)


def judged(lake: TinyLake, day: str = MONDAY) -> list[str]:
    with workflow.day_of(spec(lake), day) as due:
        return due.judged()


def test_a_day_is_run_layer_by_layer_and_then_it_is_good(people: TinyLake) -> None:
    assert run(people, "silver").published == {}, "nothing of bronze is there"
    assert run(people, "bronze").published == {BRONZE: 2}
    assert judged(people) == [f"{SILVER} {MONDAY}: was never run"]
    assert run(people, "silver", "gold").published == {SILVER: 2}
    assert judged(people) == []
    assert run(people).published == {BRONZE: 0, SILVER: 0}, "it had changed nothing"


def test_a_table_that_fails_fails_the_day_and_holds_what_depends_on_it(people: TinyLake) -> None:
    people.land("people", MONDAY, "people.csv", BAD)
    outcome = run(people)
    assert [f.split(":")[0] for f in outcome.failed] == [f"{BRONZE} {MONDAY}"]
    assert SILVER not in outcome.published
    (wrong,) = judged(people)
    assert wrong.startswith(f"{BRONZE} {MONDAY}: its newest run failed")


def test_a_day_that_is_over_and_was_not_delivered_is_not_good(people: TinyLake) -> None:
    assert judged(people, "2026-10-20") == [f"{BRONZE} 2026-10-20: nothing was delivered"]
    assert judged(people, "2126-10-20") == [], "it is not over"


def test_what_is_no_day_is_refused(people: TinyLake) -> None:
    with pytest.raises(InputError, match="is no day"):
        judged(people, "2026-10")


@pytest.mark.slow
def test_the_commands_tell_by_their_exit_code(people: TinyLake) -> None:
    path = people.root / "lake.json"
    path.write_text(spec(people).model_dump_json())

    def told(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "spark_jobs", *arguments, "--spec", str(path)]
        return subprocess.run(command, capture_output=True, text=True)

    assert told("judge", "--day", MONDAY).returncode == 1
    done = told("day", "--day", MONDAY, "--layer", "bronze")
    assert done.returncode == 0 and f"{BRONZE}: 2 rows published" in done.stdout, done.stderr
    people.land("people", TUESDAY, "people.csv", BAD)
    failed = told("day", "--day", TUESDAY, "--layer", "bronze")
    assert failed.returncode == 1 and f"{BRONZE} {TUESDAY}: " in failed.stderr
    assert told("judge", "--day", "never").returncode == 2
