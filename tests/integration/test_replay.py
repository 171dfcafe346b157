"""Quarantine: rows that a rule turns away are kept whole, and come back once they are accepted.

Here: what is kept, what a corrected contract or a late parent brings back, and the record of
decisions. Not here: the commands that people give (the command line's tests).
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from spark_jobs.batch import quarantine
from spark_jobs.batch.reconcile import reconcile
from spark_jobs.errors import ConflictError, LakehouseError
from tests.lakes import MONDAY, TUESDAY, TinyLake, bronze, column, contract, copied, only, rule

COPY = """
    from spark_jobs.columns import LINEAGE, number, instant

    def transform(feed):
        return feed.select(
            *LINEAGE, number("id", "bigint").alias("id"), "code", instant("at").alias("at")
        )
"""
MODES = {
    "replace_partition": {"mode": "replace_partition"},
    "upsert": {"mode": "upsert", "sequence": "at"},
}


def silver(mode: str, *codes: str, version: str = "1.0.0", **more: Any) -> dict:
    code = column("code", "string", rule("accepted_values", values=list(codes)))
    return contract(
        "silver.feed",
        [
            column("id", "bigint", key=1, of="bronze.feed.id"),
            code,
            column("at", "timestamp", required=True, of="bronze.feed.at"),
        ],
        inputs=[{"table": "bronze.feed"}],
        publish=MODES[mode],
        gates={"max_quarantine_rate": 0.9},
        version=version,
        **more,
    )


def record(id_: object, code: str, note: str = "n") -> dict[str, str]:
    return {"id": str(id_), "code": code, "at": "2026-10-05T01:00:00Z", "note": note}


@pytest.fixture
def feed(lake: TinyLake) -> TinyLake:
    """Monday and Tuesday with good rows, and rows of an unknown code or id, one of them twice."""
    columns = [column(n) for n in ("id", "code", "at", "note")]
    lake.define(bronze("feed", "json", *columns, gates={"max_quarantine_rate": 0.9}))
    days = {
        MONDAY: [record(1, "a"), record(2, "b", "é, \"quoted\""), record("x", "b"), record("x", "b")],
        TUESDAY: [record(3, "a"), record(4, "b")],
    }  # fmt: skip
    for day, rows in days.items():
        lake.land("feed", day, f"{day}.json", "".join(json.dumps(r) + "\n" for r in rows))
        lake.run("bronze.feed", day)
    return lake


def decided(lake: TinyLake) -> Counter:
    return Counter(
        (d["quarantine_id"], d["decision"]) for d in quarantine.decisions(lake.lake, "silver.feed")
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_rejected_row_is_kept_whole_with_its_reasons(feed, mode):
    feed.define(silver(mode, "a"), COPY)
    report = only(feed.run("silver.feed", MONDAY, run_id="r1"))
    assert (report.counts.inserted, report.counts.quarantined) == (1, 3)
    rows = {r["quarantine_id"]: r for r in feed.quarantined("silver.feed")}
    assert len(rows) == 3, "equal rows are two rows"
    original = {"_source_file": f"{MONDAY}.json"}
    by_id = {json.loads(r["record"])["id"]: r for r in rows.values()}
    assert json.loads(by_id["2"]["record"]) == record(2, "b", 'é, "quoted"') | original
    assert json.loads(by_id["x"]["record"]) == record("x", "b") | original
    assert by_id["2"]["rules"] == ["code_accepted_values"]
    assert sorted(by_id["x"]["rules"]) == ["code_accepted_values", "id_not_null", "id_type"]
    for row in rows.values():
        assert (row["partition"], row["source_file"]) == (MONDAY, f"{MONDAY}.json")
        assert (row["run_id"], row["contract_version"], row["decision"]) == ("r1", "1.0.0", "open")
        assert row["quarantined_at"] is not None


def test_a_row_of_a_keyed_table_is_kept_whole_too(feed):
    """Only its key goes through the transform; the rest is found where it was read."""
    feed.define(silver("upsert", "a", "b"), COPY)
    gold = contract(
        "gold.feed",
        [
            column("id", "bigint", key=1),
            column("code", "string", rule("accepted_values", values=["a"])),
            column("at", "timestamp", required=True),
        ],
        inputs=[{"table": "silver.feed"}],
        publish={"mode": "upsert", "sequence": "at"},
        gates={"max_quarantine_rate": 0.9},
    )
    feed.define(gold, copied("id", "code", "at", table="feed"))
    feed.run("silver.feed", MONDAY, TUESDAY)
    counts = feed.run("gold.feed", MONDAY, TUESDAY).counts
    assert (counts.inserted, counts.quarantined) == (2, 2)
    kept = [(r["partition"], json.loads(r["record"])) for r in feed.quarantined("gold.feed")]
    at = "2026-10-05 01:00:00"
    assert kept == [
        (MONDAY, {"id": "2", "code": "b", "at": at}),
        (TUESDAY, {"id": "4", "code": "b", "at": at}),
    ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("force", [True, False])
def test_a_corrected_contract_brings_rows_back_once(feed, mode, force):
    """Forced or not: the contract is part of what decides whether a partition is up to date."""
    feed.define(silver(mode, "a"), COPY)
    feed.run("silver.feed", MONDAY, TUESDAY)
    before = {json.loads(r["record"])["id"]: r for r in feed.quarantined("silver.feed")}
    feed.define(silver(mode, "a", "b", version="1.0.1"))
    report = feed.run("silver.feed", MONDAY, TUESDAY, force=force, run_id="replay")
    assert report.counts.quarantined == 2
    assert feed.rows("silver.feed", "id") == [1, 2, 3, 4]
    still = feed.quarantined("silver.feed")
    assert [json.loads(r["record"])["id"] for r in still] == ["x", "x"]
    assert {r["decision"] for r in still} == {"open"}

    back = {before[i]["quarantine_id"] for i in ("2", "4")}
    assert decided(feed) == {(i, "replayed"): 1 for i in back}
    for decision in quarantine.decisions(feed.lake, "silver.feed"):
        assert decision["reason"] == "run again, and no longer rejected by contract 1.0.1"
        assert (decision["decided_by"], decision["run_id"]) == ("platform", "replay")
        row = before[json.loads(decision["record"])["id"]]
        assert (decision["record"], decision["rules"]) == (row["record"], row["rules"])

    again = feed.run("silver.feed", MONDAY, TUESDAY, force=True)
    assert not again.failed
    assert feed.rows("silver.feed", "id") == [1, 2, 3, 4]
    assert feed.quarantined("silver.feed") != [] and len(feed.quarantined("silver.feed")) == 2
    assert decided(feed) == {(i, "replayed"): 1 for i in back}, "nothing is decided twice"
    assert reconcile(feed.engine.spark, feed.parsed()["silver.feed"], feed.lake) == []


def test_replaying_one_partition_leaves_the_others_alone(feed):
    feed.define(silver("upsert", "a"), COPY)
    feed.run("silver.feed", MONDAY, TUESDAY)
    feed.define(silver("upsert", "a", "b", version="1.0.1"))
    feed.run("silver.feed", TUESDAY)
    assert feed.rows("silver.feed", "id") == [1, 3, 4]
    assert Counter(r["partition"] for r in feed.quarantined("silver.feed")) == {MONDAY: 3}


def test_an_orphan_comes_back_when_its_parent_has_arrived(feed):
    feed.define(bronze("parents", "json", column("id", required=True)))
    parents = contract(
        "silver.parents",
        [column("id", "bigint", key=1, of="bronze.parents.id"),
         column("at", "timestamp", required=True)],
        inputs=[{"table": "bronze.parents"}],
        publish={"mode": "upsert", "sequence": "at"},
    )  # fmt: skip
    feed.define(
        parents,
        """
        from pyspark.sql import functions as F
        from spark_jobs.columns import LINEAGE, number

        def transform(parents):
            at = F.col("_partition").cast("timestamp").alias("at")
            return parents.select(*LINEAGE, number("id", "bigint").alias("id"), at)
        """,
    )
    document = silver("upsert", "a", "b")
    document["schema"][0]["properties"][0]["quality"] = [
        rule("reference", table="silver.parents", column="id")
    ]
    feed.define(document, COPY)
    feed.land("parents", MONDAY, "p.json", '{"id":1}\n')
    for table in ("bronze.parents", "silver.parents", "silver.feed"):
        feed.run(table, MONDAY)
    assert feed.rows("silver.feed", "id") == [1]
    orphan = next(r for r in feed.quarantined("silver.feed") if r["rules"] == ["id_reference"])
    feed.land("parents", TUESDAY, "p.json", '{"id":2}\n')
    for table in ("bronze.parents", "silver.parents"):
        feed.run(table, TUESDAY)
    assert not feed.run("silver.feed", MONDAY, force=True).failed
    assert feed.rows("silver.feed", "id") == [1, 2]
    assert decided(feed) == {(orphan["quarantine_id"], "replayed"): 1}


def test_a_discarded_row_stays_and_says_so(feed):
    feed.define(silver("upsert", "a"), COPY)
    feed.run("silver.feed", MONDAY)
    row = feed.quarantined("silver.feed")[0]
    quarantine.decide(
        feed.lake, "silver.feed", [row], "discarded", reason="a test order", by="ana", run_id="r"
    )
    feed.run("silver.feed", MONDAY, force=True)
    decisions = {r["quarantine_id"]: r["decision"] for r in feed.quarantined("silver.feed")}
    assert Counter(decisions.values()) == {"discarded": 1, "open": 2}
    assert decisions[row["quarantine_id"]] == "discarded"


def test_a_discarded_row_that_is_accepted_after_all_is_decided_anew(feed):
    feed.define(silver("upsert", "a"), COPY)
    feed.run("silver.feed", TUESDAY)
    (row,) = feed.quarantined("silver.feed")
    quarantine.decide(
        feed.lake, "silver.feed", [row], "discarded", reason="unknown code", by="ana", run_id="r"
    )
    feed.define(silver("upsert", "a", "b", version="1.0.1"))
    feed.run("silver.feed", TUESDAY)
    assert feed.rows("silver.feed", "id") == [3, 4]
    said = [d["decision"] for d in quarantine.decisions(feed.lake, "silver.feed")]
    assert said == ["discarded", "replayed"]


def test_a_row_that_is_rejected_again_and_accepted_again_is_decided_again(feed):
    for version, codes in (("1.0.0", "a"), ("1.0.1", "ab"), ("1.0.2", "a"), ("1.0.3", "ab")):
        feed.define(silver("replace_partition", *codes, version=version), COPY)
        assert not feed.run("silver.feed", TUESDAY).failed
    said = [d["reason"][-5:] for d in quarantine.decisions(feed.lake, "silver.feed")]
    assert said == ["1.0.1", "1.0.3"]


@pytest.mark.parametrize("step", ["replace_slices", "decide"])
def test_a_failure_between_decision_and_removal_loses_and_repeats_nothing(feed, step, monkeypatch):
    feed.define(silver("upsert", "a"), COPY)
    feed.run("silver.feed", TUESDAY)
    (row,) = feed.quarantined("silver.feed")
    feed.define(silver("upsert", "a", "b", version="1.0.1"))

    def failing(*args: Any, **kwargs: Any) -> None:
        raise OSError("connection reset by peer")

    monkeypatch.setattr(quarantine, step, failing)
    with pytest.raises(LakehouseError, match="connection reset by peer"):
        feed.run("silver.feed", TUESDAY)
    assert [r["quarantine_id"] for r in feed.quarantined("silver.feed")] == [row["quarantine_id"]]
    assert feed.rows("silver.feed", "id") == [3], "nothing is published before it is decided"
    monkeypatch.undo()
    feed.run("silver.feed", TUESDAY)
    assert feed.rows("silver.feed", "id") == [3, 4]
    assert feed.quarantined("silver.feed") == []
    assert decided(feed) == {(row["quarantine_id"], "replayed"): 1}


def test_a_commit_that_conflicts_again_and_again_gives_up_and_may_be_retried(feed, monkeypatch):
    feed.define(silver("upsert", "a"), COPY)
    attempts = []

    def conflicting(*args: Any, **kwargs: Any) -> None:
        attempts.append(1)
        raise ConflictError("silver.feed: another run committed after version 3")

    monkeypatch.setattr("spark_jobs.batch.publish.publish", conflicting)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(ConflictError) as caught:
        feed.run("silver.feed", MONDAY)
    assert len(attempts) == 6 and not caught.value.permanent
    assert feed.rows("silver.feed") == []


def test_unparsable_records_are_kept_as_they_came(feed):
    raw = '{"id": "5", "code"'
    feed.land("feed", TUESDAY, "late.json", raw + "\n")
    feed.run("bronze.feed", TUESDAY)
    (row,) = feed.quarantined("bronze.feed")
    assert (row["record"], row["rules"], row["source_file"]) == (raw, ["parsable"], "late.json")
    assert quarantine.tables(feed.lake) == ["bronze.feed"]
