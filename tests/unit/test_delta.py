"""Reading a table's rows through Arrow."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pydantic import ValidationError

from spark_jobs.batch.folder import Folder
from spark_jobs.errors import StorageError
from spark_jobs.lake import commits, delta, making
from spark_jobs.lake.storage import ZONES, Storage
from spark_jobs.report import LakeSpec


@pytest.fixture
def table(tmp_path):
    uri = tmp_path / "a lake" / "é" / "rates"
    uri.mkdir(parents=True)
    rates = pa.table({"rate": [1, 2, 3], "place": ["x y", "a%b", "x y"]})
    write_deltalake(str(uri), rates, partition_by=["place"])
    return DeltaTable(str(uri))


def test_reads_rows_and_columns_wherever_the_lake_is(table):
    assert sorted(delta.read(table, Storage())["rate"].to_pylist()) == [1, 2, 3]
    some = delta.read(table, Storage(), where=pc.field("place") == "x y", columns=["rate"])
    assert sorted(some.to_pylist(), key=lambda r: r["rate"]) == [{"rate": 1}, {"rate": 3}]


def test_no_thread_of_arrow_holds_a_python_object(table):
    """One that does, at the end of a process, ends it with SIGABRT instead of its exit code."""
    inner = delta.dataset(table, Storage()).filesystem.base_fs
    assert isinstance(inner, pafs.LocalFileSystem)


def test_the_log_tells_the_nulls_of_each_file(tmp_path):
    uri = str(tmp_path)
    write_deltalake(uri, pa.table({"rate": [1, None, None], "place": ["x", None, "y"]}))
    write_deltalake(
        uri,
        pa.table({"rate": [4], "place": ["x"], "new": pa.array([None], pa.string())}),
        mode="append",
        schema_mode="merge",
    )
    found = [f.nulls for f in sorted(delta.active_files(DeltaTable(uri)), key=lambda f: -f.rows)]
    assert found == [{"rate": 2, "place": 1}, {"rate": 0, "place": 0, "new": 1}]


def test_footers_are_read_side_by_side_and_described_in_order(tmp_path, monkeypatch):
    table = DeltaTable.create(str(tmp_path), pa.schema([("rate", pa.int64())]))
    (tmp_path / "batch=1/outcome=insert").mkdir(parents=True)
    for n in range(4):
        pq.write_table(
            pa.table({"rate": [n]}), tmp_path / "batch=1/outcome=insert" / f"{n}.parquet"
        )
    read, all_at_once = delta._footer, threading.Barrier(4, timeout=30)

    def slow(file):
        all_at_once.wait()  # nobody is answered before everybody has asked
        return read(file)

    monkeypatch.setattr(delta, "_footer", slow)
    folder = Folder(Storage(), str(tmp_path), "batch=1", _listed=None)
    files = {path: (folder.files()[path], of) for path, of in folder.footers("insert").items()}
    found = commits.describe_files("batch=1", files, table.schema(), ())
    assert [a.path for a in found] == [f"batch=1/outcome=insert/{n}.parquet" for n in range(4)]
    assert [json.loads(a.stats)["minValues"] for a in found] == [{"rate": n} for n in range(4)]


def test_a_table_whose_commits_are_a_catalogues_is_refused_by_that_name(tmp_path):
    log = tmp_path / "table" / "_delta_log"
    log.mkdir(parents=True)
    features = {"readerFeatures": ["catalogManaged"], "writerFeatures": ["catalogManaged"]}
    schema = {"type": "struct", "fields": []}
    actions = [
        {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}},
        {
            "metaData": {
                "id": "x",
                "format": {"provider": "parquet", "options": {}},
                "schemaString": json.dumps(schema),
                "partitionColumns": [],
                "configuration": {},
            }
        },
    ]
    (log / f"{0:020}.json").write_text("\n".join(map(json.dumps, actions)))
    with pytest.raises(StorageError, match=r"catalogManaged.*external table"):
        delta.open_table(str(tmp_path / "table"), Storage())


class Between(Storage):
    """A store where somebody makes a table after it was looked for, and before its files are."""

    def tree(self, folder: str, suffix: str = ".parquet") -> list[tuple[str, int]]:
        write_deltalake(folder, pa.table({"rate": [1]}))
        return super().tree(folder, suffix)


def test_a_table_that_somebody_makes_meanwhile_is_not_a_lost_one(tmp_path):
    found = delta.open_table(str(tmp_path / "rates"), Between())
    assert found is not None and found.version() == 0


def test_whoever_makes_a_table_at_the_same_time_has_the_same_one(tmp_path):
    """A table of the lake, and one that several runs append to."""
    store, row = Storage(), pa.table({"rate": ["1"]})

    def made(uri: str) -> None:
        if delta.open_table(uri, store) is None:
            making.create_table(
                uri, [("rate", "string")], (), name="n", description="d", storage=store
            )

    def appended(uri: str) -> None:
        making.append(uri, row, store)

    for nth in range(20):
        for one in (made, appended):
            uri, together = str(tmp_path / f"{one.__name__}{nth}"), threading.Barrier(4)

            def at_once(one=one, uri=uri, together=together) -> None:
                together.wait()
                one(uri)

            with ThreadPoolExecutor(4) as threads:
                for future in [threads.submit(at_once) for _ in range(4)]:
                    future.result()
            rows = DeltaTable(uri).to_pyarrow_table().num_rows
            assert rows == (4 if one is appended else 0)


def test_a_zone_where_the_catalogue_keeps_managed_tables_is_refused():
    zones = {zone: f"s3://bucket/__unitystorage/{zone}" for zone in ZONES}
    with pytest.raises(ValidationError, match="keeps managed tables"):
        LakeSpec(contracts="installed:", zones=zones, run_id="x")
