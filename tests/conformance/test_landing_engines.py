"""Landing on JVM Spark: names are literal, values convert alike, text is read as on Sail, a failing
row fails its day alone.

Here: what the engine could do otherwise. The same on Sail: tests/integration/test_landing_files.py,
tests/integration/test_failing_rows.py and tests/unit/test_landing.py.
"""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

from tests.integration.test_failing_rows import lake_with, settled
from tests.integration.test_landing_files import NAMES, one
from tests.lakes import MONDAY, TinyLake, bronze, column, contract, transforms_in

pytestmark = pytest.mark.jvm


@pytest.fixture
def on_spark(spark, tmp_path):
    lake = TinyLake(tmp_path, spark)
    with transforms_in(lake.transforms):
        yield lake


def test_every_file_name_is_taken_literally(on_spark):
    lake = on_spark
    lake.define(bronze("feed", "parquet", column("id", "bigint", required=True)))
    for n, name in enumerate(NAMES):
        lake.land("feed", MONDAY, f"{name}.parquet", one(n))
    assert not lake.run("bronze.feed", MONDAY).failed
    found = lake.rows("bronze.feed", "_source_file", "id")
    assert {r["_source_file"]: r["id"] for r in found} == {
        f"{name}.parquet": n for n, name in enumerate(NAMES)
    }


def test_values_of_another_type_convert_as_on_sail(on_spark):
    lake = on_spark
    columns = [column("n", "int"), column("price", "decimal(15,2)"), column("tags")]
    lake.define(bronze("feed", "parquet", *columns, gates={"max_quarantine_rate": 1}))
    rows = pa.table(
        {
            "n": pa.array([7.0, 8.5, None]),
            "price": ["1.50", "1e2", "free"],
            "tags": [["a", "b"], None, ["a, b"]],
        }
    )
    lake.land("feed", MONDAY, "f.parquet", rows)
    assert not lake.run("bronze.feed", MONDAY).failed
    assert lake.rows("bronze.feed", "n", "price", "tags") == [
        {"n": 7, "price": Decimal("1.50"), "tags": '["a","b"]'}
    ]
    rules = sorted(r["rules"][0] for r in lake.quarantined("bronze.feed"))
    assert rules == ["n_type", "price_type"]


MANY = range(200)
TEXTS: dict[str, tuple[dict, str | bytes]] = {
    "csv: quotes and line ends": ({}, 'a,b\r\n1,"x, ""y""\r\nz"\r\n2,""\r\n3,\r\n'),
    "csv: drift": ({}, 'a,c,d\n1,x,"q"""\n2,y,z\n'),
    "csv: records that cannot be parsed": ({}, 'a,b\n1\n2,5" disk\n3,x,y\n4,"ok"\n'),
    "csv: a quote that swallows records": ({}, 'a,b\n1,"x\n2,y\n3,z"\n'),
    "csv: many parts": ({"quote": None}, "a,b\n" + "".join(f"{i},caf\u00e9 {i}\n" for i in MANY)),
    "csv: UTF-16": ({"encoding": "utf-16"}, "a,b\n1,caf\u00e9\n".encode("utf-16")),
    "csv: code page 1252": ({"encoding": "cp1252"}, "a,b\n1,caf\u00e9\n".encode("cp1252")),
    "csv: not what it says": ({}, "a,b\n1,caf\u00e9\n".encode("cp1252")),
    "json: kinds of values": (
        {},
        '{"a":1.10,"b":null}\n{"a":"\\u0031","b":[1, 2.0]}\n{"a":true}\n',
    ),
    "json: drift": ({}, '{"a":"1","c":{"d":1.50}}\n{"a":"2","c":null,"b":""}\n'),
    "json: records that cannot be parsed": ({}, '{"a":1}\n{"a":1,"a":2}\n[1]\n{"a":NaN}\n\n{"a'),
    "json: many parts": ({}, "".join(f'{{"a":{i},"b":"caf\u00e9 {i}","c":{i}}}\n' for i in MANY)),
    "json: not what it says": ({}, '{"a":"\u00e9"}\n'.encode("latin-1")),
}


def landed(lake: TinyLake, case: str) -> tuple:
    """What a run makes of one file: its rows, those in quarantine, and what it reports of them."""
    kind = case.partition(":")[0]
    layout, content = TEXTS[case]
    source = {"dataset": "feed", "format": kind, "system": "test"} | layout
    columns = [column("a", required=True), column("b")]
    gates = {"max_quarantine_rate": 1}
    lake.define(contract("bronze.feed", columns, source=source, gates=gates))
    lake.land("feed", MONDAY, f"f.{kind}", content)
    (partition,) = lake.run("bronze.feed", MONDAY).partitions
    names = ("a", "b", "_rescued", "_source_file")
    rows = lake.rows("bronze.feed", *names) if partition.status == "published" else []
    refused = sorted((r["rules"], r["record"]) for r in lake.quarantined("bronze.feed"))
    checks = {c.name: (c.passed, c.observed, c.failing_rows) for c in partition.checks}
    checks.pop("small_files", None)  # how many an engine writes is its own affair
    error = (partition.error or "").replace(str(lake.root), "")
    return partition.status, str(partition.counts), rows, refused, checks, error


@pytest.mark.parametrize("case", TEXTS)
def test_text_is_read_as_on_sail(on_spark, sail, tmp_path, monkeypatch, case):
    monkeypatch.setattr("spark_jobs.batch.landing.text.SPLIT", 256)
    embedded = TinyLake(tmp_path / "embedded", sail)
    with transforms_in(embedded.transforms):
        expected = landed(embedded, case)
    assert landed(on_spark, case) == expected
    assert expected[2] or expected[5], "something is read, or it is said why not"
    if "many parts" in case:
        assert len(expected[2]) == len(MANY)


def test_a_cast_that_fails_in_a_transform_fails_its_day_and_no_other(on_spark):
    error = settled(lake_with(on_spark, "F.col('amount').cast('int')"))
    assert "a value cannot be cast to INT in column n, on the spark engine." in error
