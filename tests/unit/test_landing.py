"""Landing files: what becomes of every record of a CSV, JSON lines or Parquet file.

Here: the readers on awkward input. Not here: what a run does with a partition whose file cannot be
read (test_bad_input.py).
"""

from __future__ import annotations

import datetime as dt
import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from spark_jobs.batch.landing import Delivery, inspect, parse_csv, parse_json
from spark_jobs.batch.landing.json_lines import split
from spark_jobs.batch.landing.parquet import rows_of
from spark_jobs.batch.landing.text import Layout, Part, parsed, parts
from spark_jobs.batch.outcomes import drift_text
from spark_jobs.lake.storage import File, Storage
from tests.lakes import MONDAY, TinyLake, bronze, column, failed_checks, only

COLUMNS = ("a", "b")


class Read:
    """What one text file was read as."""

    def __init__(self, path: Path, content: str | bytes, parse: Any, **layout: Any) -> None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        shape = Layout(**({"columns": COLUMNS, "required": frozenset({"a"})} | layout))
        batches = list(parsed(parse, Part(str(path), MONDAY, Storage()), shape))
        *records, summary = [row for batch in batches for row in batch.to_pylist()]
        assert {r["_source_file"] for r in records} <= {path.name}
        assert all(r["_records"] is None for r in records), "one summary a part, and it is last"
        self.records: int = summary["_records"]
        self.error: str | None = summary["_file_error"]
        self.uri = str(path)
        self.drift = json.loads(summary["_drift"] or '{"extra": [], "missing": []}')
        self.rows = [tuple(r[c] for c in shape.columns) for r in records if not r["_violations"]]
        self.rescued = [r["_rescued"] for r in records if not r["_violations"]]
        self.raw = [r["_raw"] for r in records if r["_violations"]]
        assert {tuple(r["_violations"]) for r in records if r["_violations"]} <= {("parsable",)}
        assert len(records) == self.records, "every record becomes one row"


@pytest.fixture
def csv(tmp_path):
    return lambda content, **layout: Read(tmp_path / "f.csv", content, parse_csv, **layout)


@pytest.fixture
def jsonl(tmp_path):
    return lambda content: Read(tmp_path / "f.json", content, parse_json)


# -- CSV ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "text"),
    {
        "plain": "a,b\n1,2\n3,4\n",
        "no newline at the end": "a,b\n1,2\n3,4",
        "Windows line ends": "a,b\r\n1,2\r\n3,4\r\n",
        "old Macintosh line ends": "a,b\r1,2\r3,4\r",
        "byte order mark": "\ufeffa,b\n1,2\n3,4\n",
        "quoted header and values": '"a","b"\n"1","2"\n"3","4"\n',
        "blank lines anywhere": "\n\na,b\n\n1,2\n\n\n3,4\n\n",
        "spaces around header names": " a , b\n1,2\n3,4\n",
        "other column order": "b,a\n2,1\n4,3\n",
    }.items(),
)
def test_one_table_however_the_file_is_written(csv, case, text):
    found = csv(text)
    assert (found.rows, found.raw, found.error) == ([("1", "2"), ("3", "4")], [], None)


def test_a_row_with_too_few_or_too_many_fields_is_kept_as_it_was(csv):
    found = csv("a,b\n1\n1,2\n1,2,3\n   \n")
    assert found.rows == [("1", "2")]
    assert found.raw == ["1", "1,2,3", "   "]
    assert found.records == 4


def test_a_quoted_field_may_hold_commas_quotes_and_line_ends(csv):
    found = csv('a,b\n1,"x, ""y""\nz"\n2,"p\r\nq"\n')
    assert found.rows == [("1", 'x, "y"\nz'), ("2", "p\r\nq")]


def test_a_bad_row_of_several_lines_is_kept_whole(csv):
    found = csv('a,b\n1,"x\ny",3\n2,z\n')
    assert (found.rows, found.raw) == ([("2", "z")], ['1,"x\ny",3'])


def test_a_header_of_several_lines_is_one_header(csv):
    found = csv('a,b,"long\nname"\n1,2,3\n')
    assert found.rows == [("1", "2")]
    assert list(found.drift["extra"]) == ["long\nname"]


def test_a_quote_that_is_never_closed_does_not_swallow_the_rows_after_it(csv):
    found = csv('a,b\n1,"x\n2,y\n3,z\n')
    assert found.records == 0
    assert "a quoted field is never closed, so the rows after it are lost in it" in found.error


@pytest.mark.parametrize(
    "record",
    ['1,5" disk', '1,"Hey, I missed " it"', '1,This "quotes" must be escaped', '1,"a"b', '1, "a"'],
)
def test_a_record_whose_quotes_are_not_well_formed_is_kept_as_it_was(csv, record):
    found = csv(f'a,b\n0,x\n{record}\n2,"y, z"\n3,w\n')
    assert (found.rows, found.raw) == ([("0", "x"), ("2", "y, z"), ("3", "w")], [record])
    assert (found.records, found.error) == (4, None)


@pytest.mark.parametrize(
    ("case", "text"),
    {
        "a stray quote at each end": '1,"x\n2,y\n3,z"\n4,w\n',
        "the next quote opens": '1,"x\n2,y\n3,"z"\n4,w\n',
        "one line": '1,"x\n2,y"\n3,z\n',
        "a hundred lines": '1,"x\n' + "2,y\n" * 100 + '3,z"\n',
    }.items(),
)
def test_a_quote_that_swallows_records_closes_the_gate(csv, case, text):
    found = csv(f"a,b\n{text}")
    assert "a quote in column b swallows" in found.error
    assert found.records == 0


def test_a_column_may_hold_lines_of_text_that_look_like_records(csv):
    found = csv('a,b\n1,"Dear Ann,\nyours, Bob\n"\n2,y\n', multiline=("b",))
    assert found.rows == [("1", "Dear Ann,\nyours, Bob\n"), ("2", "y")]


@pytest.mark.parametrize(
    ("case", "text", "layout"),
    [
        ("tabs", "a\tb\n1\t2\n3\t4\n", {"delimiter": "\t"}),
        ("spaces", "a b\n1 2\n3 4\n", {"delimiter": " "}),
        ("semicolons and apostrophes", "a;b\n'1';2\n3;'4'\n", {"delimiter": ";", "quote": "'"}),
        ("no header", "1,2\n3,4\n", {"header": False}),
        ("Latin 1", "a,b\n1,2\n3,4\n".encode("latin-1"), {"encoding": "latin-1"}),
        ("UTF-16", "a,b\n1,2\n3,4\n".encode("utf-16"), {"encoding": "utf-16"}),
        ("no quotes", "a,b\n1,2\n3,4\n", {"quote": None}),
    ],
)
def test_one_table_however_the_contract_lays_out_the_text(csv, case, text, layout):
    found = csv(text, **layout)
    assert (found.rows, found.raw, found.error) == ([("1", "2"), ("3", "4")], [], None)


def test_text_of_another_encoding_is_read_as_it_was_meant(csv):
    text = "a,b\n1,caf\u00e9\n"
    assert csv(text.encode("cp1252"), encoding="cp1252").rows == [("1", "caf\u00e9")]
    assert csv(text.encode("utf-16-le"), encoding="utf-16-le").rows == [("1", "caf\u00e9")]


def test_a_quote_is_a_character_where_the_contract_knows_none(csv):
    assert csv('a,b\n1,5" disk\n', quote=None).rows == [("1", '5" disk')]


def test_a_file_without_the_header_it_should_have_is_not_quoted(csv):
    found = csv("Ann,ann@example.com,7\nBob,bob@example.com,8\n")
    assert "The first line has 3 fields, names none of the contract's columns" in found.error
    assert "2 columns were expected" in found.error
    assert "ann" not in found.error.lower()


def test_a_header_of_many_columns_is_read_whole_and_named_in_part(csv):
    names = [f"column_with_a_long_name_{i}" for i in range(10_000)]
    found = csv(f"a,{','.join(names)},b\n{','.join(map(str, range(10_002)))}\n")
    assert (found.rows, found.error) == ([("0", "10001")], None)
    assert len(found.drift["extra"]) == 10_000
    (told,) = [drift_text(found.drift)]
    assert told[-1] == "9990 more new columns" and len(told) == 11


@pytest.mark.parametrize("size", [7, 16, 64, 1000])
def test_a_file_is_the_same_in_blocks_of_any_size(csv, monkeypatch, size):
    text = "a,b\n" + "".join(
        f'{i},"x, ""{i}""\r\ny"\r\n{i},caf\u00e9\n{i},5" disk\n' for i in range(50)
    )
    whole = csv(text)
    assert len(whole.rows) == 100 and len(whole.raw) == 50
    monkeypatch.setattr("spark_jobs.batch.landing.text.BLOCK", size)
    found = csv(text)
    assert (found.rows, found.raw, found.records) == (whole.rows, whole.raw, 150)


def test_values_stay_the_text_that_was_delivered(csv):
    found = csv('a,b\nNULL,NA\n1.10,1e5\n007, x \n,""\n')
    assert found.rows == [("NULL", "NA"), ("1.10", "1e5"), ("007", " x "), ("", "")]


def test_an_extra_column_is_rescued_and_reported(csv):
    found = csv("a,b,c\n1,2,x\n3,4,y\n")
    assert [json.loads(r) for r in found.rescued] == [{"c": "x"}, {"c": "y"}]
    assert found.drift == {"file": found.uri, "extra": ["c"], "missing": []}


def test_a_missing_optional_column_is_null_and_reported(csv):
    found = csv("a\n1\n2\n")
    assert found.rows == [("1", None), ("2", None)]
    assert found.drift == {"file": found.uri, "extra": [], "missing": ["b"]}


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff", "a,b\n"])
def test_a_csv_file_without_records_has_none(csv, content):
    found = csv(content)
    assert (found.records, found.error) == (0, None)


@pytest.mark.parametrize(
    ("case", "content", "error"),
    [
        ("Latin 1", "a,b\n1,café\n2,x\n".encode("latin-1"), "not UTF-8 text"),
        ("Latin 1 at the very end", "a,b\n1,é".encode("latin-1"), "not UTF-8 text"),
        ("Latin 1 in a row that is too long", b"a,b\n1,2,\xff\n3,4\n", "not UTF-8 text"),
        ("UTF-16", "a,b\n1,2\n".encode("utf-16"), "not UTF-8 text (byte 0)"),
        ("NUL bytes", b"a,b\n1,x\x00y\n", "not UTF-8 text (byte 7)"),
        ("Parquet", b"PAR1\x15\x04PAR1", "a Parquet file, whatever its name says"),
        ("gzip", b"\x1f\x8b\x08\x00", "a gzip file, whatever its name says"),
        ("a name twice", b"a,b,b\n1,2,3\n", "column(s) named twice in the header: b."),
    ],
)
def test_a_csv_file_that_cannot_be_trusted_says_why(csv, tmp_path, case, content, error):
    found = csv(content)
    assert found.records == 0
    assert found.error.startswith(f"{tmp_path}/f.csv: {error}"), found.error
    assert found.error.count("Deliver") + found.error.count("deliver") == 1


# -- compressed text ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parse", "name", "first", "line"),
    [
        (parse_csv, "f.csv.gz", b"a,b\n", b"1,%d\n"),
        (parse_json, "f.jsonl.gz", b"", b'{"a": "1", "b": "%d"}\n'),
    ],
)
def test_a_compressed_file_is_read_as_the_text_that_it_holds(tmp_path, parse, name, first, line):
    text = first + b"".join(line % n for n in range(200_000))  # some blocks of it
    # What is appended to a gzip file is a part of its own, and text all the same.
    halves = gzip.compress(text[:1_000_003]) + gzip.compress(text[1_000_003:])
    found = Read(tmp_path / name, halves, parse)
    assert (found.error, found.records) == (None, 200_000)
    assert found.rows[-1] == ("1", "199999")


@pytest.mark.parametrize(
    ("case", "spoil"),
    [
        ("cut off", lambda data: data[:-20]),
        ("cut off within its header", lambda data: data[:5]),
        ("of another format", lambda data: b"a,b\n1,2\n"),
        ("damaged", lambda data: data[:200] + bytes(8) + data[208:]),
    ],
)
def test_a_compressed_file_that_is_not_whole_says_so(tmp_path, case, spoil):
    data = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(999)))
    found = Read(tmp_path / "f.csv.gz", spoil(data), parse_csv)
    assert found.error.startswith(f"{tmp_path}/f.csv.gz: not a whole gzip file ("), found.error


def test_a_large_compressed_file_is_one_part(tmp_path, monkeypatch):
    monkeypatch.setattr("spark_jobs.batch.landing.text.SPLIT", 10)
    lake = TinyLake(tmp_path)
    lake.define(bronze("feed", "json", column("a")))
    for name, expected in (("f.jsonl", 4), ("f.jsonl.gz", 1)):
        delivery = Delivery(MONDAY, [File(f"{tmp_path}/{name}", 40, "v")], True)
        assert len(list(parts(lake.parsed()["bronze.feed"], delivery, Storage()))) == expected


# -- JSON lines --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "text"),
    {
        "plain": '{"a":"1","b":"2"}\n{"a":"3","b":"4"}\n',
        "no newline at the end": '{"a":"1","b":"2"}\n{"a":"3","b":"4"}',
        "Windows line ends": '{"a":"1","b":"2"}\r\n{"a":"3","b":"4"}\r\n',
        "byte order mark": '\ufeff{"a":"1","b":"2"}\n{"a":"3","b":"4"}\n',
        "blank lines": '\n{"a":"1","b":"2"}\n  \n\n{"a":"3","b":"4"}\n',
        "spaces and order": ' { "b" : "2", "a" : "1" }\n{"a":"3","b":"4"}  \n',
        "numbers": '{"a":1,"b":2}\n{"a":3,"b":4}\n',
        "escapes": '{"a":"\\u0031","b":"2"}\n{"a":"3","b":"4"}\n',
    }.items(),
)
def test_one_table_however_the_lines_are_written(jsonl, case, text):
    found = jsonl(text)
    assert (found.rows, found.raw, found.error) == ([("1", "2"), ("3", "4")], [], None)


def test_numbers_stay_the_text_that_was_delivered(jsonl):
    found = jsonl('{"a":1.10,"b":12345678901234567890}\n{"a":1e5,"b":-0}\n{"a":true,"b":null}\n')
    assert found.rows == [("1.10", "12345678901234567890"), ("1e5", "-0"), ("true", None)]


def test_nested_values_stay_json_with_their_numbers(jsonl):
    found = jsonl('{"a": {"x": 1.50, "y": [1, "1", null, true]}, "b": [0.10]}\n')
    assert found.rows == [('{"x":1.50,"y":[1,"1",null,true]}', "[0.10]")]


def test_text_of_any_script_survives(jsonl):
    found = jsonl('{"a":"\\ud83d\\ude00","b":"x\u2028y\x85z"}\n')
    assert found.rows == [("\U0001f600", "x\u2028y\x85z")]


@pytest.mark.parametrize(
    ("case", "line"),
    {
        "two objects": '{"a":"1"}{"a":"2"}',
        "two objects with a space": '{"a":"1"} {"a":"2"}',
        "an array": '[{"a":"1"}]',
        "a string": '"a"',
        "a number": "3",
        "null": "null",
        "cut off": '{"a":"1',
        "no quotes": "{a:1}",
        "single quotes": "{'a':'1'}",
        "a trailing comma": '{"a":"1",}',
        "a control character": '{"a":"x\ty"}',
        "not a number": '{"a":NaN}',
        "infinity": '{"a":-Infinity}',
        "half a surrogate pair": '{"a":"\\ud800"}',
        "half a surrogate pair in a key": '{"\\udc00":"x"}',
        "a hundred thousand brackets": '{"a":' + "[" * 100_000 + "}",
        "a key twice": '{"a":"1","a":"2"}',
        "a key twice within": '{"a":{"b":1,"b":2}}',
        "too deep to be written again": '{"a":' + "[" * 900 + "]" * 900 + "}",
        "a CSV row": "1,2",
    }.items(),
)
def test_a_line_that_is_not_one_object_is_kept_as_it_was(jsonl, case, line):
    found = jsonl(f'{{"a":"1"}}\n{line}\n{{"a":"2"}}\n')
    assert found.rows == [("1", None), ("2", None)]
    assert found.raw == [line]


def test_extra_keys_are_rescued_and_reported(jsonl):
    found = jsonl('{"a":"1","c":{"d":1.50}}\n{"a":"2","e":null,"c":7}\n{"a":"3"}\n')
    assert found.rescued == ['{"c":{"d":1.50}}', '{"e":null,"c":7}', None]
    assert found.drift == {"file": found.uri, "extra": ["c", "e"], "missing": ["b"]}


def test_a_required_key_that_no_record_has_fails_the_partition(lake):
    lake.define(bronze("feed", "json", column("a", required=True), column("b")))
    lake.land("feed", MONDAY, "f.json", '{"b":"1"}\n{"b":"2","c":"3"}\n')
    (failure,) = lake.run("bronze.feed", MONDAY).partitions
    assert "f.json: required column(s) missing: a. Deliver them, or change the contract." in str(
        failure
    )


def test_lines_that_are_alike_are_all_read_at_once():
    lines = [f'{{"a":"x{i}","b":{i}.50,"c":null}}\n'.encode() for i in range(500)]
    other = b'{"a":"\\u0031","b":2}\n'
    alike, others = split(b"".join([*lines[:250], other, *lines[250:]]), lambda _: True)
    assert ([g.length for g in alike], others) == ([500], other)
    assert alike[0].rows(frozenset("ab"))["_rescued"][0].as_py() == '{"c":null}'


def test_strings_that_begin_with_a_colon_are_no_keys(jsonl, monkeypatch):
    monkeypatch.setattr("spark_jobs.batch.landing.json_lines._FEWEST", 1)
    assert jsonl('{"a":":"}\n').rows == [(":", None)]
    found = jsonl('{"a":":","b":"x"}\n{"a":"1","b":":b\\""}\n')
    assert sorted(found.rows) == [("1", ':b"'), (":", "x")]


@pytest.mark.parametrize("size", [1, 7, 20, 33, 1000])
@pytest.mark.parametrize("kind", ["json", "csv", "csv without a header"])
def test_every_line_is_in_one_part_of_its_file(tmp_path, kind, size):
    values, path = [f"{'x' * (i % 30)}{i}" for i in range(50)], tmp_path / "f"
    if kind == "json":
        path.write_text("".join(f'{{"a":"{v}"}}\n' for v in values))
    else:
        path.write_text("a\n" * (kind == "csv") + "".join(f"{v}\n" for v in values))
    layout = Layout(("a",), quote=None, header=kind == "csv")
    end, parse = path.stat().st_size, parse_json if kind == "json" else parse_csv
    rows = [
        row["a"]
        for start in range(0, end, size)
        for batch in parsed(
            parse, Part(str(path), MONDAY, Storage(), start, min(start + size, end)), layout
        )
        for row in batch.to_pylist()
        if row["_records"] is None
    ]
    assert rows == values


def test_a_required_key_that_one_record_lacks_is_a_null(jsonl):
    assert jsonl('{"b":"1"}\n{"a":"2"}\n').rows == [(None, "1"), ("2", None)]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ('{"a":"é"}\n'.encode("latin-1"), "not UTF-8 text (byte 6). Deliver the file as UTF-8."),
        (b"PAR1....PAR1", "a Parquet file, whatever its name says. Deliver it as text, in UTF-8."),
    ],
)
def test_a_json_file_that_cannot_be_trusted_says_why(jsonl, tmp_path, content, error):
    found = jsonl(content)
    assert (found.records, found.error) == (0, f"{tmp_path}/f.json: {error}")


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_a_json_file_without_records_has_none(jsonl, content):
    found = jsonl(content)
    assert (found.records, found.error) == (0, None)


# -- Parquet -----------------------------------------------------------------------------------

TYPES = {
    "id": "bigint", "n": "int", "price": "decimal(15,2)", "day": "date",
    "at": "timestamp", "name": "string", "ok": "boolean",
}  # fmt: skip
NOON = dt.datetime(2026, 10, 5, 12, 0, 0, 123456, dt.UTC)
ROW = {
    "id": 1, "n": 2, "price": Decimal("3.40"), "day": dt.date(2026, 10, 5), "at": NOON,
    "name": "x", "ok": True,
}  # fmt: skip


@pytest.fixture
def typed(lake: TinyLake) -> TinyLake:
    columns = [column(n, t, required=n == "id") for n, t in TYPES.items()]
    lake.define(bronze("feed", "parquet", *columns, gates={"max_quarantine_rate": 1}))
    return lake


def table(**columns: pa.Array) -> pa.Table:
    """A file of one good row, or more, with some columns of another type."""
    length = max((len(v) for v in columns.values() if v is not None), default=1)
    good = {n: pa.array([v] * length) for n, v in ROW.items()}
    return pa.table({n: v for n, v in (good | columns).items() if v is not None})


def test_a_parquet_row_comes_as_it_is(typed):
    typed.land("feed", MONDAY, "f.parquet", table(n=pa.array([2], pa.int32())))
    report = typed.run("bronze.feed", MONDAY)
    assert report.counts.inserted == 1 and not report.failed
    assert typed.rows("bronze.feed") == [ROW]


@pytest.mark.parametrize(
    ("name", "values", "kept"),
    [
        ("id", pa.array(["7", "seven", None]), [7, None]),
        ("id", pa.array([7, 8, None], pa.int16()), [7, 8, None]),
        ("id", pa.array([7.0, 8.5, None], pa.float64()), [7, None]),
        ("id", pa.array([Decimal("7.00"), Decimal("8.50"), None], pa.decimal128(9, 2)), [7, None]),
        ("n", pa.array([7, 2**40, None], pa.int64()), [7, None]),
        ("price", pa.array(["1.50", "free", None]), [Decimal("1.50"), None]),
        ("price", pa.array([1.5, 1e15, None]), [Decimal("1.50"), None]),
        ("day", pa.array(["2026-10-05", "5.10.2026", None]), [dt.date(2026, 10, 5), None]),
        (
            "at",
            pa.array(["2026-10-05T12:00:00Z", "noon", None]),
            [NOON.replace(microsecond=0), None],
        ),
        ("ok", pa.array(["true", "maybe", None]), [True, None]),
        ("name", pa.array([7, 8, None]), ["7", "8", None]),
    ],
)
def test_a_differing_type_is_cast_and_a_lost_value_leaves(typed, name, values, kept):
    typed.land("feed", MONDAY, "f.parquet", table(**{name: values}))
    report = typed.run("bronze.feed", MONDAY)
    lost = 3 - len(kept)
    assert report.counts.read == 3 and report.counts.quarantined == lost
    assert sorted(typed.rows("bronze.feed", name), key=repr) == sorted(kept, key=repr)
    checks = {c.name: c for c in only(report).checks}
    if lost:
        assert checks[f"{name}_type"].failing_rows == lost
        (row,) = typed.quarantined("bronze.feed")
        assert row["rules"] == [f"{name}_type"]
        assert json.loads(row["record"])[name] == str(values[1].as_py())
        assert json.loads(row["record"])["name"] == "x", "the whole record is kept"


@pytest.mark.parametrize(
    ("unit", "zone"),
    [("us", "UTC"), ("ms", "UTC"), ("ns", "UTC"), ("us", "Europe/Paris"), ("us", None)],
)
def test_an_instant_is_the_same_however_it_is_stored(typed, unit, zone):
    at = NOON.replace(microsecond=123000)
    moment = at if zone else at.replace(tzinfo=None)  # without a zone it is UTC, by contract
    typed.land("feed", MONDAY, "f.parquet", table(at=pa.array([moment], pa.timestamp(unit, zone))))
    assert not typed.run("bronze.feed", MONDAY).failed
    assert [v.astimezone(dt.UTC) for v in typed.rows("bronze.feed", "at")] == [at]


def test_files_of_one_partition_may_differ_in_type(typed):
    typed.land("feed", MONDAY, "f1.parquet", table(id=pa.array([1])))
    typed.land("feed", MONDAY, "f2.parquet", table(id=pa.array(["2"])))
    assert not typed.run("bronze.feed", MONDAY).failed
    assert typed.rows("bronze.feed", "id") == [1, 2]
    assert typed.rows("bronze.feed", "_source_file") == ["f1.parquet", "f2.parquet"]


def test_an_extra_parquet_column_is_rescued_and_reported(typed):
    typed.land("feed", MONDAY, "f.parquet", table(tier=pa.array(["gold"]), score=pa.array([7])))
    report = only(typed.run("bronze.feed", MONDAY))
    assert failed_checks(report) == {"schema_drift"}
    (drift,) = [c for c in report.checks if c.name == "schema_drift"]
    assert drift.detail == "new column score; new column tier"
    (rescued,) = typed.rows("bronze.feed", "_rescued")
    assert json.loads(rescued) == {"tier": "gold", "score": "7"}


def test_a_missing_optional_parquet_column_is_null_and_reported(typed):
    typed.land("feed", MONDAY, "f.parquet", table(name=None))
    report = only(typed.run("bronze.feed", MONDAY))
    assert failed_checks(report) == {"schema_drift"}
    assert typed.rows("bronze.feed", "name") == [None]


def inspected(tmp_path: Path, name: str, content: bytes | pa.Table) -> Delivery:
    lake = TinyLake(tmp_path)
    lake.define(bronze("feed", "parquet", column("id", "bigint", required=True), column("name")))
    path = lake.land("feed", MONDAY, name, content)
    delivery = Delivery(MONDAY, Storage().files(str(path.parent)), expected=True)
    inspect(lake.parsed()["bronze.feed"], [delivery], Storage())
    return delivery


def whole(tmp_path: Path) -> bytes:
    rows = pa.table({"id": range(20_000), "name": [f"name {i}" for i in range(20_000)]})
    return TinyLake(tmp_path).land("whole", MONDAY, "w.parquet", rows).read_bytes()


@pytest.mark.parametrize(
    ("case", "spoil"),
    {
        "truncated": lambda b: b[: len(b) // 2],
        "cut by one byte": lambda b: b[:-1],
        "a CSV file": lambda b: b"id,name\n1,x\n",
        "empty": lambda b: b"",
    }.items(),
)
def test_a_file_that_is_no_parquet_is_named(tmp_path, case, spoil):
    delivery = inspected(tmp_path, "f.parquet", spoil(whole(tmp_path)))
    assert "f.parquet: not a readable Parquet file (" in delivery.error
    assert "It may be truncated, or not what its name says; deliver it again." in delivery.error


def test_damaged_pages_below_a_whole_footer_are_found(tmp_path):
    good = whole(tmp_path)
    bad = good[:100] + bytes(2000) + good[2100:]
    delivery = inspected(tmp_path, "f.parquet", bad)
    assert delivery.error == "", "the footer tells nothing"
    wanted = {"id": pa.int64(), "name": pa.string()}
    (s,) = delivery.slices
    *_, told = rows_of((s.uri, s.size), MONDAY, range(s.first, s.end), wanted, (), Storage())
    (row,) = told.to_pylist()
    assert "f.parquet: a damaged Parquet file (" in row["_file_error"]


def test_a_missing_required_parquet_column_is_named(tmp_path):
    delivery = inspected(tmp_path, "f.parquet", pa.table({"name": ["x"], "extra": [1]}))
    assert delivery.error.endswith(
        "f.parquet: required column(s) missing: id. Found: extra, name. Deliver them, or change the"
        " contract."
    )


def test_unfinished_and_control_files_are_not_read(lake):
    lake.define(bronze("feed", "json", column("a", required=True)))
    for name in ("_temporary.json", ".f.json.crc", "f.json"):
        lake.land("feed", MONDAY, name, f'{{"a":"{name}"}}\n')
    lake.run("bronze.feed", MONDAY)
    assert lake.rows("bronze.feed", "a") == ["f.json"]
