"""Decisions about quarantined rows are copies of rows, and stay where the rows are protected.

Here: where decisions are kept, and that those of an older lake are found. Not here: what is decided
(test_replay.py).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from spark_jobs.batch import quarantine
from spark_jobs.lake.storage import Lake

CANARY = "canary-of-a-record"


def row(id_: str) -> dict:
    return {"quarantine_id": id_, "partition": "2026-10-05", "rules": ["r"], "record": CANARY}


def bytes_below(folder: str) -> bytes:
    return b"".join(p.read_bytes() for p in Path(folder).rglob("*") if p.is_file())


def discard(lake: Lake, id_: str) -> None:
    quarantine.decide(lake, "silver.t", [row(id_)], "discarded", reason="x", by="me", run_id="r")


def test_a_decision_is_kept_in_the_zone_of_the_quarantine_alone(tmp_path: Path) -> None:
    lake = Lake.at(str(tmp_path))
    discard(lake, "a")
    assert [d["record"] for d in quarantine.decisions(lake, "silver.t")] == [CANARY]
    assert CANARY.encode() not in bytes_below(lake.zones["ledger"])
    assert quarantine.tables(lake) == []


def test_the_log_of_decisions_holds_no_bounds_of_records(tmp_path: Path) -> None:
    lake = Lake.at(str(tmp_path))
    discard(lake, "a")
    discard(lake, "b")
    logs = [p.read_text() for p in Path(lake.decisions, "_delta_log").glob("*.json")]
    assert logs and not any(CANARY in text for text in logs)


def test_decisions_of_an_older_lake_are_found_and_move_with_the_next_one(tmp_path: Path) -> None:
    lake = Lake.at(str(tmp_path))
    former = lake.ledger("quarantine_decisions")
    old = row("old") | {"table": "silver.t", "decision": "replayed", "reason": "", "run_id": "r"}
    old |= {"decided_by": "me", "decided_at": datetime(2026, 10, 5, tzinfo=UTC)}
    write_deltalake(former, pa.Table.from_pylist([old], schema=quarantine.DECISIONS))
    assert [d["quarantine_id"] for d in quarantine.decisions(lake, "silver.t")] == ["old"]
    discard(lake, "new")
    assert [d["quarantine_id"] for d in quarantine.decisions(lake, "silver.t")] == ["old", "new"]
    assert not Path(former).exists()
