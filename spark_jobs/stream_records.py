"""A record of a stream, and the line that it lands as.

Belongs here: the form of both, the same for whoever reads the stream. Does not belong here: reading
one, or what the records mean (batch/landing).

A record that is a JSON object lands as it was sent. Any other is a dead letter: it lands as a JSON
array, which no object is, with its position, the reason and its bytes, and leaves for the quarantine
from there as every line does that cannot be parsed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spark_jobs.json_objects import decoded


@dataclass(frozen=True)
class StreamRecord:
    """`position` is its sequence number or offset within the shard or partition, `arrived` when the
    stream took it: ISO 8601 with milliseconds, in UTC."""

    data: bytes
    shard: str
    position: str
    arrived: str
    key: str | None = None


@dataclass(frozen=True)
class Line:
    """What is written, and why the record is a dead letter, if it is one."""

    text: bytes
    reason: str = ""


def line(record: StreamRecord, added: Mapping[str, str | None] | None = None) -> Line:
    """A record as one line. `added` are fields and values for an object that has no such field.

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
    whole = record.data.translate(_NO_BREAKS).strip(b" ")
    missing = {n: v for n, v in (added or {}).items() if v is not None and n not in value}
    return Line((_with(whole, missing, bool(value)) if missing else whole) + b"\n")


def sent(dead_letter: str) -> bytes | None:
    """The bytes that a dead letter was sent as; None if the text is none."""
    try:
        (found,) = json.loads(dead_letter)
        return found["text"].encode() if "text" in found else base64.b64decode(found["base64"])
    except (ValueError, TypeError, KeyError):
        return None


_NO_BREAKS = bytes.maketrans(b"\r\n", b"  ")


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
    return json.dumps([about]).encode() + b"\n"


def _with(text: bytes, added: Mapping[str, str | None], more: bool) -> bytes:
    """The object with more fields."""
    fields = ", ".join(f"{json.dumps(n)}: {json.dumps(v)}" for n, v in added.items()).encode()
    body = text[: text.rindex(b"}")].rstrip()
    return body + (b", " if more else b"") + fields + b"}"
