"""How often a run asks the engine: passes over rows, and plans that are only looked at.

Here: upper bounds, on the calls of the client itself. Not here: what the runs make of the rows.
Most of a small table's time goes by in such calls, so none may come back unnoticed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from spark_jobs.batch import outcomes
from tests.integration.test_file_checks import define, jsonl
from tests.lakes import MONDAY, TUESDAY, TinyLake, only

# By the mode of the table. Lines of text are staged, counted, and summed up by file; a table that
# reads another one counts its input, one with a key looks for repeated keys, and scd2 finds ends.
PASSES = {"bronze": 3, "replace_partition": 3, "upsert": 4, "scd2": 5}
LOOKS = {"bronze": 4, "replace_partition": 2, "upsert": 3, "scd2": 3}


@contextmanager
def calls(lake: TinyLake) -> Iterator[Counter[str]]:
    """Counts what goes over the wire to the engine: passes (plans with rows, or that write), and
    looks (plans of which only the columns are asked)."""
    client = lake.engine.spark.client
    real, counted = client._stub, Counter[str]()

    class Counting:
        def ExecutePlan(self, request: Any, **more: Any) -> Any:  # noqa: N802
            plan = request.plan
            writes = plan.command.WhichOneof("command_type") == "write_operation"
            if plan.HasField("root") or writes:
                counted["passes"] += 1
            return real.ExecutePlan(request, **more)

        def AnalyzePlan(self, request: Any, **more: Any) -> Any:  # noqa: N802
            counted["looks"] += request.WhichOneof("analyze") == "schema"
            return real.AnalyzePlan(request, **more)

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    client._stub = Counting()
    try:
        yield counted
    finally:
        client._stub = real


@pytest.mark.parametrize("mode", ["replace_partition", "upsert", "scd2"])
def test_a_first_load_passes_over_its_rows_no_more_often_than_it_has_to(lake, mode):
    define(lake, mode)
    days = (MONDAY, TUESDAY)
    for nth, day in enumerate(days):
        lake.land("feed", day, "f.json", jsonl(day, range(10 * nth, 10 * nth + 10), "x"))
    for table, of in (("bronze.feed", "bronze"), ("silver.feed", mode)):
        with calls(lake) as asked:
            assert {p.status for p in lake.run(table, *days).partitions} == {"published"}
        assert 0 < asked["passes"] <= PASSES[of], table
        assert 0 < asked["looks"] <= LOOKS[of], table


def test_a_pass_more_is_counted(lake, monkeypatch):
    define(lake, "upsert")
    lake.land("feed", MONDAY, "f.json", jsonl(MONDAY, range(10), "x"))
    lake.run("bronze.feed", MONDAY)
    real = outcomes.count

    def twice(*args: Any) -> Any:
        real(*args)
        return real(*args)

    monkeypatch.setattr(outcomes, "count", twice)
    with calls(lake) as asked:
        assert only(lake.run("silver.feed", MONDAY)).status == "published"
    assert asked["passes"] > PASSES["upsert"]
