"""Records that the Kinesis Producer Library packed into one.

Belongs here: the format, which is public (amazon-kinesis-producer, aggregation-format.md). Does not
belong here: reading a stream (shard.py).

A record that looks packed and is not, by its digest, is left as it is: nothing is guessed, and nothing
dropped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from typing import Any

from spark_jobs.stream_records import StreamRecord

_MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST_BYTES = 16


def unpacked(record: StreamRecord) -> Iterator[StreamRecord]:
    """The records that one holds, each with its number behind the position; itself if it holds none."""
    body, digest = record.data[len(_MAGIC) : -_DIGEST_BYTES], record.data[-_DIGEST_BYTES:]
    if not record.data.startswith(_MAGIC) or _digest(body) != digest:
        yield record
        return
    packed = _aggregated_record()()
    try:
        packed.ParseFromString(body)
        keys = [_text(key) for key in packed.partition_key_table]
        parts = [(part.data, keys[part.partition_key_index]) for part in packed.records]
    except Exception:  # of protobuf, or a key that is not there: somebody else's format
        parts = []
    if not parts:
        yield record
    for number, (data, key) in enumerate(parts):
        yield record._replace(data=data, key=key, position=f"{record.position}:{number}")


def _text(key: str | bytes) -> str:
    """A key, which protobuf has as bytes if it is no UTF-8: nobody has checked it."""
    return key if isinstance(key, str) else key.decode("utf-8", "backslashreplace")


def _digest(body: bytes) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


@cache
def _aggregated_record() -> Any:
    """The message, as the library's messages.proto has it."""
    from google.protobuf import (  # type: ignore[import-untyped]
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )

    kinds = descriptor_pb2.FieldDescriptorProto
    text, number, raw = kinds.TYPE_STRING, kinds.TYPE_UINT64, kinds.TYPE_BYTES
    file = descriptor_pb2.FileDescriptorProto(name="lakehouse/kinesis.proto", syntax="proto2")
    file.package = "lakehouse.kinesis"

    def message(name: str, *fields: tuple[str, int, int, str]) -> None:
        made = file.message_type.add(name=name)
        for at, (field, kind, label, of) in enumerate(fields, start=1):
            added = made.field.add(name=field, number=at, type=kind, label=label)
            if of:
                added.type_name = of

    one, maybe, many = kinds.LABEL_REQUIRED, kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    message("Tag", ("key", text, one, ""), ("value", text, maybe, ""))
    message(
        "Record",
        ("partition_key_index", number, one, ""),
        ("explicit_hash_key_index", number, maybe, ""),
        ("data", raw, one, ""),
        ("tags", kinds.TYPE_MESSAGE, many, ".lakehouse.kinesis.Tag"),
    )
    message(
        "AggregatedRecord",
        ("partition_key_table", text, many, ""),
        ("explicit_hash_key_table", text, many, ""),
        ("records", kinds.TYPE_MESSAGE, many, ".lakehouse.kinesis.Record"),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("lakehouse.kinesis.AggregatedRecord")
    return message_factory.GetMessageClass(found)
