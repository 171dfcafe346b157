"""Records of a stream as lines: nothing that was sent is lost, and nothing is taken for an object
that is none.

Here: one record at a time. Not here: reading a stream (test_kinesis.py, test_streaming.py).
"""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_jobs.stream_records import StreamRecord, line, lines, sent
from tests.documents import PROJECT


def record(data: bytes) -> StreamRecord:
    return StreamRecord(data, "shardId-000000000000", "42", "2026-10-05T07:59:01.250Z", "sensor_01")


@pytest.mark.parametrize(
    ("data", "landed"),
    [
        (b'{"a": 1.10}', b'{"a": 1.10, "at":"T"}'),
        (b'{"a": "x}"}  ', b'{"a": "x}", "at":"T"}'),
        (b"{}", b'{"at":"T"}'),
        (b'{"at": "S"}', b'{"at": "S"}'),  # its producer knows better
        (b'{"a":\r\n1}', b'{"a":  1, "at":"T"}'),
        (b'{"a": 12345678901234567890}', b'{"a": 12345678901234567890, "at":"T"}'),
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
    assert landed.reason == reason and b"\n" not in landed.text
    (kept,) = json.loads(landed.text)
    assert (kept["shard"], kept["position"]) == ("shardId-000000000000", "42")
    assert (kept["reason"], kept["key"]) == (reason, "sensor_01")
    assert sent(landed.text.decode()) == data


@given(st.binary(max_size=40))
def test_whatever_bytes_are_sent_come_back(data: bytes) -> None:
    landed = line(record(data))
    assert b"\n" not in landed.text
    if landed.reason:
        assert sent(landed.text.decode()) == data
    else:
        assert json.loads(landed.text) == json.loads(data)


# -- many at once --------------------------------------------------------------------------------

FIELDS = {"arrived": "at", "position": "offset", "key": "key"}


def agree(*bodies: bytes) -> None:
    """What is quick about many records changes no byte of any, and no judgement."""
    records = [record(body) for body in bodies]
    for fields in ({}, FIELDS):
        one_by_one = [
            line(r, {name: getattr(r, of) for of, name in fields.items()}) for r in records
        ]
        text, dead = lines(records, fields)
        assert text == b"".join(one.text + b"\n" for one in one_by_one)
        expected = [(r, x.reason) for r, x in zip(records, one_by_one, strict=True) if x.reason]
        assert dead == expected


def test_every_case_of_a_suite_of_json_is_judged_alike_one_by_one_and_among_many() -> None:
    cases = json.loads((PROJECT / "tests/conformance/suites/JSONTestSuite.json").read_text())
    texts = [base64.b64decode(case) for case in cases.values()]
    assert len(texts) > 300
    agree(*texts, *(b'{"a": %b}' % t for t in texts), *(b'{"a": 1, "b": [%b]}' % t for t in texts))


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": 1, "b": 2, "a": 3}',
        b'{"a": [1, 2], "a": 3}',
        b'{"a": 1, "a": "\\u003a"}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"a": 1, "a": ":"}',
        b'{"a,": 1, "a,": 2}',
        b'{"a": "{", "a": ","}',
        b'[{"a": 1, "a": 2}]',
        b'{"a": "12:30:00", "b": "x, y", "c": {"d": null}}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": 1e999, "b": -0, "c": 1E+2}',
        b'{"a": "\\ud83d\\ude00", "b": "\xf0\x9f\x98\x80"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": -Infinity}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"a": ' * 250 + b"1" + b"}" * 250,
        b' \t\r\n{"a"\n:1}\n\n',
        b'{"a": "tab\there"}',
        b'{"a": 1}{"b": 2}',
        b'{"a": 1},',
    ],
)
def test_nasty_bodies_are_judged_alike_one_by_one_and_among_many(body: bytes) -> None:
    agree(body, b'{"a": 1}', body)


_NAMES = st.sampled_from(["a", "b", ":", ",", "{", "\\u0061", "é", ""])
_VALUES = st.recursive(
    st.sampled_from(['"x"', '":"', '"{,"', "1", "1e400", "null", '"\\u003a"', "NaN", '"é"']),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda vs: f"[{','.join(vs)}]"),
        st.lists(st.tuples(_NAMES, inner), max_size=3).map(
            lambda ps: "{" + " , ".join(f'"{n}" : {v}' for n, v in ps) + "}"
        ),
    ),
    max_leaves=8,
)


@given(st.lists(st.one_of(_VALUES.map(str.encode), st.binary(max_size=20)), max_size=5))
def test_whatever_is_sent_is_judged_alike_one_by_one_and_among_many(bodies: list[bytes]) -> None:
    agree(*bodies)
