"""Tables in one object store that several processes write, through a network that fails.

Here: what is committed then, and what a person is told. Not here: the same on a disk
(test_two_runs_at_once.py, test_crash.py), or stores that never answer (test_lost_stores.py).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from lakehouse.standins.servers import proxy
from lakehouse.standins.servers.aws import Aws
from lakehouse.standins.servers.proxy import Proxy
from spark_jobs.batch import outcomes, pinned
from spark_jobs.engines.session import Engine
from spark_jobs.errors import EngineError
from spark_jobs.lake import making
from spark_jobs.lake.storage import Storage
from spark_jobs.report import ZONES
from tests import processes
from tests.lakes import (
    MONDAY,
    TUESDAY,
    TinyLake,
    bronze,
    column,
    contract,
    copied,
    only,
    rule,
    transforms_in,
)

TABLE = "silver.latest"


@pytest.fixture
def network(aws: Aws) -> Iterator[Proxy]:
    aws.create_buckets("lake")
    with proxy.before(aws.url) as through:
        yield through


@pytest.fixture
def store(aws: Aws, network: Proxy) -> Storage:
    return Storage({**aws.storage_options, "AWS_ENDPOINT_URL": network.url})


@pytest.fixture
def feed(tmp_path: Path, store: Storage) -> Iterator[TinyLake]:
    """A lake in a bucket: two days of rows, one of which breaks a rule, for a table by key."""
    with Engine.start("sail", cores=1, store=store) as engine:
        lake = in_bucket(tmp_path, engine, store)
        define(lake)
        with transforms_in(lake.transforms):
            yield lake


def in_bucket(root: Path, engine: Engine, store: Storage) -> TinyLake:
    zones = {zone: f"s3://lake/{root.name}/{zone}" for zone in ZONES}
    return TinyLake(root, engine, zones=zones, storage=store)


def define(lake: TinyLake) -> None:
    types = {"id": "bigint", "at": "timestamp", "x": "string"}
    lake.define(bronze("feed", "parquet", *(column(n, t) for n, t in types.items())))
    columns = [
        column("id", "bigint", key=1),
        column("at", "timestamp", required=True),
        column("x", "string", rule("pattern", pattern="^[ab]$")),
    ]
    layout = {"gates": {"max_quarantine_rate": 0.5}, "inputs": [{"table": "bronze.feed"}]}
    publishing = {"mode": "upsert", "sequence": "at"}
    made = copied(*types, table="feed")
    lake.define(contract(TABLE, columns, publish=publishing, **layout), made)

    def row(id_: int, hour: int, x: str) -> dict[str, Any]:
        return {"id": id_, "at": dt.datetime(2026, 10, 5, hour, tzinfo=dt.UTC), "x": x}

    monday = [row(i, 5, "a") for i in range(20)] + [row(99, 5, "bad")]
    tuesday = [row(i, 6, "b") for i in range(10, 30)] + [row(98, 6, "bad")]
    lake.given("bronze.feed", {MONDAY: monday, TUESDAY: tuesday})


BOTH_DAYS = {**dict.fromkeys(range(10), "a"), **dict.fromkeys(range(10, 30), "b")}


def held(lake: TinyLake) -> dict[int, str]:
    return {r["id"]: r["x"] for r in lake.rows(TABLE, "id", "x")}


def batches(lake: TinyLake) -> list[str]:
    """The batch of each commit of data, oldest first."""
    commits = reversed(lake.delta(TABLE).history())
    return [commit["batch_id"] for commit in commits if "batch_id" in commit]


# -- several writers ---------------------------------------------------------------------------


def race(root: Path, options: dict[str, str], day: str, barrier: Any) -> None:
    """Publishes one day together with another process that publishes another: both have staged
    their rows before either commits."""
    count, met = outcomes.count, []

    def counted_together(*args: Any) -> Any:
        if not met:
            met.append(True)
            barrier.wait(120)
        return count(*args)

    outcomes.count = counted_together
    try:
        store = Storage(options)
        with (
            Engine.start("sail", cores=1, store=store) as engine,
            transforms_in(root / "transforms"),
        ):
            report = in_bucket(root, engine, store).run(TABLE, day, run_id=day)
            (root / f"{day}.json").write_text(report.model_dump_json())
    except BaseException:
        barrier.abort()  # the other need not wait
        raise


def test_two_processes_that_publish_to_one_table_at_once_both_land(feed: TinyLake) -> None:
    barrier = processes.context.Barrier(2)
    options = dict(feed.storage.options)
    racers = [processes.start(race, feed.root, options, day, barrier) for day in (MONDAY, TUESDAY)]
    assert [processes.finish(racer, 300) for racer in racers] == [0, 0]
    assert held(feed) == BOTH_DAYS, "none of the two is lost"
    said = [json.loads((feed.root / f"{day}.json").read_text()) for day in (MONDAY, TUESDAY)]
    assert [r["partitions"][0]["status"] for r in said] == ["published"] * 2
    assert sorted(batches(feed)) == sorted(r["batch_id"] for r in said), "each committed once"
    assert {row.partition for row in feed.ledger(TABLE)} == {MONDAY, TUESDAY}


def test_a_condition_on_a_write_holds_among_many_writers(aws: Aws, store: Storage) -> None:
    """What all of this stands on: of twenty writers of one commit, one is told that it wrote it."""
    from concurrent.futures import ThreadPoolExecutor

    from botocore.exceptions import ClientError

    client = s3_client(aws)

    def write(key: str, n: int) -> int:
        try:
            client.put_object(Bucket="lake", Key=key, Body=f"{n}".encode(), IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] != "PreconditionFailed":
                raise
            return 0
        return 1

    for commit in range(5):
        with ThreadPoolExecutor(20) as writers:
            assert sum(writers.map(lambda n, c=commit: write(f"t/{c}.json", n), range(20))) == 1


def test_who_reads_an_object_that_others_write_again_has_all_of_one_version(
    aws: Aws, store: Storage
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    client = s3_client(aws, retries={"total_max_attempts": 1})
    client.put_object(Bucket="lake", Key="o", Body=b"0" * 300_000)

    def read(_: int) -> tuple[int, int]:
        body = client.get_object(Bucket="lake", Key="o")["Body"].read()
        return len(body), len(set(body))

    with ThreadPoolExecutor(4) as readers:
        found = readers.map(read, range(300))
        for n in range(75):
            client.put_object(Bucket="lake", Key="o", Body=bytes([n]) * 300_000)
        assert set(found) == {(300_000, 1)}


def s3_client(aws: Aws, **config: Any) -> Any:
    import boto3
    from botocore.config import Config

    region = "eu-central-1"
    return boto3.client("s3", endpoint_url=aws.url, region_name=region, config=Config(**config))


# -- a network that fails ----------------------------------------------------------------------


def commit_to(zone: str) -> str:
    return f"PUT .*/{zone}/.*_delta_log/.*json"


@pytest.mark.parametrize("zone", ["silver", "quarantine", "ledger"])
def test_a_commit_whose_reply_is_lost_is_made_once(
    feed: TinyLake, network: Proxy, zone: str
) -> None:
    assert only(feed.run(TABLE, MONDAY)).status == "published"
    network.fail("lose the reply", commit_to(zone))
    assert only(feed.run(TABLE, TUESDAY)).status == "published"
    assert network.to_come == 0, "it happened"
    assert held(feed) == BOTH_DAYS
    assert len(batches(feed)) == len(set(batches(feed))) == 2
    assert [row.partition for row in feed.ledger(TABLE)] == [MONDAY, TUESDAY]
    assert sorted(r["partition"] for r in feed.quarantined(TABLE)) == [MONDAY, TUESDAY]
    assert only(feed.run(TABLE, TUESDAY)).status == "unchanged"


SLOW = {
    "a look into the log": "GET .*_delta_log/.*json",
    "a listing": "GET .*list-type=2",
    "a data file": "PUT .*parquet",
    "a footer": "GET .*parquet",
    "a commit": commit_to("silver"),
    "the ledger": commit_to("ledger"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", SLOW)
def test_a_store_that_asks_to_slow_down_in_the_middle_is_asked_again(
    feed: TinyLake, network: Proxy, what: str
) -> None:
    network.fail("slow down", SLOW[what], times=2)
    assert only(feed.run(TABLE, MONDAY)).status == "published"
    assert only(feed.run(TABLE, TUESDAY)).status == "published"
    assert network.to_come == 0, "it happened"
    assert held(feed) == BOTH_DAYS
    assert len(batches(feed)) == 2


# -- one engine per table ----------------------------------------------------------------------


def test_a_table_of_another_engine_is_refused_until_it_is_handed_over(feed: TinyLake) -> None:
    feed.run(TABLE, MONDAY)
    table = feed.delta(TABLE)
    making.hand_over(table, "spark")
    with pytest.raises(
        EngineError, match=r"silver\.latest is written by the spark engine"
    ) as refused:
        feed.run(TABLE, TUESDAY)
    assert refused.value.permanent
    assert f"lakehouse hand-over {TABLE} --to sail" in str(refused.value)
    assert set(held(feed).values()) == {"a"}, "nothing was written"
    making.hand_over(feed.delta(TABLE), "sail")
    assert only(feed.run(TABLE, TUESDAY)).status == "published"


def test_a_lake_on_this_machine_may_change_its_engine(lake: TinyLake) -> None:
    define(lake)
    assert only(lake.run(TABLE, MONDAY)).status == "published"
    assert lake.delta(TABLE).metadata().configuration == {}


# -- requests ----------------------------------------------------------------------------------


def asked_of(network: Proxy, place: str) -> list[str]:
    return [f"{r.method} {r.path}" for r in network.asked() if place in unquote(r.path)]


def test_a_log_that_nobody_has_added_to_is_not_read_again(feed: TinyLake, network: Proxy) -> None:
    feed.run(TABLE, MONDAY)
    network.asked()
    assert only(feed.run(TABLE, TUESDAY)).status == "published"
    (listing,) = asked_of(network, "/bronze/feed/_delta_log")
    assert "list-type=2" in listing


def test_a_run_with_nothing_to_do_asks_once_for_each_table_and_once_for_the_ledger(
    feed: TinyLake, network: Proxy
) -> None:
    feed.run(TABLE, MONDAY)
    network.asked()
    assert only(feed.run(TABLE, MONDAY)).status == "unchanged"
    asked = asked_of(network, "")
    assert len(asked) == 3
    assert all("list-type=2" in listing for listing in asked)


def test_what_others_committed_since_is_seen_by_a_process_that_had_the_table_open(
    feed: TinyLake,
) -> None:
    assert only(feed.run(TABLE, MONDAY)).status == "published"
    other = processes.start(publish_alone, feed.root, dict(feed.storage.options), TUESDAY)
    assert processes.finish(other, 300) == 0
    assert only(feed.run(TABLE, TUESDAY)).status == "unchanged"
    assert only(feed.run(TABLE, MONDAY, force=True)).status == "published"
    assert held(feed) == BOTH_DAYS


def publish_alone(root: Path, options: dict[str, str], day: str) -> None:
    store = Storage(options)
    with Engine.start("sail", cores=1, store=store) as engine, transforms_in(root / "transforms"):
        assert only(in_bucket(root, engine, store).run(TABLE, day)).status == "published"


def test_a_table_that_was_built_anew_is_not_taken_for_the_one_that_was_open(
    feed: TinyLake,
) -> None:
    for day in (MONDAY, TUESDAY):
        feed.run(TABLE, day)
    gone = str(feed.delta(TABLE).metadata().id)
    feed.storage.remove(feed.lake.table(TABLE))
    again = feed.run(TABLE, MONDAY, TUESDAY)
    assert [p.status for p in again.partitions] == ["published"] * 2
    assert held(feed) == BOTH_DAYS
    assert str(feed.delta(TABLE).metadata().id) != gone


def test_rows_that_are_too_many_to_be_brought_are_read_by_the_engine(
    feed: TinyLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinned, "_FEW_BYTES", 0)
    for day in (MONDAY, TUESDAY, MONDAY):
        assert only(feed.run(TABLE, day)).status in ("published", "unchanged")
    assert held(feed) == BOTH_DAYS
    assert sorted(r["partition"] for r in feed.quarantined(TABLE)) == [MONDAY, TUESDAY]
