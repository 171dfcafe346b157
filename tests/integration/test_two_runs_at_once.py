"""Two processes that run the same partition of the same table at the same moment.

Here: that the lake ends up as after one run. Not here: one run after the other
(test_publish_properties.py).
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from spark_jobs.batch import outcomes, plan
from spark_jobs.batch.reconcile import reconcile
from tests import processes, small_spark
from tests.lakes import (
    MONDAY,
    TUESDAY,
    TinyLake,
    bronze,
    column,
    contract,
    copied,
    rule,
    transforms_in,
)

TABLES = ("silver.latest", "silver.history", "silver.slices")
ROUNDS = 3


def race(root: Path, name: str, engine: str, barrier: Any) -> None:
    """Runs all tables of several lakes together with the other process. The two meet once more when
    both have staged their batch, so that each has been computed from a table without the other's."""
    meetings: list[bool] = []
    count = outcomes.count

    def counted_together(*args: Any) -> Any:
        if meetings:
            meetings.pop()
            barrier.wait(300)
        return count(*args)

    outcomes.count = counted_together
    try:
        with small_spark.started(engine, 1) as started, transforms_in(root / "transforms"):
            for i, table, partition in races(engine):
                tiny = TinyLake(root, started, zones=zones(root, i))
                meetings.append(True)
                barrier.wait(300)
                report = tiny.run(table, partition, engine=engine, run_id=f"{name}-{partition}")
                said = root / f"said-{i}-{table}-{partition}-{name}.json"
                said.write_text(report.model_dump_json())
    except BaseException:
        barrier.abort()  # the other need not wait
        raise


def races(engine: str) -> list[tuple[int, str, str]]:
    """Lakes, tables and partitions to run together; a JVM is slow, and commits by the same code."""
    rounds, tables = (ROUNDS, TABLES) if engine == "sail" else (1, TABLES[:1])
    return list(itertools.product(range(rounds), tables, (MONDAY, TUESDAY)))


def zones(root: Path, i: int) -> dict[str, str]:
    return json.loads((root / f"zones{i}.json").read_text())


@pytest.fixture
def feed(lake: TinyLake) -> TinyLake:
    types = {"id": "bigint", "at": "timestamp", "x": "string"}
    lake.define(bronze("feed", "parquet", *(column(n, t) for n, t in types.items())))
    made, inputs = copied(*types, table="feed"), [{"table": "bronze.feed"}]
    x = column("x", "string", rule("pattern", pattern="^[ab]$"))
    keyed = [column("id", "bigint", key=1), column("at", "timestamp", required=True), x]
    history = [keyed[0], column("at", "timestamp", key=2), x, column("valid_to", "timestamp"),
               column("is_current", "boolean")]  # fmt: skip
    for table, columns, publishing in (
        ("silver.latest", keyed, {"mode": "upsert", "sequence": "at"}),
        ("silver.history", history, {"mode": "scd2", "sequence": "at"}),
        ("silver.slices", [column("id", "bigint"), *keyed[1:]], {"mode": "replace_partition"}),
    ):
        layout = {"gates": {"max_quarantine_rate": 0.5}, "inputs": inputs}
        lake.define(contract(table, columns, publish=publishing, **layout), made)

    def row(id_: int, hour: int, x: str) -> dict[str, Any]:
        return {"id": id_, "at": dt.datetime(2026, 10, 5, hour, tzinfo=dt.UTC), "x": x}

    monday = [row(i, 5, "a") for i in range(20)] + [row(99, 5, "bad")]
    tuesday = [row(i, 6, "b") for i in range(10, 30)] + [row(1, 4, "b"), row(98, 6, "bad")]
    lake.given("bronze.feed", {MONDAY: monday, TUESDAY: tuesday})
    return lake


@pytest.mark.parametrize(
    "engine", ["sail", pytest.param("spark", marks=[pytest.mark.jvm, pytest.mark.slow])]
)
def test_two_runs_of_one_partition_at_once_are_as_one(feed, engine):
    planned = races(engine)
    lakes = {i: feed.beside(f"round{i}") for i in dict.fromkeys(i for i, _, _ in planned)}
    alone = feed.beside("alone")
    for i, tiny in lakes.items():
        (feed.root / f"zones{i}.json").write_text(json.dumps(tiny.zones))
    barrier = processes.context.Barrier(2)
    racers = [processes.start(race, feed.root, name, engine, barrier) for name in ("one", "two")]
    for table, partition in dict.fromkeys((t, p) for _, t, p in planned):
        alone.run(table, partition)
    assert [processes.finish(r, 800) for r in racers] == [0, 0]

    for i, table in dict.fromkeys((i, t) for i, t, _ in planned):
        tiny = lakes[i]
        assert tiny.rows(table) == alone.rows(table)
        assert kept(tiny, table) == kept(alone, table)
        assert counted(tiny, table) == counted(alone, table), "each partition is recorded once"
        assert reconcile(feed.engine.spark, tiny.parsed()[table], tiny.lake) == []
    for i, table, partition in planned:
        said = [feed.root / f"said-{i}-{table}-{partition}-{name}.json" for name in ("one", "two")]
        reports = [json.loads(path.read_text()) for path in said]
        statuses = sorted(r["partitions"][0]["status"] for r in reports)
        assert statuses == ["published", "unchanged"], "the loser finds the work done"


@pytest.mark.parametrize(
    ("module", "name"), [(plan.ledger, "of_tables"), (plan.inputs, "upstream")]
)
def test_what_is_published_while_a_run_looks_around_is_read_by_it_or_by_the_next(
    feed, monkeypatch, module, name
):
    """Never is it recorded as read, and was not."""
    ask, newer = getattr(module, name), dt.datetime(2026, 10, 5, 9, tzinfo=dt.UTC)

    def asked(*args: Any) -> Any:
        found = ask(*args)
        monkeypatch.setattr(module, name, ask)
        feed.given("bronze.feed", {MONDAY: [{"id": 1, "at": newer, "x": "b"}]})
        return found

    monkeypatch.setattr(module, name, asked)
    for _ in range(2):
        assert not feed.run("silver.latest", MONDAY).failed
    assert feed.rows("silver.latest") == [{"id": 1, "at": newer, "x": "b"}]


def kept(tiny: TinyLake, table: str) -> list[tuple[str, ...]]:
    return [(r["quarantine_id"], r["record"], r["decision"]) for r in tiny.quarantined(table)]


def counted(tiny: TinyLake, table: str) -> list[tuple[Any, ...]]:
    """What was done to each partition, by whichever run did it."""
    names = ("partition", "read", "inserted", "updated", "duplicate", "quarantined")
    return sorted(
        tuple(getattr(r, n) for n in names) for r in tiny.ledger(table) if r.status == "published"
    )
