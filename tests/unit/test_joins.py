"""Hints to the planner: given for rows that were counted, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

from spark_jobs.batch.joins import FEW_ROWS, copied_if_few
from spark_jobs.engines.session import Engine

DATA_PLANE = Path(__file__).parents[2] / "spark_jobs"
HINT = re.compile(r"\bbroadcast\(|\.hint\(|/\*\+|autoBroadcastJoinThreshold")


def test_no_join_is_forced_but_where_rows_are_counted() -> None:
    found = [p for p in DATA_PLANE.rglob("*.py") if HINT.search(p.read_text(encoding="utf-8"))]
    assert [str(p.relative_to(DATA_PLANE)) for p in found] == ["batch/joins.py"]


def test_many_rows_are_left_to_the_planner(sail: Engine) -> None:
    frame = sail.spark.range(3)
    assert copied_if_few(frame, FEW_ROWS + 1) is frame
    hinted = copied_if_few(frame, FEW_ROWS)
    assert hinted is not frame
    assert frame.join(hinted, "id").count() == 3
