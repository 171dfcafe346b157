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

import pytest
from click.testing import CliRunner
from deltalake import DeltaTable

from lakehouse.cli import main
from tests.integration.dagster_lake import MONDAY, TUESDAY, WEDNESDAY, DagsterLake, people_lake

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


def said_by_the_command_line(dagster: DagsterLake, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    home = dagster.settings.home
    monkeypatch.setattr("lakehouse.cli.quarantine.load_settings", lambda: dagster.settings)
    monkeypatch.setattr("lakehouse.cli.reconcile.load_settings", lambda: dagster.settings)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home))
    commands = [["quarantine", "list"], ["reconcile", "--quick"]]
    commands += [["quarantine", "show", f"{layer}.people"] for layer in ("bronze", "silver")]
    done = [CliRunner().invoke(main, command) for command in commands]
    for command, result in zip(commands, done, strict=True):
        assert result.exception is None or isinstance(result.exception, SystemExit), command
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
    outcomes = [dagster.run(day, day) for day in (MONDAY, TUESDAY, WEDNESDAY)]
    # Wednesday comes again, with a value that the transform's own expression fails on.
    again = ["id,email,updated", "1,a@x.org,canary9", "2,b@x.org,2026-10-07"]
    dagster.lake.land("people", WEDNESDAY, "people.csv", "\n".join(again) + "\n")
    outcomes.append(dagster.run(WEDNESDAY, WEDNESDAY))
    # Monday has bad rows, Tuesday no header, Wednesday more bad rows than the gate lets pass.
    assert [o.success for o in outcomes] == [True, False, False, False]
    said = said_by_the_command_line(dagster, monkeypatch)
    out, err = capfd.readouterr()
    places = searched(dagster) | {
        "commands": "".join(said).encode(),
        "output": (out + err).encode(),
    }
    places["outcome"] = repr(outcomes).encode()
    assert any(b"email_pattern" in content for content in places.values())
    assert any("unpacked" in name for name in places)
    leaks = {name: CANARY.search(content) for name, content in places.items()}
    leaks = {
        name: places[name][max(0, m.start() - 200) : m.end() + 40] for name, m in leaks.items() if m
    }
    assert not leaks, leaks
