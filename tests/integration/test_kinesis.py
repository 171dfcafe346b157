"""A drain of a Kinesis stream: every record lands once, whatever happens to the stream or the process.

Here: boto3 against a server that speaks Kinesis and reshards. Not here: the form of a line
(test_stream_records.py), or what becomes of landed files.
"""

from __future__ import annotations

import hashlib
import json
import signal
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aws_kinesis_agg.aggregator import RecordAggregator

from lakehouse.sources.kinesis.aggregation import unpacked
from lakehouse.sources.kinesis.shard import KinesisShard
from lakehouse.sources.kinesis.stream import KinesisStream, gaps
from lakehouse.sources.streams.form import Form
from lakehouse.sources.streams.positions import Position
from lakehouse.standins.servers.aws import Aws
from spark_jobs.errors import ConflictError, InputError
from spark_jobs.stream_records import StreamRecord, lines
from tests import processes
from tests.integration.kinesis_streams import NAME, At, Crash, Stream, crash, drain_and_die


@pytest.fixture
def stream(aws: Aws, tmp_path: Path) -> Stream:
    made = Stream(aws.url, tmp_path)
    made.create()
    return made


def test_a_drain_lands_what_came_since_the_last_one(stream: Stream) -> None:
    stream.put(100)
    first = stream.drain()
    stream.put(50)
    second = stream.drain()
    assert (first.records, second.records, stream.drain().records) == (100, 50, 0)
    assert stream.landed_ids() == list(range(150))
    assert set(second.behind.values()) == {0}
    assert sum(first.by_partition.values()) == 100 and first.files > 2
    assert all(0 <= seconds < 60 for seconds in first.oldest.values())


def test_a_record_lands_in_its_order_with_what_the_stream_knows_of_it(stream: Stream) -> None:
    stream.form = Form(
        fields={"arrived": "at", "position": "sequence", "shard": "shard", "key": "key"}
    )
    stream.put(40)
    stream.drain()
    for file in (stream.root / "landing").glob("*/*.json"):
        records = [json.loads(text) for text in file.read_text().splitlines()]
        numbers = [int(r["sequence"]) for r in records]
        assert numbers == sorted(numbers)
        shard, first, last = file.stem.rsplit("-", 2)
        assert (int(first), int(last)) == (numbers[0], numbers[-1])
        assert {r["shard"] for r in records} == {shard}
        assert {r["at"][:13] for r in records} == {file.parent.name}
        assert all(r["key"] == r["sensor_id"] for r in records)


def test_shards_that_split_and_merge_while_they_are_drained_lose_and_double_nothing(
    stream: Stream,
) -> None:
    changes = [stream.split, lambda: stream.put(30), stream.merge, lambda: stream.put(30)]

    def reshard(step: str) -> None:
        if step == "after file" and changes:
            changes.pop(0)()

    stream.put(200)
    stream.drain(reshard)
    stream.split(1)
    stream.put(40)
    for _ in range(3):
        stream.drain()
    assert not changes and stream.landed_ids() == list(range(300))
    assert len(KinesisStream.open(stream.client, NAME).shards) == 7, "more than one page of shards"


def test_a_child_is_read_only_after_its_parents_end(stream: Stream) -> None:
    stream.put(60)
    stream.split()
    stream.put(60)
    stream.merge()
    stream.put(60)
    stream.drain()
    positions = stream.progress(KinesisStream.open(stream.client, NAME)).positions
    assert sorted(p.ended for p in positions.values()) == [False, False, True, True, True]
    # The order in which ids of one key landed is the one in which they were sent.
    order: dict[str, list[int]] = {}
    files = sorted((stream.root / "landing").glob("*/*.json"), key=lambda f: f.stat().st_mtime_ns)
    for file in files:
        for text in file.read_text().splitlines():
            order.setdefault(json.loads(text)["sensor_id"], []).append(json.loads(text)["id"])
    assert all(ids == sorted(ids) for ids in order.values())


def test_a_drain_that_crashes_at_any_step_is_finished_by_the_next(aws: Aws, tmp_path: Path) -> None:
    stream = Stream(aws.url, tmp_path / "0")
    stream.create()
    stream.put(60)
    stream.split()
    stream.put(60)
    every = At(0, crash)
    whole = stream.drain(every)
    names = {f.name for f in stream.root.glob("landing/*/*")}
    assert every.seen > 30 and whole.records == 120
    for step in range(1, every.seen + 1):
        again = Stream(aws.url, tmp_path / str(step), sent=stream.sent)
        with pytest.raises(Crash):
            again.drain(At(step, crash))
        again.drain()
        assert again.landed_ids() == list(range(120)), step
        assert {f.name for f in again.root.glob("landing/*/*")} == names, step


@pytest.mark.slow
def test_kills_while_producers_write_and_shards_change_lose_and_double_nothing(
    stream: Stream,
) -> None:
    done = threading.Event()

    def produce() -> None:
        while not done.wait(0.05):
            stream.put(5)

    producer = threading.Thread(target=produce)
    producer.start()
    stream.put(50)
    try:
        killed = 0
        for turn in range(1, 60):
            # A drain that has little to do ends before a late step.
            process = processes.start(drain_and_die, stream.url, stream.root, 1 + turn % 14)
            killed += processes.finish(process) == -signal.SIGKILL
            if turn % 4 == 0:
                (stream.split, stream.merge)[turn // 4 % 2]()
            if killed == 20:
                break
    finally:
        done.set()
        producer.join()
    assert killed >= 20
    for _ in range(2):
        stream.drain()
    assert stream.landed_ids() == list(range(len(stream.sent)))


def test_two_drains_at_once_do_not_land_a_record_twice(stream: Stream) -> None:
    stream.put(100)
    other = Stream(stream.url, stream.root)

    def overtaken(step: str) -> None:
        if not other.sent:
            other.sent.append({})
            other.drain()

    with pytest.raises(ConflictError):
        stream.drain(overtaken)
    stream.drain()
    assert stream.landed_ids() == list(range(100))


def test_throttling_expired_iterators_and_an_unwell_service_are_lived_with(
    aws: Aws, stream: Stream
) -> None:
    stream.put(100)
    aws.fail_kinesis("throttle", "GetRecords", 7)
    aws.fail_kinesis("expire", "GetRecords", 2)
    aws.fail_kinesis("unavailable", "GetShardIterator", 2)
    stream.drain()
    assert stream.landed_ids() == list(range(100))


def test_an_iterator_that_expires_in_the_middle_goes_on_where_it_was(
    aws: Aws, stream: Stream
) -> None:
    stream.put(100)
    read: list[str] = []
    for batch in stream.open().shards[0].read(None):
        read += [r.position for r in batch.records]
        aws.fail_kinesis("expire", "GetRecords")
    assert len(read) == len(set(read)) > 20 and read == sorted(read)


def test_a_shard_is_asked_no_more_often_than_it_may_be(stream: Stream) -> None:
    stream.put(100)
    paced = replace(stream.open().shards[0], seconds_between_calls=0.05)
    began = datetime.now(UTC)
    calls = sum(1 for _ in paced.read(None))
    assert calls > 3 and datetime.now(UTC) - began >= (calls - 1) * timedelta(seconds=0.05)


def test_records_that_left_the_stream_unread_fail_the_drain_and_say_how_many_hours(
    aws: Aws, stream: Stream
) -> None:
    stream.put(20)
    stream.drain()
    found = KinesisStream.open(stream.client, NAME)
    positions = stream.progress(found).positions
    later = datetime.now(UTC) + timedelta(hours=23)
    found.refuse_gap(positions, later)
    with pytest.raises(
        InputError, match=r"\(2\.0 hours\) has left it before .* for 24 hours"
    ) as error:
        found.refuse_gap(positions, later + timedelta(hours=3))
    assert "lakehouse stream reset" in str(error.value)
    found.refuse_gap({}, later + timedelta(hours=3))  # whoever never read it starts at its oldest


def test_a_shard_that_went_unread_is_a_gap_and_one_read_to_its_end_is_none(
    aws: Aws, stream: Stream
) -> None:
    stream.put(40)
    stream.drain()
    stream.split()
    aws.trim_kinesis(NAME, (datetime.now(UTC) + timedelta(seconds=1)).isoformat())
    assert len(KinesisStream.open(stream.client, NAME).shards) == 3
    with pytest.raises(InputError, match="shardId-000000000000"):
        stream.drain()


@pytest.mark.parametrize(
    ("positions", "lost"),
    [
        ({}, {}),
        ({"parent": ("09", True), "child": ("11", False)}, {}),
        ({"parent": ("09", True), "child": ("09", False)}, {"child": "09"}),
        ({"parent": ("09", True)}, {"child": "09"}),
        ({"parent": ("11", True)}, {}),
        ({"older": ("09", True)}, {"child": "09"}),  # its parent came and went meanwhile
        ({"gone": ("12", False), "child": ("12", False)}, {"gone": "12"}),
        ({"gone": ("09", True), "child": ("12", False)}, {}),
    ],
)
def test_what_is_lost_is_told_by_shard(
    positions: dict[str, tuple[str, bool]], lost: dict[str, str]
) -> None:
    child = KinesisShard(None, NAME, "child", ("parent",), False, datetime.now(UTC))
    known = {n: Position(after="1", through=t, ended=e) for n, (t, e) in positions.items()}
    assert gaps([child], known, "10") == lost


def test_a_stream_that_was_deleted_and_made_again_is_read_from_its_beginning(
    stream: Stream,
) -> None:
    stream.put(30)
    stream.drain()
    stream.client.delete_stream(StreamName=NAME)
    stream.create()
    stream.put(30)
    assert stream.drain().records == 30
    assert stream.landed_ids() == list(range(60))


# -- records in one ------------------------------------------------------------------------------


def packed(*bodies: bytes) -> bytes:
    """As the producer library does, by another implementation of its format."""
    aggregator = RecordAggregator()
    for n, body in enumerate(bodies):
        aggregator.add_user_record(f"key-{n % 2}", body)
    return aggregator.clear_and_get().get_contents()[2]


def test_packed_records_land_one_by_one_and_a_crash_doubles_none(stream: Stream) -> None:
    bodies = [json.dumps({"id": n, "text": "é" * 50}).encode() for n in range(30)]
    for begin in range(0, 30, 10):
        body = packed(*bodies[begin : begin + 10])
        stream.client.put_record(StreamName=NAME, Data=body, PartitionKey="k")
    stream.form = Form(file_bytes=800, fields={"position": "at", "key": "key"})
    with pytest.raises(Crash):
        stream.drain(At(6, crash))
    stream.drain()
    assert stream.landed_ids() == list(range(30))
    assert {(r["at"].partition(":")[2], r["key"]) for r in stream.landed()} == {
        (str(n), f"key-{n % 2}") for n in range(10)
    }


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: whole[:10] + b"x" + whole[11:],
        lambda whole: whole[:4],
        lambda whole: b"",
    ],
)
def test_what_is_not_packed_as_it_says_stays_as_it_is(damage) -> None:
    record = StreamRecord(damage(packed(b"{}", b"{}")), "s", "1", "2026-10-05T07:59:01.250Z")
    assert list(unpacked(record)) == [record]


def test_a_packed_record_whose_key_is_no_text_stops_no_drain() -> None:
    whole = packed(b'{"id": 1}', b"[]")
    body = whole[4:-16].replace(b"key-", b"key\xff")
    damaged = whole[:4] + body + hashlib.md5(body).digest()
    records = unpacked(StreamRecord(damaged, "s", "1", "2026-10-05T07:59:01.250Z", "k"))
    text, dead = lines(list(records), {"key": "key"})
    assert json.loads(text.splitlines()[0]) == {"id": 1, "key": "key\\xff0"}
    assert [(record.key, reason) for record, reason in dead] == [("key\\xff1", "no JSON object")]
