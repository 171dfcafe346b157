"""Hours in which a stream had nothing: they are delivered as soon as every shard has been read beyond
them, and not before; and a record that comes late for one arrives.

Here: a dataset over Kinesis and Kafka, with its landing. Not here: how it is drained (test_kinesis.py,
test_kafka.py).
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from lakehouse.settings.operations import PartitionSettings
from lakehouse.settings.sources import KafkaConnection, KinesisConnection
from lakehouse.sources.cursors import SqliteStore
from lakehouse.sources.kafka import connection as kafka_connection
from lakehouse.sources.kafka.partition import KafkaPartition
from lakehouse.sources.kinesis import connection as kinesis_connection
from lakehouse.sources.kinesis.stream import KinesisStream
from lakehouse.sources.landing import snapshot
from lakehouse.sources.stream_datasets import LandingFiles, StreamDataset
from lakehouse.sources.streams.drain import iso
from lakehouse.sources.streams.positions import Position
from lakehouse.sources.streams.silence import beginning, passed, read_through
from lakehouse.standins.servers.aws import REGION, Aws
from lakehouse.standins.servers.kafka.broker import Broker
from spark_jobs.contract.source import Kafka, Kinesis
from spark_jobs.lake import manifest
from spark_jobs.lake.manifest import Manifest
from spark_jobs.lake.storage import Storage
from spark_jobs.window import Scheme, Window
from tests.integration.kinesis_streams import NAME, At, Crash, Hooked, client, crash
from tests.lakes import TinyLake, column, contract, copied

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour that does not end while a test runs."""
    left = 3600 - time.time() % 3600
    if left < 30:
        time.sleep(left)
    monkeypatch.setattr(sys.modules[__name__], "NOW", datetime.now(UTC))


def hour(ago: int) -> str:
    return f"{NOW - timedelta(hours=ago):%Y-%m-%dT%H}"


def before_in_its_day(ago: int) -> list[str]:
    return [hour(ago)[:-2] + f"{n:02}" for n in range(int(hour(ago)[-2:]))]


@dataclass
class Readings:
    """A dataset of a stream; `put` sends a record that arrives so many hours ago."""

    dataset: StreamDataset
    put: Callable[[int], Any]

    def answers(self) -> dict[str, list[str]]:
        root = Path(self.dataset.files.uri)
        found: dict[str, list[str]] = {folder.name: [] for folder in root.glob("*")}
        for file in sorted(root.glob("*/*.json")):
            found[file.parent.name].append("empty" if file.name == "_manifest.json" else "records")
        return found


def dataset(root: Path, stream: Any, declared: Any) -> StreamDataset:
    positions = SqliteStore(root / "positions.sqlite")
    files = LandingFiles(Storage(), str(root / "lake/landing/readings"))
    return StreamDataset(declared, stream, "hourly", positions, files)


@pytest.fixture
def kinesis(aws: Aws, tmp_path: Path) -> Readings:
    client(aws.url).create_stream(StreamName=NAME, ShardCount=2)
    declared = Kinesis(kind="kinesis", dataset="readings", format="json", stream=NAME)
    to = KinesisConnection(region=REGION, endpoint=aws.url, calls_per_second=1000)
    made = dataset(tmp_path, kinesis_connection.stream(to, declared), declared)

    def put(ago: int) -> None:
        aws.set_kinesis_clock((NOW - timedelta(hours=ago)).isoformat())
        made.put(json.dumps({"id": ago}).encode(), "k")

    return Readings(made, put)


@pytest.fixture
def topic(kafka: Broker, tmp_path: Path) -> Readings:
    name = f"readings.{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.plain})
    admin.create_topics([NewTopic(name, 2, 1)])[name].result()
    declared = Kafka(kind="kafka", dataset="readings", format="json", topic=name, clock="producer")
    to = KafkaConnection(bootstrap=kafka.plain, protocol="PLAINTEXT")
    producer = Producer({"bootstrap.servers": kafka.plain})

    def put(ago: int) -> None:
        at = int(1000 * (NOW - timedelta(hours=ago)).timestamp())
        producer.produce(name, json.dumps({"id": ago}).encode(), "k", timestamp=at)
        assert producer.flush(30) == 0

    return Readings(dataset(tmp_path, kafka_connection.stream(to, declared), declared), put)


@pytest.fixture(params=["kinesis", pytest.param("topic", marks=pytest.mark.jvm)])
def readings(request: pytest.FixtureRequest) -> Readings:
    return request.getfixturevalue(request.param)


def test_hours_without_a_record_are_empty_and_what_comes_late_takes_their_place(
    readings: Readings,
) -> None:
    for ago in (5, 2):
        readings.put(ago)
    done = readings.dataset.drain()
    hours = [
        *before_in_its_day(5),
        hour(4),
        hour(3),
        hour(1),
    ]  # nothing was before the first record
    silent = {key: ["empty"] for key in hours}
    assert readings.answers() == {hour(5): ["records"], hour(2): ["records"], **silent}
    assert done.silent == sorted(silent), "the hour of now is not over"
    storage, landing = Storage(), str(Path(readings.dataset.files.uri).parent)
    before = snapshot(storage, landing, ["readings"])["readings"]
    readings.put(3)
    assert readings.dataset.drain().silent == []
    assert readings.answers()[hour(3)] == ["records"]
    after = snapshot(storage, landing, ["readings"])["readings"]
    assert {h for h in after if after[h] != before[h]} == {hour(3)}, "its tables are asked for"


def test_a_drain_that_crashes_at_any_step_leaves_answers_to_the_next(
    kinesis: Readings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KinesisStream, "whole", False)  # else steps are more late in the day
    for ago in (4, 2):
        kinesis.put(ago)
    step, crashed = 0, 0
    while step == crashed:
        step += 1
        root = tmp_path / str(step)
        made = dataset(root, kinesis.dataset.stream, kinesis.dataset.declared)
        at = At(step, crash)
        cursors: Any = Hooked(made.cursors, "advance", "position", at)
        storage: Any = Hooked(made.files.storage, "write", "file", at)
        root.mkdir()
        try:
            replace(made, cursors=cursors, files=replace(made.files, storage=storage)).drain()
        except Crash:
            crashed += 1
        made.drain()
        answers = Readings(made, kinesis.put).answers()
        expected = [["records"], ["empty"], ["records"], ["empty"]]
        assert [answers.get(hour(n)) for n in (4, 3, 2, 1)] == expected, step
    assert crashed > 8


def test_no_hour_is_answered_before_every_shard_has_been_read_beyond_it(
    aws: Aws, kinesis: Readings
) -> None:
    kinesis.put(3)
    client(aws.url).split_shard(
        StreamName=NAME, ShardToSplit="shardId-000000000000", NewStartingHashKey="99"
    )
    aws.fail_kinesis("deny", "GetRecords")
    with pytest.raises(ClientError, match="deny"):
        kinesis.dataset.drain()
    assert ["empty"] not in kinesis.answers().values()
    kinesis.dataset.drain()
    assert kinesis.answers()[hour(2)] == kinesis.answers()[hour(1)] == ["empty"]


@dataclass(frozen=True)
class Named:
    name: str


@pytest.mark.parametrize(
    ("positions", "through"),
    [
        ({"a": Position(through="09"), "b": Position(through="10")}, "09"),
        ({"a": Position(through="09")}, ""),  # nobody has read b
        ({"a": Position(through="09"), "b": Position(through="10", until="5")}, ""),
        ({"a": Position(through="09", ended=True), "b": Position(through="10")}, "10"),
        ({n: Position(through="09", ended=True) for n in "ab"}, ""),
    ],
)
def test_a_stream_is_read_through_as_far_as_its_slowest_shard(
    positions: dict[str, Position], through: str
) -> None:
    shards: Any = [Named("a"), Named("b")]
    assert read_through(shards, positions) == through


def test_what_comes_after_a_topic_was_listed_is_not_taken_for_read() -> None:
    """A partition may wait long for its turn; what came meanwhile is behind the end that it had."""
    nothing_new = KafkaPartition({}, "readings", 0, low=5, high=5, listed=NOW)
    (batch,) = nothing_new.read("4")
    assert batch.through == iso(NOW)


def test_a_record_of_another_century_does_not_have_all_hours_since_answered() -> None:
    at = datetime(2026, 10, 5, 7, 30, tzinfo=UTC)
    assert beginning(["1970-01-01T00:00:00.000Z"], at, "hourly") == "2026-09-28T07"
    known = ["2026-10-05T05:10:00.000Z", "2026-10-05T03:59:00.000Z", "2099-01-01T00:00:00.000Z"]
    assert beginning(known, at, "hourly") == "2026-10-05T03"
    assert beginning([], at, "daily") == "2026-10-05"


def test_a_stream_that_still_has_all_it_ever_had_answers_for_the_whole_of_its_first_day() -> None:
    at = datetime(2026, 10, 5, 7, 30, tzinfo=UTC)
    assert beginning(["2026-10-04T05:10:00.000Z"], at, "hourly", whole=True) == "2026-10-04T00"
    assert beginning([], at, "hourly", whole=True) == "2026-10-05T00"
    assert beginning([], at, "daily", whole=True) == "2026-10-05"
    assert beginning(["9999-01-01T00:00:00.000Z"], at, "hourly") == "2026-10-05T07"
    for age, whole in ((23, True), (25, False)):
        made = iso(datetime.now(UTC) - timedelta(hours=age))
        assert KinesisStream("s", made, timedelta(hours=24), ()).whole == whole


@pytest.mark.parametrize(
    ("first", "scheme", "windows"),
    [
        ("2026-10-05T22", "hourly", ["2026-10-05T22", "2026-10-05T23", "2026-10-06T00"]),
        ("2026-10-05", "daily", ["2026-10-05"]),
        ("2026-10-04T07", "daily", ["2026-10-05"]),
        ("2026-10-06", "hourly", ["2026-10-06T00"]),
    ],
)
def test_a_dataset_that_changes_its_scheme_goes_on_with_windows_of_the_new_one(
    first: str, scheme: Scheme, windows: list[str]
) -> None:
    found = passed(first, "2026-10-06T01:30:00.000Z", scheme)
    assert [window.key for window in found] == windows


def test_an_hour_that_is_no_partition_is_not_answered(kinesis: Readings) -> None:
    today = NOW.date()
    for start, end in (
        (today + timedelta(days=1), None),
        (today - timedelta(days=9), today - timedelta(days=2)),
    ):
        kinesis.put(5)
        days = PartitionSettings(start=start, end=end)
        assert replace(kinesis.dataset, partitions=days).drain().silent == []
    assert ["empty"] not in kinesis.answers().values()


@pytest.mark.parametrize("written", ["before its answer", "after its answer"])
def test_a_record_of_a_drain_that_was_overtaken_is_not_hidden_by_an_empty_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    files, window = LandingFiles(Storage(), str(tmp_path / "readings")), Window.of(hour(3))
    write = manifest.write

    def beside_another(storage: Storage, folder: str, said: Manifest) -> None:
        """Between the look for records and its consequence."""
        if written == "after its answer":
            write(storage, folder, said)
        files.write(window.key, "shard-1-1.json", [b"{}\n"])
        if written == "before its answer":
            write(storage, folder, said)

    monkeypatch.setattr(manifest, "write", beside_another)
    assert not files.answer_with_nothing(window)
    assert [file.name for file in tmp_path.glob("readings/*/*")] == ["shard-1-1.json"]


def test_a_silent_hour_is_a_partition_without_rows_that_a_day_is_made_of(
    kinesis: Readings, lake: TinyLake
) -> None:
    source = {"dataset": "readings", "format": "json", "kind": "kinesis", "stream": NAME}
    bronze = contract("bronze.readings", [column("id")], source=source, partitioning="hourly")
    lake.define(bronze)
    inputs = [{"table": "bronze.readings"}]
    typed = [column("id", key=1, of="bronze.readings.id")]
    silver = contract("silver.readings", typed, inputs=inputs, partitioning="hourly",
                      publish={"mode": "upsert", "sequence": "id"})  # fmt: skip
    lake.define(silver, copied("id", table="readings"))
    kinesis.put(3)
    kinesis.dataset.drain()
    hours = [hour(n) for n in (3, 2, 1)]
    for table in ("bronze.readings", "silver.readings"):
        lake.run(table, *hours)
    assert [row["id"] for row in lake.rows("silver.readings")] == ["3"]
    kinesis.put(2)
    kinesis.dataset.drain()
    for table in ("bronze.readings", "silver.readings"):
        lake.run(table, hour(2))
    assert sorted(row["id"] for row in lake.rows("silver.readings")) == ["2", "3"]
