"""Runs that die: kill -9 at each step, then the same run again.

Here: that the lake ends up as if nothing had happened, and that readers never see a part of a
batch. Not here: failures that the run lives to report (test_bad_input.py).
"""

from __future__ import annotations

import datetime as dt
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from spark_jobs.batch import outcomes, publish, quarantine, resolution, superseded
from spark_jobs.batch.reconcile import reconcile
from spark_jobs.errors import LakehouseError
from spark_jobs.lake import commits, ledger, storage
from tests import processes
from tests.lakes import MONDAY, TUESDAY, TinyLake, bronze, column, contract, copied, rule
from tests.processes import die

TABLES = ("silver.latest", "silver.history", "silver.slices")
# What two runs of the same thing may differ in.
OF_A_RUN = {"run_id", "batch_id", "started_at", "seconds", "quarantined_at"}


def wrapped(
    module: Any, name: str, *, before: bool, when: Callable[..., bool] | None = None
) -> None:
    """Kills this process right before or right after a function of the data plane."""
    original = getattr(module, name)

    def dying(*args: Any, **kwargs: Any) -> Any:
        hit = when is None or when(*args, **kwargs)
        if hit and before:
            die()
        result = original(*args, **kwargs)
        if hit:
            die()
        return result

    setattr(module, name, dying)


def of_table(table: Any, *_: Any) -> bool:
    return "/silver/" in table.table_uri and not {"quarantine", "_superseded"} & set(
        table.table_uri.split("/")
    )


def of_quarantine(table: Any, *_: Any) -> bool:
    return "/quarantine/" in table.table_uri


STEPS: dict[str, Callable[[], None]] = {
    "before staging": lambda: wrapped(outcomes, "stage", before=True),
    "between two staged outcomes": lambda: wrapped(resolution, "settled", before=True),
    "after staging": lambda: wrapped(outcomes, "stage", before=False),
    "before the quarantine commit": lambda: wrapped(
        commits, "commit", before=True, when=of_quarantine
    ),
    "after the quarantine": lambda: wrapped(quarantine, "write", before=False),
    "before the superseded records": lambda: wrapped(superseded, "keep", before=True),
    "while they are copied": lambda: wrapped(storage.Storage, "copy", before=False),
    "after the superseded records": lambda: wrapped(superseded, "keep", before=False),
    "while files are rewritten": lambda: wrapped(publish.Target, "write", before=False),
    "before the data commit": lambda: wrapped(commits, "commit", before=True, when=of_table),
    "after the data commit": lambda: wrapped(commits, "commit", before=False, when=of_table),
    "before the ledger": lambda: wrapped(ledger, "append", before=True),
    "after the ledger": lambda: wrapped(ledger, "append", before=False),
}
COMMITTED = {"after the data commit", "before the ledger", "after the ledger"}
AROUND_THE_COMMIT = ("before the data commit", "after the data commit", "before the ledger")


def run_and_die(root: Path, table: str, partition: str, step: str) -> None:
    STEPS[step]()
    processes.run(root, table, partition, run_id="doomed")


@pytest.fixture
def feed(lake: TinyLake) -> TinyLake:
    """Two days of changes; Tuesday holds new, newer, older, repeated and rejected rows."""
    types = {"id": "bigint", "at": "timestamp", "x": "string"}
    lake.define(bronze("feed", "parquet", *(column(n, t) for n, t in types.items())))
    made, inputs = copied(*types, table="feed"), [{"table": "bronze.feed"}]
    gates = {"max_quarantine_rate": 0.5}
    x = column("x", "string", rule("accepted_values", values=["a", "b", "c"]))
    keyed = [column("id", "bigint", key=1), column("at", "timestamp", required=True), x]
    history = [keyed[0], column("at", "timestamp", key=2), x, column("valid_to", "timestamp"),
               column("is_current", "boolean")]  # fmt: skip
    for table, columns, publishing in (
        ("silver.latest", keyed, {"mode": "upsert", "sequence": "at"}),
        ("silver.history", history, {"mode": "scd2", "sequence": "at"}),
        ("silver.slices", [column("id", "bigint"), *keyed[1:]], {"mode": "replace_partition"}),
    ):
        layout = {"gates": gates, "physicalPartition": "none"}
        lake.define(contract(table, columns, publish=publishing, inputs=inputs, **layout), made)

    def row(id_: int, hour: int, x: str) -> dict[str, Any]:
        return {"id": id_, "at": dt.datetime(2026, 10, 5, hour, tzinfo=dt.UTC), "x": x}

    monday = [row(1, 5, "a"), row(2, 5, "a"), row(3, 5, "a"), row(9, 5, "bad")]
    tuesday = [row(1, 6, "b"), row(2, 4, "b"), row(3, 5, "a"), row(4, 6, "b"), row(4, 7, "c"),
               row(8, 6, "bad"), row(8, 6, "bad")]  # fmt: skip
    lake.given("bronze.feed", {MONDAY: monday, TUESDAY: tuesday})
    return lake


def state(lake: TinyLake, table: str) -> dict[str, Any]:
    """Everything that a person or a program could see of a table, but for ids and times of runs."""

    def settled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        kept = [{k: v for k, v in r.items() if k not in OF_A_RUN} for r in rows]
        return sorted(kept, key=repr)

    return {
        "rows": lake.rows(table),
        "version": lake.versions(table),
        "quarantine": settled(lake.quarantined(table)),
        "ledger": settled([asdict(row) for row in lake.ledger(table)]),
    }


@pytest.mark.parametrize(
    ("table", "step"),
    [("silver.latest", step) for step in STEPS]
    + [(table, step) for table in TABLES[1:] for step in AROUND_THE_COMMIT],
)
def test_a_killed_run_leaves_no_trace_once_it_is_run_again(feed, table, step):
    twin = feed.beside("never_crashed")
    feed.run(table, MONDAY)
    before = feed.rows(table)
    twin.run(table, MONDAY)
    twin.run(table, TUESDAY)
    after = twin.rows(table)
    assert before != after

    child = processes.start(run_and_die, feed.root, table, TUESDAY, step)
    assert processes.finish(child) == -signal.SIGKILL, "the run was to die, and at this step"
    assert feed.rows(table) == (after if step in COMMITTED else before)

    again = feed.run(table, TUESDAY)
    assert again.partitions[0].status == ("unchanged" if step in COMMITTED else "published")
    assert state(feed, table) == state(twin, table)
    assert reconcile(feed.engine.spark, feed.parsed()[table], feed.lake) == []
    assert feed.run(table, TUESDAY).partitions[0].status == "unchanged"


@pytest.mark.parametrize("step", ["before staging", "before the data commit"])
def test_a_killed_first_run_is_not_taken_for_a_lost_table(feed, step):
    twin = feed.beside("never_crashed")
    twin.run("silver.latest", MONDAY)
    child = processes.start(run_and_die, feed.root, "silver.latest", MONDAY, step)
    assert processes.finish(child) == -signal.SIGKILL
    assert feed.rows("silver.latest") == []
    feed.run("silver.latest", MONDAY)
    assert state(feed, "silver.latest") == state(twin, "silver.latest")


# -- a commit that lands although the run hears of a failure -----------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_a_commit_whose_reply_is_lost_keeps_its_files(feed, table, monkeypatch):
    twin = feed.beside("never_failed")
    feed.run(table, MONDAY)
    twin.run(table, MONDAY)
    twin.run(table, TUESDAY)
    commit = commits.commit

    def reply_lost(target: Any, *args: Any) -> int:
        version = commit(target, *args)
        if of_table(target):
            raise OSError("connection reset by peer")
        return version

    monkeypatch.setattr(commits, "commit", reply_lost)
    with pytest.raises(LakehouseError, match="connection reset by peer"):
        feed.run(table, TUESDAY)
    monkeypatch.undo()
    assert feed.rows(table) == twin.rows(table), "the data files of the commit are gone"
    assert feed.run(table, TUESDAY).partitions[0].status == "unchanged"
    assert state(feed, table) == state(twin, table)


def test_a_run_that_is_interrupted_removes_what_it_staged(feed, monkeypatch):
    feed.run("silver.latest", MONDAY)

    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, "publish", interrupted)
    folder = Path(feed.lake.table("silver.latest"))
    files = set(folder.rglob("*.parquet"))
    with pytest.raises(KeyboardInterrupt):
        feed.run("silver.latest", TUESDAY)
    assert set(folder.rglob("*.parquet")) == files
