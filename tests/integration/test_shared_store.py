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

import pytest

from lakehouse.standins.servers import proxy
from lakehouse.standins.servers.aws import Aws
from lakehouse.standins.servers.proxy import Proxy
from spark_jobs.batch import audit
from spark_jobs.engines.session import Engine
from spark_jobs.errors import EngineError
from spark_jobs.lake import delta
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
    count, met = audit.count, []

    def counted_together(*args: Any) -> Any:
        if not met:
            met.append(True)
            barrier.wait(120)
        return count(*args)

    audit.count = counted_together
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


def s3_client(aws: Aws) -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=aws.url, region_name="eu-central-1")


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
    delta.hand_over(table, "spark")
    with pytest.raises(
        EngineError, match=r"silver\.latest is written by the spark engine"
    ) as refused:
        feed.run(TABLE, TUESDAY)
    assert refused.value.permanent
    assert f"lakehouse hand-over {TABLE} --to sail" in str(refused.value)
    assert set(held(feed).values()) == {"a"}, "nothing was written"
    delta.hand_over(feed.delta(TABLE), "sail")
    assert only(feed.run(TABLE, TUESDAY)).status == "published"


def test_a_lake_on_this_machine_may_change_its_engine(lake: TinyLake) -> None:
    define(lake)
    assert only(lake.run(TABLE, MONDAY)).status == "published"
    assert lake.delta(TABLE).metadata().configuration == {}


# -- requests ----------------------------------------------------------------------------------


def test_an_input_is_opened_twice_for_a_batch_however_many_plans_read_it(
    feed: TinyLake, network: Proxy
) -> None:
    """By the platform, and by the engine, which asks for this object twice as it opens a table."""
    feed.run(TABLE, MONDAY)
    network.asked()
    assert only(feed.run(TABLE, TUESDAY)).status == "published"
    opened = "/bronze/feed/_delta_log/_last_checkpoint"
    assert len([r for r in network.asked() if r.path.endswith(opened)]) <= 3


def test_a_run_with_nothing_to_do_asks_little(feed: TinyLake, network: Proxy) -> None:
    feed.run(TABLE, MONDAY)
    network.asked()
    assert only(feed.run(TABLE, MONDAY)).status == "unchanged"
    asked = network.asked()
    assert len(asked) <= 30
    assert {r.method for r in asked} <= {"GET", "HEAD"}
