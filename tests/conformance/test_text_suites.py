"""The text readers against suites that others wrote for parsers: each case is accepted, with the
values that the suite says, or refused with a reason. Cases and their licences: suites/README.md.
"""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spark_jobs.batch.landing import csv_records, parse_csv, parse_json
from spark_jobs.batch.landing.text import _FORMATS, Layout, Part, blocks, parsed
from spark_jobs.errors import InputError
from spark_jobs.lake.storage import Storage
from tests.lakes import MONDAY

SUITES = Path(__file__).with_name("suites")


def cases_of(suite: str) -> dict[str, Any]:
    return json.loads((SUITES / f"{suite}.json").read_text())


JSON_CASES = {n: base64.b64decode(v) for n, v in cases_of("JSONTestSuite").items()} | {
    "n_structure_100000_opening_arrays": b"[" * 100_000,
    "n_structure_open_array_object": b'[{"":' * 50_000 + b"\n",
}
CSV_CASES = cases_of("csv-spectrum")


def read(path: Path, content: bytes, parse: Any, **layout: Any) -> tuple[list, list, str | None]:
    """The values of accepted records, the refused ones, and why the file was refused."""
    path.write_bytes(content)
    batches = parsed(parse, Part(str(path), MONDAY, Storage()), Layout(**layout))
    *rows, total = [row for batch in batches for row in batch.to_pylist()]
    assert total["_records"] == len(rows), "every record becomes one row"
    good = [[r[c] for c in layout["columns"]] for r in rows if not r["_violations"]]
    refused = [r for r in rows if r["_violations"]]
    assert all(r["_violations"] == ["parsable"] and r["_raw"] for r in refused)
    return good, [r["_raw"] for r in refused], total["_file_error"]


@pytest.fixture(params=["one by one", "many at once"])
def path(request, tmp_path, monkeypatch) -> Path:
    if request.param == "many at once":
        monkeypatch.setattr("spark_jobs.batch.landing.json_lines._FEWEST", 1)
    return tmp_path / "f"


def test_the_json_suite_is_whole():
    counted = {p: sum(n.startswith(p) for n in JSON_CASES) for p in ("y_", "n_", "i_")}
    assert counted == {"y_": 95, "n_": 188, "i_": 35}


# A key that stands there twice is allowed by the suite; one of its values would be lost.
TWICE = {"y_object_duplicated_key", "y_object_duplicated_key_and_value"}


@pytest.mark.parametrize("name", sorted(JSON_CASES))
def test_json_is_accepted_with_its_value_or_refused(path, name):
    content = JSON_CASES[name]
    if name.startswith("y_"):
        content = content.replace(b"\n", b" ").replace(b"\r", b" ")  # one line is one record
    good, refused, error = read(path, b'{"v":' + content + b"}\n", parse_json, columns=("v",))
    if name.startswith("n_") or name in TWICE:
        assert not good and (refused or error)
    elif name.startswith("y_"):
        truth = json.loads(content, parse_float=Decimal)
        ((value,),) = good
        if isinstance(truth, (list, dict)):
            assert json.loads(value, parse_float=Decimal) == truth
        else:
            written = content.decode().strip()
            assert value == (truth if isinstance(truth, (str, type(None))) else written)
        assert not refused and not error
    else:
        assert bool(good) + bool(refused) + bool(error) == 1


@pytest.mark.parametrize("name", sorted(CSV_CASES))
def test_the_spectrum_of_csv_is_read_as_its_values(tmp_path, name):
    content = base64.b64decode(CSV_CASES[name]["csv"])
    if name.endswith("_crlf"):  # how the suite says its files end their lines
        content = content.replace(b"\n", b"\r\n")
    truth = CSV_CASES[name]["json"]
    if name == "location_coordinates":  # a quote within a field that has none around it
        columns = ("Contact Phone Number", "Location Coordinates", "Cities", "Counties")
        good, refused, error = read(tmp_path / "f", content, parse_csv, columns=columns)
        assert (good, error) == ([], None)
        assert refused == [content.decode().splitlines()[1]]
        return
    columns = tuple(truth[0])
    good, refused, error = read(tmp_path / "f", content, parse_csv, columns=columns)
    assert (good, refused, error) == ([list(row.values()) for row in truth], [], None)


# The shapes of github.com/sineemore/csv-test-data, in words of our own. Records, or why there are
# none: the suite's valid files have no header unless their name says so.
NO_HEADER, HEADER = False, True
FEW = [["foo", "bar", "baz"]]
SHAPES: dict[str, tuple[bool, bytes, list[list[str]] | str]] = {
    "all-empty": (NO_HEADER, b"\n\n", [[""], [""]]),
    "bad-header-less-fields": (HEADER, b"foo,bar,baz\n1,2", "1,2"),
    "bad-header-more-fields": (HEADER, b"foo,bar,baz\n1,2,3,4", "1,2,3,4"),
    "bad-header-no-header": (HEADER, b"", []),
    "bad-header-wrong-header": (HEADER, b"one,two,three", "none of the contract's columns"),
    "bad-missing-quote": (HEADER, b'foo,bar,baz\n1,"never closed,3', "is never closed"),
    "bad-quotes-with-unescaped-quote": (HEADER, b'foo,bar,baz\n1,"a " b",3', '1,"a " b",3'),
    "bad-unescaped-quote": (HEADER, b'foo,bar,baz\n1,a "b" c,3', '1,a "b" c,3'),
    "empty-field": (NO_HEADER, b"foo,bar,baz\n1,,3", [*FEW, ["1", "", "3"]]),
    "empty-one-column": (NO_HEADER, b"foo\n\n", [["foo"], [""]]),
    "header-no-rows": (HEADER, b"foo,bar,baz", []),
    "header-simple": (HEADER, b"foo,bar,baz\n1,2,3", [["1", "2", "3"]]),
    "leading-space": (NO_HEADER, b"foo,bar,baz\n1, x,3", [*FEW, ["1", " x", "3"]]),
    "one-column": (NO_HEADER, b"foo\n1", [["foo"], ["1"]]),
    "quotes-empty": (NO_HEADER, b'foo,bar,baz\n1,"",3', [*FEW, ["1", "", "3"]]),
    "quotes-with-comma": (NO_HEADER, b'foo,bar,baz\n1,"x, y",3', [*FEW, ["1", "x, y", "3"]]),
    "quotes-with-escaped-quote": (
        NO_HEADER,
        b'foo,bar,baz\n1,"x "" y",3',
        [*FEW, ["1", 'x " y', "3"]],
    ),
    "quotes-with-newline": (NO_HEADER, b'foo,bar,baz\n1,"x,\ny",3', [*FEW, ["1", "x,\ny", "3"]]),
    "quotes-with-space": (NO_HEADER, b'foo,bar,baz\n1,"x y",3', [*FEW, ["1", "x y", "3"]]),
    "simple-crlf": (NO_HEADER, b"foo,bar,baz\r\n1,2,3", [*FEW, ["1", "2", "3"]]),
    "simple-lf": (NO_HEADER, b"foo,bar,baz\n1,2,3", [*FEW, ["1", "2", "3"]]),
    "trailing-newline-one-field": (NO_HEADER, b"foo\n1\n", [["foo"], ["1"]]),
    "trailing-newline": (NO_HEADER, b"foo,bar,baz\n1,2,3\n", [*FEW, ["1", "2", "3"]]),
    "trailing-space": (NO_HEADER, b"foo,bar,baz\n1,x ,3", [*FEW, ["1", "x ", "3"]]),
    "utf8": (NO_HEADER, "foo,bar,baz\n1,\U0001f60e,3".encode(), [*FEW, ["1", "\U0001f60e", "3"]]),
}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_csv_of_each_shape_is_accepted_with_its_values_or_refused(tmp_path, name):
    header, content, truth = SHAPES[name]
    wide = b"," in content or header
    columns = ("foo", "bar", "baz") if wide else ("foo",)
    good, refused, error = read(tmp_path / "f", content, parse_csv, columns=columns, header=header)
    if isinstance(truth, list):
        assert (good, refused, error) == (truth, [], None)
    else:
        assert good == []
        assert refused == [truth] or truth in (error or "")


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=8),
    st.sampled_from(["null", "1,2", '":1', '","', "}{", " ", "a:b", '"', "\\"]),
    st.lists(st.integers(), max_size=2),
)
_RECORDS = st.lists(st.dictionaries(st.sampled_from("abcx"), _VALUES), max_size=8)
_FORM = st.tuples(st.sampled_from([(",", ":"), (", ", ": ")]), st.booleans())
_LINES = st.sampled_from(
    [b'{"a":1', b'{"a":01}', b'{"a":1.}', b'{"a":1 }', b'{"a":1}}', b'{"a":1,}', b'{"a":"b"c"d"}',
     b'{"a":1e5,"b":-0}', b'{"a":"x","a":"y"}', b'{"a":"x" ,"b":1}', b'{"a" :1}', b"  ", b'{"a":}',
     b'{"a":"x"}\r', b'{"a":nul}', b'{"a":[1]}', b'{"a":{"b":1}}', b'x{"a":1}', b'{"a":1}x', b"{}",
     b'{"":1}', b'{"a":"x","b"}', b'{"a":"x"y}', b'{"a":"","b":""}', b'{,"a":1}', b'{"a":\t1}']
)  # fmt: skip


@settings(deadline=None)
@given(_RECORDS, _FORM, st.lists(_LINES, max_size=6), st.randoms(use_true_random=False))
def test_lines_read_at_once_are_what_they_are_one_by_one(
    tmp_path_factory, records, form, lines, shuffled
):
    separators, ascii_only = form
    written = [
        json.dumps(r, separators=separators, ensure_ascii=ascii_only).encode() for r in records
    ]
    written += lines
    shuffled.shuffle(written)
    path = tmp_path_factory.getbasetemp() / "lines.json"
    results = []
    for fewest in (1, 1 << 30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("spark_jobs.batch.landing.json_lines._FEWEST", fewest)
            path.write_bytes(b"".join(line + b"\n" for line in written))
            batches = parsed(
                parse_json, Part(str(path), MONDAY, Storage()), Layout(("a", "b", "c"))
            )
            results.append(sorted(map(repr, (r for b in batches for r in b.to_pylist()))))
    assert results[0] == results[1]


_FIELDS = st.text(st.sampled_from('ab1,"\n\r \u00e9'), max_size=6)
_WRITTEN = st.one_of(
    _FIELDS.map(lambda v: '"' + v.replace('"', '""') + '"'),
    st.text(st.sampled_from("ab1 \u00e9"), max_size=6),
    _FIELDS,
)
_CSV_LINES = st.lists(
    st.tuples(st.lists(_WRITTEN, min_size=1, max_size=3), st.sampled_from(["\n", "\r\n"])),
    max_size=12,
)


class _OneByOne(csv_records._Grammar):
    """Trusts no quote, so that each record is looked at by itself."""

    def allowed(self, data: bytes, quotes: np.ndarray, final: bool) -> np.ndarray:
        return np.zeros(len(quotes), bool)


@settings(deadline=None)
@given(_CSV_LINES, st.sampled_from([3, 17, 64, 1 << 20]))
def test_records_read_at_once_are_what_they_are_one_by_one(tmp_path_factory, lines, block):
    path = tmp_path_factory.getbasetemp() / "records.csv"
    text = "a,b\n" + "".join(",".join(fields) + end for fields, end in lines)
    path.write_bytes(text.encode())
    results = []
    for grammar in (csv_records._Grammar, _OneByOne):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(csv_records, "_Grammar", grammar)
            patch.setattr("spark_jobs.batch.landing.text.BLOCK", block)
            batches = parsed(parse_csv, Part(str(path), MONDAY, Storage()), Layout(("a", "b")))
            *rows, total = (r for b in batches for r in b.to_pylist())
        if total["_file_error"]:
            results.append("refused")  # which fault is met first, and so told, may differ
        else:
            results.append((sorted(map(repr, rows)), total))
    assert results[0] == results[1]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=6) | st.text(max_size=4).map(str.encode), max_size=6),
       st.integers(1, 9))  # fmt: skip
def test_text_is_refused_at_the_byte_at_which_a_decoder_would(tmp_path_factory, pieces, size):
    path, content = tmp_path_factory.getbasetemp() / "text", b"".join(pieces)
    assume(not content.startswith(tuple(_FORMATS)))  # refused for what they are
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spark_jobs.batch.landing.text.BLOCK", size)
        try:
            found: str | bytes = b"".join(blocks(Part(str(path), MONDAY, Storage())))
        except InputError as error:
            found = str(error).partition("(byte ")[2].partition(")")[0]
    try:
        content.decode()
    except UnicodeDecodeError as error:
        place = len(content) if error.reason == "unexpected end of data" else error.start
        assert found == str(place) or b"\0" in content[:place]
    else:
        nul = content.find(b"\0")
        assert found == (content.removeprefix(b"\xef\xbb\xbf") if nul < 0 else str(nul))
