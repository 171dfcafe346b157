"""Tables run through Dagster on the embedded engine: events, checks and the lake say the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse.cli.lake_run import Request, materialize_lake
from lakehouse.definitions import build_definitions
from lakehouse.engines import shared
from lakehouse.engines.ledger import LakeLedger
from lakehouse.keys import REST_TAG, name_of
from spark_jobs.engines import session as engines
from spark_jobs.engines.session import Engine
from tests.integration.dagster_lake import DAYS, DagsterLake, people
from tests.lakes import MONDAY, TUESDAY, WEDNESDAY, copied

PROJECT = Path(__file__).parents[2]
CANARY = "canary.ada@lovelace.org"


def test_a_range_is_published_and_every_partition_says_so(dagster: DagsterLake) -> None:
    outcome = dagster.run(MONDAY, WEDNESDAY)
    assert outcome.success, outcome.failures
    assert dagster.materialized("bronze.people") == set(DAYS)
    assert dagster.materialized("silver.people") == set(DAYS)
    assert sorted(dagster.lake.rows("silver.people", "id")) == [0, 1, 2, 99]


def test_the_events_account_for_rows_as_the_ledger_does(dagster: DagsterLake) -> None:
    dagster.run(MONDAY, WEDNESDAY)
    for row in dagster.lake.ledger("silver.people"):
        said = dagster.metadata("silver.people", row.partition)
        for count in ("read", "inserted", "updated", "duplicate", "quarantined", "filtered"):
            assert said[count] == getattr(row, count), (row.partition, count)
        assert said["delta_version"] == dagster.lake.versions("silver.people")


def test_every_declared_check_has_one_result(dagster: DagsterLake) -> None:
    outcome = dagster.run(MONDAY, WEDNESDAY)
    definitions = build_definitions(dagster.settings, contracts=dagster.lake.parsed(), marts=False)
    declared = {
        (name_of(k.asset_key), k.name) for k in definitions.resolve_asset_graph().asset_check_keys
    }
    assert {(c.asset, c.name) for c in outcome.checks} == declared
    assert len(outcome.checks) == len(declared)


def test_one_bad_day_publishes_the_others_and_fails_naming_the_day(dagster: DagsterLake) -> None:
    dagster.lake.land("people", TUESDAY, "people.csv", b"id,email,updated\n1,\xff\xfe,2026\n")
    outcome = dagster.run(MONDAY, WEDNESDAY)
    assert not outcome.success
    (failure,) = outcome.failures
    assert failure.assets == ("bronze.people",)
    assert "1 of 3 partitions failed" in failure.reason
    assert f"{TUESDAY}: " in failure.reason
    assert "UTF-8" in failure.reason
    assert outcome.skipped == ["silver.people"]
    assert dagster.materialized("bronze.people") == {MONDAY, WEDNESDAY}
    assert set(dagster.lake.rows("bronze.people", "id")) == {"0", "2", "99"}


def test_the_command_line_runs_the_other_days_downstream_of_a_bad_one(
    dagster: DagsterLake, capsys: pytest.CaptureFixture[str]
) -> None:
    dagster.lake.land("people", TUESDAY, "people.csv", b"id,email,updated\n1,\xff\xfe,2026\n")
    request = Request(MONDAY, WEDNESDAY)
    assert not materialize_lake(dagster.settings, dagster.lake.parsed(), request)
    said = capsys.readouterr().out
    assert f"{TUESDAY}: " in said
    assert "The rest for 2026-10-05, as a run of its own: silver.people" in said
    assert "Held back for 2026-10-06, because something before them failed there" in said
    assert dagster.materialized("silver.people") == {MONDAY, WEDNESDAY}
    assert sorted(dagster.lake.rows("silver.people", "id")) == [0, 2, 99]
    summary = json.loads((dagster.settings.home / "summary.json").read_text())
    assert summary["success"] is False
    assert summary["held_back"] == {"silver.people": [TUESDAY]}
    assert summary["skipped"] == []
    assert summary["tables"]["silver.people"]["partitions"] == 2
    first, *rest = summary["runs"].values()
    for run_id in rest:
        assert dagster.instance.get_run_by_id(run_id).tags[REST_TAG] == first
    assert len(rest) == 2, "a range without holes each"


def test_a_single_bad_day_leaves_no_rest(dagster: DagsterLake) -> None:
    dagster.lake.land("people", TUESDAY, "people.csv", b"\xff\xfe")
    request = Request(TUESDAY, TUESDAY)
    assert not materialize_lake(dagster.settings, dagster.lake.parsed(), request)
    summary = json.loads((dagster.settings.home / "summary.json").read_text())
    assert list(summary["runs"]) == ["lake_daily"]
    assert summary["skipped"] == ["silver.people"]


def test_a_mended_day_turns_its_check_green(dagster: DagsterLake) -> None:
    good = people((1, "p1@x.org", TUESDAY))
    dagster.lake.land("people", TUESDAY, "people.csv", b"\xff\xfe")
    bad = dagster.run(MONDAY, WEDNESDAY)
    assert {c.name for c in bad.checks if not c.passed and c.severity == "ERROR"} == {"row_count"}
    dagster.lake.land("people", TUESDAY, "people.csv", good)
    mended = dagster.run(TUESDAY, TUESDAY)
    assert mended.success, mended.failures
    assert all(c.passed for c in mended.checks if c.severity == "ERROR")
    assert dagster.materialized("bronze.people") == set(DAYS)


def test_a_second_run_changes_nothing_and_says_so(dagster: DagsterLake) -> None:
    dagster.run(MONDAY, WEDNESDAY)
    versions = [dagster.lake.versions(t) for t in ("bronze.people", "silver.people")]
    assert dagster.run(MONDAY, WEDNESDAY).success
    assert [dagster.lake.versions(t) for t in ("bronze.people", "silver.people")] == versions
    assert dagster.metadata("silver.people", TUESDAY)["status"] == "published"


def test_a_run_with_nothing_to_do_has_no_event_per_partition(dagster: DagsterLake) -> None:
    first = dagster.run(MONDAY, WEDNESDAY)
    again = dagster.run(MONDAY, WEDNESDAY)
    assert (again.success, again.skipped) == (True, [])
    kinds = (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION)
    made, observed = (dagster.instance.all_logs(again.run_id, of_type=k) for k in kinds)
    assert not made
    assert [e.get_dagster_event().asset_key.path[-2] for e in observed] == ["bronze", "silver"]
    said, before = ({(c.asset, c.name): c.passed for c in r.checks} for r in (again, first))
    assert said == before


def test_the_command_leaves_tables_out_for_which_nothing_has_changed(dagster: DagsterLake) -> None:
    def ran() -> dict[str, Any]:
        assert materialize_lake(dagster.settings, dagster.lake.parsed(), Request(MONDAY, WEDNESDAY))
        found: dict[str, Any] = json.loads((dagster.settings.home / "summary.json").read_text())
        return found

    def told(summary: dict[str, Any]) -> list[tuple[str, str, int, int]]:
        return [
            (name, t["status"], t["checks_passed"], t["checks_warned"] + t["checks_failed"])
            for name, t in sorted(summary["tables"].items())
        ]

    first, again = ran(), ran()
    assert [status for _, status, *_ in told(again)] == ["unchanged", "unchanged"]
    assert [of[2:] for of in told(again)] == [of[2:] for of in told(first)]
    assert (first["changed"], again["changed"], again["runs"]) == (True, False, {})
    assert dagster.instance.get_runs_count() == 1

    dagster.lake.land("people", TUESDAY, "more.csv", people((7, "p7@x.org", TUESDAY)))
    late = ran()
    assert [status for _, status, *_ in told(late)] == ["published", "published"]
    changed = "number('id', 'bigint').alias('id'), F.upper('email').alias('email'),"
    changed += " F.to_timestamp('updated').alias('updated')"
    dagster.lake.write_transform("silver", "people", copied(table="people", extra=changed))
    (run,) = ran()["runs"].values()
    started = dagster.instance.all_logs(run, of_type=dg.DagsterEventType.STEP_START)
    assert [e.step_key for e in started] == ["silver__people"], "bronze has nothing to do"


def test_the_command_runs_what_this_instance_does_not_know_and_what_cannot_be_told(
    dagster: DagsterLake,
) -> None:
    request = Request(MONDAY, WEDNESDAY)
    assert materialize_lake(dagster.settings, dagster.lake.parsed(), request)
    dagster.instance.wipe_assets([dg.AssetKey(["bronze", "people"])])
    assert materialize_lake(dagster.settings, dagster.lake.parsed(), request)
    assert dagster.materialized("bronze.people") == set(DAYS)
    assert dagster.metadata("silver.people", TUESDAY)["status"] == "published"
    dagster.lake.land("people", TUESDAY, "people.csv", b"\xff\xfe")
    assert not materialize_lake(dagster.settings, dagster.lake.parsed(), request)
    summary = json.loads((dagster.settings.home / "summary.json").read_text())
    assert list(summary["failures"]) == ["bronze.people"]


def test_what_another_instance_did_is_recorded_as_materialized(dagster: DagsterLake) -> None:
    dagster.run(MONDAY, WEDNESDAY)
    with dg.instance_for_test() as other:
        elsewhere = DagsterLake(dagster.lake, dagster.settings, other)
        assert elsewhere.run(MONDAY, WEDNESDAY).success
        assert elsewhere.materialized("silver.people") == set(DAYS)
        assert elsewhere.metadata("silver.people", TUESDAY)["status"] == "unchanged"


def test_a_run_with_nothing_to_do_starts_no_engine(
    dagster: DagsterLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    dagster.run(MONDAY, MONDAY)

    def no_engine(*key: Any) -> Engine:
        raise AssertionError(f"an engine was started: {key}")

    monkeypatch.setattr(shared, "shared_engine", no_engine)
    assert dagster.run(MONDAY, MONDAY).success


RUN = """
import json, sys
from pathlib import Path
from spark_jobs.lake import delta
opened = []
real = delta.read_files
def read_files(table, storage, paths, columns=None):
    opened.extend(paths)
    return real(table, storage, paths, columns)
delta.read_files = read_files
from lakehouse.cli.lake_run import Request, materialize_lake
from lakehouse.settings.load import load_settings
from spark_jobs.contract.reader import load_contracts
settings = load_settings()
contracts = load_contracts(settings.contracts)
first, last = sys.argv[1:]
assert materialize_lake(settings, contracts, Request(first, last))
modules = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"opened": opened, "modules": modules}))
"""


def test_a_run_with_nothing_to_do_imports_no_engine_and_no_dbt_and_reads_a_ledger_file_once(
    tmp_path: Path,
) -> None:
    """On the whole project, marts included, in a process of its own."""
    home = {"LAKEHOUSE_HOME": str(tmp_path)}
    deliver = ["deliver", "--scale", "0.001", "--days", "1"]
    run_of_its_own("-m", "benchmarks.contenders.command", "0", *deliver, **home)
    for _ in range(2):
        said = run_of_its_own("-c", RUN, MONDAY, MONDAY, **home)
    found = json.loads(said.splitlines()[-1])
    assert not {"dbt", "dagster_dbt", "pyspark", "pysail"} & set(found["modules"])
    assert found["opened"], "the ledger was read"
    assert len(found["opened"]) == len(set(found["opened"]))


def run_of_its_own(*arguments: str, **variables: str) -> str:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LAKEHOUSE", "DAGSTER"))}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env=inherited | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_forced_run_does_the_work_again(dagster: DagsterLake) -> None:
    dagster.run(MONDAY, MONDAY)
    dagster.run(MONDAY, MONDAY, **{"lakehouse/force": "true"})
    assert dagster.metadata("bronze.people", MONDAY)["status"] == "published"


def test_a_wrong_transform_fails_for_good_and_names_the_columns(dagster: DagsterLake) -> None:
    document = {"silver.people": copied(table="people", extra="number('id', 'bigint').alias('id')")}
    dagster.lake.write_transform("silver", "people", document["silver.people"])
    outcome = dagster.run(MONDAY, MONDAY)
    (failure,) = outcome.failures
    assert "missing: email, updated" in failure.reason
    retries = dagster.instance.all_logs(
        outcome.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY
    )
    assert not retries


def test_no_personal_value_reaches_the_run_history(dagster: DagsterLake) -> None:
    dagster.lake.land(
        "people", MONDAY, "people.csv",
        people((1, f"{CANARY}", MONDAY), (2, CANARY.replace("@", "-at-"), MONDAY),
               (3, "x@y.z", MONDAY)) + f"4,{CANARY},2026-10-05,one field too many\n",
    )  # fmt: skip
    assert dagster.run(MONDAY, WEDNESDAY).success
    sample = dagster.metadata("silver.people", WEDNESDAY)["quarantine_sample"]
    assert "email_pattern" in sample
    history = b"".join(
        p.read_bytes() for p in dagster.settings.dagster_home.rglob("*") if p.is_file()
    )
    assert b"email_pattern" in history
    for canary in (CANARY, CANARY.replace("@", "-at-")):
        assert canary.encode() not in history


def test_runs_share_one_engine_that_stops_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Engine] = []
    real = Engine.start

    def start(*args: Any, **kwargs: Any) -> Engine:
        started.append(real(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(engines.Engine, "start", start)
    alone = shared._Engines()
    with alone.held():
        first = alone.get(("sail", 1, None, None))
        alone.release()  # what the end of a run does
        assert alone.get(("sail", 1, None, None)) is first
    assert len(started) == 1
    assert first not in engines._running, "stopped when nobody holds it any more"


def test_the_ledger_is_that_of_the_settings(dagster: DagsterLake) -> None:
    ledger = LakeLedger.of(dagster.settings)
    assert ledger.zones == dagster.settings.zones
    assert ledger.history("bronze.people") == []
