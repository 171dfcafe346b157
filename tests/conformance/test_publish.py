"""Every publish mode, batch by batch, on either engine and on both in turn: one table, one
accounting, one quarantine; and every reader sees the same rows in it.

Here: agreement. Not here: that the modes are right (tests/integration/test_publish_properties.py).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from itertools import cycle

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from spark_jobs.engines.session import Engine
from spark_jobs.lake.storage import ZONES
from tests.conformance.agreement import accounted, content, differences, published, rejected
from tests.conformance.stories import STORIES, Story
from tests.lakes import TinyLake, transforms_in

pytestmark = pytest.mark.jvm
TURNS = {
    "sail": ("sail",),
    "spark": ("spark",),
    "in turn": ("spark", "sail"),  # each goes on with a table that the other left
}
Told = list[tuple[list, list, list]]


@pytest.fixture(scope="module")
def told(
    sail: Engine, spark: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, str], tuple[TinyLake, Told]]]:
    """Runs a story with engines in turn, once: the lake, and what was so after each batch."""
    engines = {"sail": sail, "spark": spark}
    done: dict[tuple[str, str], tuple[TinyLake, Told]] = {}

    def tell(name: str, turn: str) -> tuple[TinyLake, Told]:
        if (name, turn) not in done:
            root = tmp_path_factory.mktemp("story")
            lake = TinyLake(root, zones={z: str(root / "lake" / z) for z in ZONES})
            with transforms_in(lake.transforms):
                done[name, turn] = (
                    lake,
                    _run(STORIES[name], lake, [engines[e] for e in TURNS[turn]]),
                )
        return done[name, turn]

    return tell


def _run(story: Story, lake: TinyLake, engines: list[Engine]) -> Told:
    story.define(lake)
    after = []
    for batch, lake.engine in zip(story.batches, cycle(engines), strict=False):
        lake.given(story.source, batch.upstream)
        report = lake.run(story.table, *batch.partitions)
        assert not report.failed, report.failed[0].error
        after.append((accounted(report), published(lake, story.table), rejected(lake, story.table)))
    return after


@pytest.mark.parametrize("turn", [t for t in TURNS if t != "sail"])
@pytest.mark.parametrize("story", STORIES)
def test_a_publish_mode_gives_one_table_on_both_engines(told, story, turn):
    ours, others = told(story, "sail")[1], told(story, turn)[1]
    assert len(ours) == len(others) > 1
    for n, (these, those) in enumerate(zip(ours, others, strict=True), 1):
        assert these[0] == those[0], f"reports of batch {n}"
        assert not differences(sail=these[1], other=those[1]), f"table after batch {n}"
        assert not differences(sail=these[2], other=those[2]), f"quarantine after batch {n}"


def test_the_stories_use_every_outcome(told):
    """Else the comparison would compare little."""
    found = {
        (story, outcome)
        for story in STORIES
        for reports, *_ in told(story, "sail")[1]
        for partition in reports
        for outcome, n in partition["counts"].items()
        if n
    }
    keyed = ("inserted", "updated", "deleted", "duplicate", "quarantined", "unchanged")
    assert {("upsert", outcome) for outcome in keyed} <= found
    assert {("scd2", outcome) for outcome in ("inserted", "duplicate", "quarantined")} <= found
    assert {s for s, outcome in found if outcome == "inserted"} == set(STORIES)


# -- readers -----------------------------------------------------------------------------------


def readers(sail: Engine, spark: Engine, uri: str) -> dict[str, Callable[[str], pa.Table]]:
    """How each reader finds the rows of a table that meet a condition, in SQL of all of them."""

    def by_engine(engine: Engine) -> Callable[[str], pa.Table]:
        return lambda condition: (
            engine.spark.read.format("delta").load(uri).where(condition).toArrow()
        )

    def by_duckdb(condition: str) -> pa.Table:
        with duckdb.connect() as connection:
            connection.execute("set timezone = 'UTC'")
            connection.register("t", DeltaTable(uri).to_pyarrow_dataset())
            return connection.sql(f"select * from t where {condition}").to_arrow_table()

    return {"sail": by_engine(sail), "spark": by_engine(spark), "duckdb": by_duckdb}


@pytest.mark.parametrize("turn", ["sail", "in turn"])
@pytest.mark.parametrize("story", STORIES)
def test_every_reader_sees_the_same_rows(told, sail, spark, story, turn):
    uri = told(story, turn)[0].lake.table(STORIES[story].table)
    everything = DeltaTable(uri).to_pyarrow_table()
    assert everything.num_rows
    for name, read in readers(sail, spark, uri).items():
        found = read("true").cast(everything.schema)
        assert not differences(deltalake=content(everything), **{name: content(found)})


@pytest.mark.parametrize("turn", ["sail", "in turn"])
def test_every_reader_finds_rows_by_the_bounds_of_files(told, sail, spark, turn):
    """Bounds that are a microsecond or a character off would hide rows."""
    lake, _ = told("scd2", turn)
    uri = lake.lake.table("silver.history")
    everything = DeltaTable(uri).to_pyarrow_table()
    least, most = (f(everything.column("seen_at").to_pylist()) for f in (min, max))
    conditions = {
        f"seen_at <= timestamp '{least:%Y-%m-%d %H:%M:%S.%f}'": lambda r: r["seen_at"] <= least,
        f"seen_at >= timestamp '{most:%Y-%m-%d %H:%M:%S.%f}'": lambda r: r["seen_at"] >= most,
        "day < date '1970-01-01'": lambda r: r["day"] and r["day"] < dt.date(1970, 1, 1),
        "id = 7": lambda r: r["id"] == 7,
        "n = 2147483647": lambda r: r["n"] == 2**31 - 1,
        "part = '🦊'": lambda r: r["part"] == "🦊",
        "note >= 'xxx'": lambda r: r["note"] and r["note"] >= "xxx",
        "note is null": lambda r: r["note"] is None,
        "rate > 1": lambda r: r["rate"] and r["rate"] > 1,
        "amount < 10.06": lambda r: r["amount"] is not None and float(r["amount"]) < 10.06,
        "valid_to is null": lambda r: r["valid_to"] is None,
        "gone": lambda r: r["gone"],
    }
    for condition, meets in conditions.items():
        rows = [r for r in everything.to_pylist() if meets(r)]
        assert rows, condition
        wanted = content(pa.Table.from_pylist(rows, everything.schema))
        for name, read in readers(sail, spark, uri).items():
            found = content(read(condition).cast(everything.schema))
            assert not differences(wanted=wanted, **{name: found}), condition
