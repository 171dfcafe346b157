"""Records of a stream as lines: nothing that was sent is lost, and nothing is taken for an object
that is none.

Here: one record at a time. Not here: reading a stream (test_kinesis.py, test_streaming.py).
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_jobs.stream_records import StreamRecord, line, sent


def record(data: bytes) -> StreamRecord:
    return StreamRecord(data, "shardId-000000000000", "42", "2026-10-05T07:59:01.250Z", "sensor_01")


@pytest.mark.parametrize(
    ("data", "landed"),
    [
        (b'{"a": 1.10}', b'{"a": 1.10, "at": "T"}\n'),
        (b'{"a": "x}"}  ', b'{"a": "x}", "at": "T"}\n'),
        (b"{}", b'{"at": "T"}\n'),
        (b'{"at": "S"}', b'{"at": "S"}\n'),  # its producer knows better
        (b'{"a":\r\n1}', b'{"a":  1, "at": "T"}\n'),
        (b'{"a": 12345678901234567890}', b'{"a": 12345678901234567890, "at": "T"}\n'),
    ],
)
def test_an_object_is_one_line_with_all_that_was_sent(data: bytes, landed: bytes) -> None:
    assert line(record(data), {"at": "T", "key": None}).text == landed


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"not json\n", "no JSON object"),
        (b"", "no JSON object"),
        (b"[1]", "no JSON object"),
        (b'{"a": NaN}', "no JSON object"),
        (b'{"a": 1, "a": 2}', "no JSON object"),
        (b'{"a": "\\ud800"}', "no JSON object"),
        (b'{"a": "\xff"}', "no UTF-8"),
        (b"\x00\xff\r\n", "no UTF-8"),
        (b"[" * 100_000, "no JSON object"),
    ],
)
def test_a_dead_letter_keeps_bytes_position_and_reason(data: bytes, reason: str) -> None:
    landed = line(record(data), {"at": "T"})
    assert landed.reason == reason and landed.text.count(b"\n") == 1
    (kept,) = json.loads(landed.text)
    assert (kept["shard"], kept["position"]) == ("shardId-000000000000", "42")
    assert (kept["reason"], kept["key"]) == (reason, "sensor_01")
    assert sent(landed.text.decode()) == data


@given(st.binary(max_size=40))
def test_whatever_bytes_are_sent_come_back(data: bytes) -> None:
    landed = line(record(data))
    assert landed.text.endswith(b"\n") and b"\n" not in landed.text[:-1]
    if landed.reason:
        assert sent(landed.text.decode()) == data
    else:
        assert json.loads(landed.text) == json.loads(data)
