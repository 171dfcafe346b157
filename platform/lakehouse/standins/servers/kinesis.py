"""Kinesis as AWS has it, where moto plays it more simply.

Belongs here: what becomes of shards and records at a reshard, sequence numbers, the ends of shards,
expiry, and the faults that a consumer has to live with. Does not belong here: the server (aws.py).

moto moves records to the children of a shard and goes on writing to the parent. Here a parent keeps its
records, takes no others, and ends.
"""

from __future__ import annotations

import bisect
import itertools
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

FAULTS_PATH = "/standin/kinesis"
_TARGET = "Kinesis_20131202."
_PAGE_OF_SHARDS = 3
_CODES = {
    "throttle": (400, "ProvisionedThroughputExceededException"),
    "expire": (400, "ExpiredIteratorException"),
    "unavailable": (500, "InternalFailure"),
    "deny": (400, "AccessDeniedException"),
}
_numbers = itertools.count(time.time_ns())
_clock: list[float] = []
"""The time at which records arrive, if it is another than now."""


class Faults:
    """Answers requests that are to fail, and the path that says which: the next `times` of an
    `operation` by `fault`, or records of a `stream` to `trim` that arrived before a time. It takes the
    `clock` too, by which records arrive from then on."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._planned: list[dict[str, Any]] = []
        self._lock = threading.Lock()  # no record is put into a shard that closes meanwhile

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == FAULTS_PATH:
            size = int(environ.get("CONTENT_LENGTH") or 0)
            self._plan(json.loads(environ["wsgi.input"].read(size)))
            return _answer(start, 200, {})
        operation = environ.get("HTTP_X_AMZ_TARGET", "")
        if operation.startswith(_TARGET):
            for plan in self._planned:
                if plan["operation"] == operation.removeprefix(_TARGET):
                    plan["times"] -= 1
                    if plan["times"] <= 0:
                        self._planned.remove(plan)
                    status, code = _CODES[plan["fault"]]
                    return _answer(start, status, {"__type": code, "message": plan["fault"]})
            with self._lock:
                return self._app(environ, start)
        return self._app(environ, start)

    def _plan(self, asked: dict[str, Any]) -> None:
        if "clock" in asked:
            at = asked["clock"]
            _clock[:] = [datetime.fromisoformat(at).timestamp()] if at else []
        elif "trim" in asked:
            trim(asked["trim"], datetime.fromisoformat(asked["before"]).timestamp())
        else:
            self._planned.append(
                {"fault": asked["fault"], "operation": asked["operation"], "times": asked["times"]}
            )


def _answer(start: StartResponse, status: int, body: dict[str, Any]) -> Iterable[bytes]:
    start(f"{status} -", [("Content-Type", "application/x-amz-json-1.1")])
    return [json.dumps(body).encode()]


def trim(stream: str, before: float) -> None:
    """Removes records that arrived earlier, and closed shards that have none left."""
    from moto.kinesis.models import kinesis_backends

    for account in kinesis_backends.values():
        for backend in account.values():
            if stream in backend.streams:
                found = backend.streams[stream]
                for shard in list(found.shards.values()):
                    kept = {n: r for n, r in shard.records.items() if r.created_at >= before}
                    shard.records = OrderedDict(kept)
                    if not kept and not shard.is_open:
                        del found.shards[shard.shard_id]


def as_in_aws() -> None:
    """Changes moto's Kinesis for the rest of this process."""
    from moto.kinesis import models

    changed: dict[Any, dict[str, Any]] = {
        models.Shard: {"put_record": _put_record, "get_records": _get_records},
        models.Stream: {
            "get_shard_for_key": _get_shard_for_key,
            "split_shard": _split_shard,
            "merge_shards": _merge_shards,
        },
        models.KinesisBackend: {"get_records": _backend_get_records, "list_shards": _list_shards},
    }
    for kind, methods in changed.items():
        for name, method in methods.items():
            setattr(kind, name, method)


def _put_record(shard: Any, partition_key: str, data: str, explicit_hash_key: str) -> str:
    """Numbers grow over the whole stream, and have as many digits as AWS's."""
    from moto.kinesis.models import Record

    number = 49_000_000_000_000_000_000_000_000_000_000_000_000 + next(_numbers)
    record = Record(partition_key, data, number, explicit_hash_key)
    if _clock:
        record.created_at = _clock[0]
        record.created_at_datetime = datetime.fromtimestamp(_clock[0], UTC)
    shard.records[number] = record
    return str(number)


def _get_records(shard: Any, after: str, limit: int | None) -> tuple[list[Any], int, int]:
    """Records behind a number, and how far the last of them is behind the tip: 0 only if it is there."""
    numbers = list(shard.records)
    begin = bisect.bisect_right(numbers, int(after))
    end = min(begin + (limit or 10_000), len(numbers))
    found = [shard.records[n] for n in numbers[begin:end]]
    last = numbers[end - 1] if found else int(after)
    if end >= len(numbers):
        return found, last, 0
    seconds = time.time() - shard.records[numbers[end]].created_at
    return found, last, max(1, int(1000 * seconds))


def _backend_get_records(
    backend: Any, stream_arn: str | None, shard_iterator: str, limit: int | None
) -> tuple[str | None, list[Any], int]:
    from moto.kinesis.utils import compose_shard_iterator, decompose_shard_iterator

    name, shard_id, after = decompose_shard_iterator(shard_iterator)
    stream = backend.describe_stream(stream_arn=stream_arn, stream_name=name)
    shard = stream.get_shard(shard_id)
    is_open = shard.is_open  # before reading: what is written in between has to be found
    records, last, behind = shard.get_records(after, limit)
    if not is_open and not behind:
        return None, records, behind
    return compose_shard_iterator(name, shard, last), records, behind


def _get_shard_for_key(stream: Any, partition_key: str, explicit_hash_key: str) -> Any:
    from moto.utilities.utils import md5_hash

    digest = md5_hash(partition_key.encode()).hexdigest()
    key = int(explicit_hash_key) if explicit_hash_key else int(digest, 16)
    for shard in stream.shards.values():
        if shard.is_open and shard.starting_hash <= key <= shard.ending_hash:
            return shard
    return None


def _child(stream: Any, starts: int, ends: int, parent: str, adjacent: str | None = None) -> None:
    from moto.kinesis.models import Shard

    number = max(map(attrgetter("_shard_id"), stream.shards.values())) + 1
    child = Shard(number, starts, ends, parent=parent, adjacent_parent=adjacent)
    stream.shards[child.shard_id] = child


def _split_shard(stream: Any, shard_to_split: str, new_starting_hash_key: str) -> None:
    parent, at = stream.shards[shard_to_split], int(new_starting_hash_key)
    parent.is_open = False
    _child(stream, parent.starting_hash, at - 1, shard_to_split)
    _child(stream, at, parent.ending_hash, shard_to_split)


def _merge_shards(stream: Any, shard_to_merge: str, adjacent_shard_to_merge: str) -> None:
    one, other = (stream.shards[s] for s in (shard_to_merge, adjacent_shard_to_merge))
    one.is_open = other.is_open = False
    starts = min(one.starting_hash, other.starting_hash)
    ends = max(one.ending_hash, other.ending_hash)
    _child(stream, starts, ends, shard_to_merge, adjacent_shard_to_merge)


def _list_shards(
    backend: Any,
    stream_arn: str | None = None,
    stream_name: str | None = None,
    limit: int | None = None,
    next_token: str | None = None,
) -> tuple[list[Any], str | None]:
    """Small pages, of which a later one names no stream but has its token."""
    from moto.kinesis.exceptions import InvalidArgumentError

    begin = 0
    if next_token:
        if stream_name or stream_arn:
            raise InvalidArgumentError("NextToken and StreamName cannot be provided together.")
        stream_name, _, at = next_token.rpartition("@")
        begin = int(at)
    stream = backend.describe_stream(stream_arn=stream_arn, stream_name=stream_name)
    shards = sorted(stream.shards.values(), key=attrgetter("shard_id"))
    end = begin + min(limit or _PAGE_OF_SHARDS, _PAGE_OF_SHARDS)
    return shards[begin:end], f"{stream.stream_name}@{end}" if end < len(shards) else None
