"""No value of a row is anywhere but in the lake's data files.

A lake whose landing files hold canaries in every column (personal, unclassified and unknown ones,
bad rows, a file without header, lines that do not parse) is run by Dagster and looked at by the
command line; then every other byte is searched, compressed ones too. Not here: what is shown of
harmless columns (tests/unit/test_masking.py).
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable

from lakehouse.automation.landing_sensor import NAME as LANDING
from lakehouse.automation.landing_sensor import decode
from lakehouse.cli import main
from lakehouse.definitions import build_definitions
from lakehouse.signals.alerts import announce, finished_run
from tests.integration.dagster_lake import MONDAY, TUESDAY, WEDNESDAY, DagsterLake, people_lake
from tests.lakes import bronze, column

CANARY = re.compile(rb"canary\d", re.IGNORECASE)


@pytest.fixture
def dagster(tmp_path: Path):
    with people_lake(tmp_path) as found:
        yield found


def deliver(dagster: DagsterLake) -> None:
    lake = dagster.lake
    rows = ["1,canary1@x.org,2026-10-05,canary2", "2,canary3,2026-10-05,canary4"]
    broken = ["3,canary5@x.org,2026-10-05,canary6,canary7", "4,canary8,2026-10-05,n"]
    good = [f"{i},p{i}@x.org,2026-10-05,n" for i in range(20, 30)]
    text = "\n".join(["id,email,updated,NEW", *rows, *broken, *good])
    lake.land("people", MONDAY, "people.csv", text + "\n")
    lake.land("people", TUESDAY, "people.csv", "1,canary1@x.org,canary2\n2,canary3@x.org,canary4\n")
    closed = [f"{i},canary{i},2026-10-07" for i in range(1, 9)]
    lake.land("people", WEDNESDAY, "people.csv", "\n".join(["id,email,updated", *closed]) + "\n")


def deliver_nested(dagster: DagsterLake) -> None:
    """Values within values, in columns that nobody declared, and in lines that do not parse."""
    lake = dagster.lake
    lossy = {"max_quarantine_rate": 0.9}
    lake.define(bronze("events", "json", column("id"), column("body"), gates=lossy))
    lake.define(bronze("visits", "parquet", column("id"), column("mail")))
    nested = {"id": "1", "body": {"email": "canary11"}, "extra": {"deep": ["canary12"]}}
    lines = [json.dumps(nested), '{"id": "2", "body": "canary13', '["canary14"]']
    lake.land("events", MONDAY, "events.json", "\n".join(lines) + "\n")
    visits = {"id": ["1"], "mail": ["canary15@x.org"], "note": ["canary16"]}
    lake.land("visits", MONDAY, "visits.parquet", pa.table(visits))
    lake.land("visits", TUESDAY, "visits.parquet", "canary17, which is no Parquet")


def announced(dagster: DagsterLake) -> dict[str, bytes]:
    """What sensors and runs carry beside events: alerts as sent, cursors, requests and tags."""
    definitions = build_definitions(dagster.settings, contracts=dagster.lake.parsed(), marts=False)
    runs = dagster.instance.get_runs()
    for run in runs:
        finished = finished_run(dagster.instance, run, run.is_success, "")
        announce(dagster.instance, run, finished, dagster.settings)
    sensor = definitions.resolve_sensor_def(LANDING)
    with dg.build_sensor_context(
        instance=dagster.instance, repository_def=definitions.get_repository_def()
    ) as context:
        tick = sensor.evaluate_tick(context)
    assert tick.run_requests and "people" in decode(tick.cursor)
    return {
        "cursor": repr(decode(tick.cursor)).encode(),
        "requests": repr(tick.run_requests).encode(),
        "tags": repr([run.tags for run in runs]).encode(),
    }


def said_by_the_command_line(dagster: DagsterLake, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    home = dagster.settings.home
    for command in ("quarantine", "reconcile", "gaps", "backfill"):
        monkeypatch.setattr(f"lakehouse.cli.{command}.load_settings", lambda: dagster.settings)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home))
    # The options of `run` are others, and what it does is the same.
    again = ["backfill", "--from", MONDAY, "--to", WEDNESDAY, "--tables", "bronze,silver"]
    commands = [["quarantine", "list"], [*again, "--force"], ["gaps"], ["reconcile", "--quick"]]
    commands += [["quarantine", "show", f"{layer}.people"] for layer in ("bronze", "silver")]
    done = [CliRunner().invoke(main, command) for command in commands]
    for command, result in zip(commands, done, strict=True):
        assert result.exception is None or isinstance(result.exception, SystemExit), command
    assert "failed" in done[1].output and "bronze.visits" in done[2].output
    assert "email_pattern" in done[0].output and "•••" in done[-1].output
    return [result.output for result in done]


def searched(dagster: DagsterLake) -> dict[str, bytes]:
    """Every byte below home but landing and the data files of zones; the ledger's decoded."""
    home, zones = dagster.settings.home, dagster.lake.zones
    found = {}
    for path in home.rglob("*"):
        data_file = path.suffix == ".parquet" and not path.is_relative_to(zones["ledger"])
        if path.is_file() and not data_file and not path.is_relative_to(zones["landing"]):
            found[str(path)] = path.read_bytes()
    for log in Path(zones["ledger"]).rglob("_delta_log"):
        rows = DeltaTable(str(log.parent)).to_pyarrow_table().to_pylist()
        found[f"{log.parent} decoded"] = json.dumps(rows, default=str).encode()
    for name, content in list(found.items()):  # what commits carry is compressed
        for packed in re.findall(rb"[A-Za-z0-9+/]{40,}={0,2}", content):
            try:
                found[f"{name} unpacked"] = found.get(f"{name} unpacked", b"") + zlib.decompress(
                    base64.b64decode(packed + b"=" * (-len(packed) % 4))
                )
            except (ValueError, zlib.error):
                continue
    return found


def test_no_value_of_a_row_leaves_the_data_files(
    dagster: DagsterLake, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    deliver(dagster)
    deliver_nested(dagster)
    outcomes = [dagster.run(day, day) for day in (MONDAY, TUESDAY, WEDNESDAY)]
    # Wednesday comes again, with a value that the transform's own expression fails on.
    again = ["id,email,updated", "1,a@x.org,canary9", "2,b@x.org,2026-10-07"]
    dagster.lake.land("people", WEDNESDAY, "people.csv", "\n".join(again) + "\n")
    outcomes.append(dagster.run(WEDNESDAY, WEDNESDAY))
    # Monday has bad rows, Tuesday no header, Wednesday more bad rows than the gate lets pass.
    assert [o.success for o in outcomes] == [True, False, False, False]
    said = said_by_the_command_line(dagster, monkeypatch)
    sent = announced(dagster)
    out, err = capfd.readouterr()
    places = searched(dagster) | {
        "commands": "".join(said).encode(),
        "output": (out + err).encode(),
    }
    places |= sent | {"outcome": repr(outcomes).encode()}
    for written in ("alerts.jsonl", "summary.json"):
        assert places[str(dagster.settings.home / written)]
    assert any(b"email_pattern" in content for content in places.values())
    assert any("unpacked" in name for name in places)
    leaks = {name: CANARY.search(content) for name, content in places.items()}
    leaks = {
        name: places[name][max(0, m.start() - 200) : m.end() + 40] for name, m in leaks.items() if m
    }
    assert not leaks, leaks
