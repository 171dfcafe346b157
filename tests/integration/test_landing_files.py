"""Landing files with odd names, and many of them: each is read once, as what it is.

Here: which files a run reads. Not here: what becomes of their records (test_landing.py).
"""

from __future__ import annotations

import datetime as dt
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.sources.landing import snapshot
from spark_jobs.batch import landing
from spark_jobs.batch.landing.parquet import rows_of
from spark_jobs.errors import StorageError
from spark_jobs.lake import commits, delta, making, opened
from spark_jobs.lake.storage import Lake, Storage
from tests.lakes import MONDAY, TUESDAY, bronze, column, only

ID = column("id", "bigint", required=True)
NAMES = [
    "data[2026]", "data2", "data*", "dat?2", "{a,b}", "a%20b", "a b", "100%", "a#b", "a?b=c",
    "zażółć 数据", "two\nlines", "a&b+c", "it's", 'a"b', "a:b", "a\\b",
]  # fmt: skip


def one(*ids: int) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int64())})


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_every_file_name_is_taken_literally(lake, kind):
    lake.define(bronze("feed", kind, ID if kind == "parquet" else column("id", required=True)))
    for n, name in enumerate(NAMES):
        content = {"parquet": one(n), "csv": f"id\n{n}\n", "json": f'{{"id":"{n}"}}\n'}[kind]
        lake.land("feed", MONDAY, f"{name}.{kind}", content)
    report = lake.run("bronze.feed", MONDAY)
    assert not report.failed
    found = lake.rows("bronze.feed", "_source_file", "id")
    assert {r["_source_file"]: int(r["id"]) for r in found} == {
        f"{name}.{kind}": n for n, name in enumerate(NAMES)
    }


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_a_folder_in_a_partition_fails_it_by_name(lake, kind):
    lake.define(bronze("feed", kind, ID if kind == "parquet" else column("id", required=True)))
    content = {"parquet": one(1), "csv": "id\n1\n", "json": '{"id":"1"}\n'}[kind]
    lake.land("feed", MONDAY, f"f.{kind}", content)
    lake.land("feed", MONDAY, f"late/g.{kind}", content)
    lake.land("feed", TUESDAY, f"f.{kind}", content)
    lake.land("feed", TUESDAY, f"_temporary/g.{kind}", content)
    report = lake.run("bronze.feed", MONDAY, TUESDAY)
    assert [p.partition for p in report.failed] == [MONDAY]
    assert f"feed/{MONDAY}: folders in a partition: late." in report.failed[0].error
    assert len(lake.rows("bronze.feed")) == 1, "a folder of a control name is none of data"


@pytest.mark.parametrize("names", [["id", "name", "name"], ["id", "Name", "name"]])
def test_parquet_columns_that_nobody_can_tell_apart_fail_their_file(lake, names):
    lake.define(bronze("feed", "parquet", ID, column("name")))
    columns = [pa.array([1]), pa.array(["x"]), pa.array(["y"])]
    lake.land("feed", MONDAY, "f.parquet", pa.Table.from_arrays(columns, names))
    lake.land("feed", TUESDAY, "f.parquet", one(1))
    report = lake.run("bronze.feed", MONDAY, TUESDAY)
    assert [p.partition for p in report.failed] == [MONDAY]
    named = ", ".join(sorted(set(names[1:])))
    assert f"equal, or differ only in case: {named}." in report.failed[0].error
    assert "f.parquet" in report.failed[0].error
    assert [r.status for r in lake.ledger("bronze.feed")] == ["failed", "published"]


def test_nested_values_are_told_apart_as_json(lake):
    lake.define(bronze("feed", "parquet", ID, column("tags")))
    tags = pa.array([["a", "b"], ["a, b"], None, [None, 'x"y']])
    extra = pa.array([{"n": 1.5, "d": dt.date(2026, 1, 2)}, None, {"n": None, "d": None}, None])
    rows = pa.table({"id": [1, 2, 3, 4], "tags": tags, "more": extra})
    lake.land("feed", MONDAY, "f.parquet", rows)
    assert not lake.run("bronze.feed", MONDAY).failed
    found = lake.rows("bronze.feed", "id", "tags", "_rescued")
    assert {r["id"]: r["tags"] for r in found} == {
        1: '["a","b"]', 2: '["a, b"]', 3: None, 4: '[null,"x\\"y"]',
    }  # fmt: skip
    rescued = {r["id"]: r["_rescued"] for r in found}
    assert json.loads(rescued[1]) == {"more": {"n": 1.5, "d": "2026-01-02"}}
    assert rescued[2] == "{}"


def test_a_damaged_file_fails_its_partition_in_the_same_batch(lake):
    lake.define(bronze("feed", "parquet", ID))
    good = lake.land("feed", MONDAY, "f.parquet", one(*range(50_000)))
    data = good.read_bytes()
    lake.land("feed", TUESDAY, "f.parquet", data[:100] + bytes(2000) + data[2100:])
    report = lake.run("bronze.feed", MONDAY, TUESDAY)
    assert [p.partition for p in report.failed] == [TUESDAY]
    assert "a damaged Parquet file (" in report.failed[0].error
    assert report.counts.inserted == 50_000


@pytest.mark.slow
def test_five_years_of_days_are_one_backfill(lake):
    lake.define(bronze("feed", "parquet", ID))
    days = [str(dt.date(2021, 1, 1) + dt.timedelta(n)) for n in range(1825)]
    for n, day in enumerate(days):
        lake.land("feed", day, "f.parquet", one(n))
    report = lake.run("bronze.feed", *days)
    assert not report.failed and report.counts.inserted == 1825
    assert sorted(lake.rows("bronze.feed", "id")) == list(range(1825))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_ten_thousand_files_are_one_partition(lake, kind):
    lake.define(bronze("feed", kind, ID if kind == "parquet" else column("id", required=True)))
    for n in range(10_000):
        lake.land("feed", MONDAY, f"{n:05}.{kind}", one(n) if kind == "parquet" else f"id\n{n}\n")
    report = only(lake.run("bronze.feed", MONDAY))
    assert report.status == "published" and report.counts.inserted == 10_000
    assert sorted(map(int, lake.rows("bronze.feed", "id"))) == list(range(10_000))


@pytest.fixture
def store(aws):
    """A bucket `lake`, and the storage that reaches it: nothing in the environment says where."""
    aws.create_buckets("lake")
    return Storage(aws.storage_options)


def put(storage, uri, content):
    fs, path = storage.filesystem(uri)
    if isinstance(content, pa.Table):
        pq.write_table(content, path, filesystem=fs)
    else:
        with fs.open_output_stream(path) as stream:
            stream.write(content.encode())


def test_every_name_in_an_object_store_is_taken_literally(store):
    names = [n for n in NAMES if "\n" not in n]  # the stand-in for S3 has no such keys
    folder = "s3a://lake/landing/100%/a#b"
    for n, name in enumerate(names):
        put(store, f"{folder}/{name}.parquet", one(n))
    found = {}
    for file in store.files(folder):
        (batch,) = rows_of((file.uri, file.size), MONDAY, range(1), {"id": pa.int64()}, (), store)
        found[file.name] = batch.column("id").to_pylist()
    assert found == {f"{name}.parquet": [n] for n, name in enumerate(names)}


def test_one_storage_reaches_a_store_through_every_client(store):
    at = "s3://lake/silver/orders"
    store.ensure_writable(at)
    table = making.create_table(
        at, [("id", "bigint")], (), name="orders", description="", storage=store
    )
    put(store, f"{at}/batch=1/outcome=insert/f.parquet", one(1, 2))
    name, size = store.tree(f"{at}/batch=1")[0]
    footers = delta.footers(f"{at}/batch=1", {name: size}, store)
    adds = commits.describe_files("batch=1", {name: (size, footers[name])}, table.schema(), ())
    assert commits.commit(table, store, adds, [], {"batch_id": "1"}) == 1
    again = delta.open_table(at, store)
    assert delta.read(again, store).column("id").to_pylist() == [1, 2]
    assert opened.seal(again, store) is not None
    store.copy(f"{at}/batch=1", f"{at}/batch=2")
    assert [name for name, _ in store.tree(at)] == [
        f"batch={n}/outcome=insert/f.parquet" for n in (1, 2)
    ]
    assert store.folders(at) == ["_delta_log", "batch=1", "batch=2"]
    store.remove(f"{at}/batch=2")
    assert store.folders(at) == ["_delta_log", "batch=1"]
    store.remove(at)
    assert delta.open_table(at, store) is None


def test_a_bucket_that_does_not_exist_is_no_empty_folder(store):
    assert store.tree("s3://lake/nothing") == []
    with pytest.raises(StorageError, match="s3://laek/silver: the bucket does not exist"):
        store.tree("s3://laek/silver")


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_a_reader_on_workers_reaches_the_store_that_was_listed(sail, lake, store, kind):
    """What the storage says goes with the rows' own reader to wherever the engine runs it."""
    lake.define(bronze("feed", kind, ID if kind == "parquet" else column("id", required=True)))
    contract = lake.parsed()["bronze.feed"]
    away = Lake({**lake.zones, "landing": "s3://lake/landing"}, store)
    content = {"parquet": one(1, 2), "csv": "id\n1\n2\n", "json": '{"id":"1"}\n{"id":"2"}\n'}
    put(store, f"{away.landing('feed', MONDAY)}/f.{kind}", content[kind])
    assert snapshot(store, away.zones["landing"], ["feed"])["feed"].keys() == {MONDAY}
    found = landing.deliveries(contract, away, [MONDAY])
    landing.inspect(contract, found, store)
    rows = landing.read(sail.spark, contract, found, store).where("_records is null")
    assert not found[0].error
    assert sorted(int(r) for r in rows.toArrow().column("id").to_pylist()) == [1, 2]
