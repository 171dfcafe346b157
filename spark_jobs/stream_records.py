"""A record of a stream, and the line that it lands as.

Belongs here: the form of both, the same for whoever reads the stream. Does not belong here: reading
one, or what the records mean (batch/landing). Every record of every stream passes here: what most of
them are is told by parsers that are compiled, and `line` judges the rest.

A record that is a JSON object lands as it was sent. Any other is a dead letter: it lands as a JSON
array, which no object is, with its position, the reason and its bytes, and leaves for the quarantine
from there as every line does that cannot be parsed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from spark_jobs.json_objects import decoded


class StreamRecord(NamedTuple):
    """`position` is its sequence number or offset within the shard or partition, `arrived` when the
    stream took it: ISO 8601 with milliseconds, in UTC."""

    data: bytes
    shard: str
    position: str
    arrived: str
    key: str | None = None


class Line(NamedTuple):
    """What is written, and why the record is a dead letter, if it is one."""

    text: bytes
    reason: str = ""


def line(record: StreamRecord, added: Mapping[str, str | None] | None = None) -> Line:
    """A record as one line, without its end. `added` are fields and values for an object that has no
    such field.

    Line breaks in JSON lie between its parts only, where a space says the same: apart from that, what
    was sent stays to the letter.
    """
    try:
        text = record.data.decode()
        value = decoded(text)
        reason = "" if isinstance(value, dict) else "no JSON object"
        if not reason and "\\u" in text:  # an escaped half of a surrogate pair is no character
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        reason = "no UTF-8"
    except (ValueError, RecursionError):
        reason = "no JSON object"
    if reason:
        return Line(_dead_letter(record, reason), reason)
    return Line(_written(record.data, value, added or {}))


def lines(
    records: Iterable[StreamRecord], fields: Mapping[str, str]
) -> tuple[bytes, list[tuple[StreamRecord, str]]]:
    """The lines of records, each as `line` has it, and those that are dead letters with the reason.
    `fields`: what is added to an object that has no such field, by the name that a record has it by."""
    texts, dead = list[bytes](), list[tuple[StreamRecord, str]]()
    for record in records:
        added = {name: getattr(record, of) for of, name in fields.items()} if fields else fields
        data = record.data
        value = _object(data)
        if value is not None:
            texts.append(_written(data, value, added))
            continue
        text, reason = line(record, added)
        texts.append(text)
        if reason:
            dead.append((record, reason))
    return b"\n".join([*texts, b""]), dead


def sent(dead_letter: str) -> bytes | None:
    """The bytes that a dead letter was sent as; None if the text is none."""
    try:
        (found,) = json.loads(dead_letter)
        return found["text"].encode() if "text" in found else base64.b64decode(found["base64"])
    except (ValueError, TypeError, KeyError):
        return None


_NO_BREAKS = bytes.maketrans(b"\r\n", b"  ")


def _object(data: bytes) -> dict[str, Any] | None:
    """The value of what is an object beyond doubt, its numbers rounded; None leaves it to `decoded`.

    Where a key stands twice there are more commas than the value has pairs, if it has no object within
    it; and there are more colons than in the value written again. No escape stands for one of these, or
    for half a character, where there is none.
    """
    if b"\\" in data:
        return None
    try:
        value = from_json(data, allow_inf_nan=False)
        if type(value) is not dict:
            return None
        flat = data.rfind(b"{") == data.find(b"{")
        if flat and data.count(b",") == len(value) - 1:
            return value
        return value if to_json(value).count(b":") == data.count(b":") else None
    except ValueError:
        return None


def _written(data: bytes, value: Mapping[str, Any], added: Mapping[str, str | None]) -> bytes:
    """An object as its line, without its end and with what it does not have of `added`."""
    whole = data.translate(_NO_BREAKS).strip(b" ")
    missing = {n: v for n, v in added.items() if v is not None and n not in value}
    if missing:
        body = whole[: whole.rindex(b"}")].rstrip()
        whole = body + (b", " if value else b"") + to_json(missing)[1:]
    return whole


def _dead_letter(record: StreamRecord, reason: str) -> bytes:
    about: dict[str, Any] = {
        "shard": record.shard,
        "position": record.position,
        "arrived": record.arrived,
        "key": record.key,
        "reason": reason,
    }
    try:
        about["text"] = record.data.decode()
    except UnicodeDecodeError:
        about["base64"] = base64.b64encode(record.data).decode()
    return json.dumps([about]).encode()
