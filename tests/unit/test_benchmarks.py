"""The benchmarks: contenders that do other work than the platform are found out.

Here: that outputs are really compared, and what is counted beside seconds. Not here: any time.
"""

from __future__ import annotations

import json
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from benchmarks import __main__ as command
from benchmarks import (
    comparisons,
    extraction,
    latency,
    parts,
    store,
    streams,
    text_lines,
    warehouse,
    workload,
)
from benchmarks.compare import differences, fingerprints
from benchmarks.contenders import data_plane, text_reader
from benchmarks.measure import ContenderFailed
from benchmarks.race import Contender, race

pytestmark = pytest.mark.slow
SCALE = 0.001


@pytest.fixture(scope="module")
def delivery(tmp_path_factory) -> workload.Delivery:
    return workload.deliver(tmp_path_factory.mktemp("bench"), SCALE, days=4)


@pytest.fixture(scope="module")
def lake(delivery, tmp_path_factory) -> Path:
    """What the platform leaves of the first three days."""
    lake = tmp_path_factory.mktemp("lake")
    data_plane.run(delivery.landing, lake, delivery.partitions(end=3))
    return lake


def test_contenders_leave_the_tables_of_the_platform(delivery, tmp_path):
    """A race compares them by hash, rejected rows included, and fails otherwise."""
    days = delivery.partitions()
    given = (str(delivery.landing), "{out}")
    bare = [
        Contender("polars", "benchmarks.contenders.bare_polars", (*given, *days), ""),
        Contender("spark", "benchmarks.contenders.bare_spark", (*given, *days), ""),
        Contender("platform", "benchmarks.contenders.data_plane", (*given, "sail", *days), ""),
    ]
    costs = race(bare, 1, tmp_path, lambda text: None)
    assert all(cost.wall > 0 and cost.cpu > 0 and cost.peak > 50 << 20 for cost in costs.values())


def test_a_contender_with_one_other_value_is_found_out(lake, tmp_path):
    lake = Path(shutil.copytree(lake, tmp_path / "lake"))  # a restored version is a new one
    found = fingerprints(lake)
    assert found == fingerprints(lake)
    uri = str(lake / "silver" / "products")
    before = DeltaTable(uri)
    rows = before.to_pyarrow_table()
    names = rows["name"].to_pylist()
    changed = rows.set_column(
        rows.column_names.index("name"), rows.field("name"), [[f"{names[0]}!", *names[1:]]]
    )
    write_deltalake(uri, changed, mode="overwrite")
    (difference,) = differences(found, fingerprints(lake))
    assert difference.startswith("silver.products: ")
    DeltaTable(uri).restore(before.version())
    assert differences(found, fingerprints(lake)) == []


def test_a_contender_that_fails_stops_the_race_with_its_last_words(tmp_path):
    broken = Contender("broken", "benchmarks.contenders.data_plane", ("nowhere", "{out}", "sail"))
    with pytest.raises(ContenderFailed, match="no partitions given"):
        race([broken], 1, tmp_path, lambda text: None)


def test_the_bytes_of_a_day_are_its_share_of_the_files(lake, delivery):
    days = [comparisons._bytes_held(lake, day) for day in delivery.partitions(end=3)]
    tables = (DeltaTable(str(lake / t.replace(".", "/"))) for t in workload.TABLES)
    files = sum(sum(t.get_add_actions(flatten=True)["size_bytes"].to_pylist()) for t in tables)
    assert all(days)
    assert abs(sum(days) - files) < len(days) * 10, "and all days together are all files"
    assert comparisons._bytes_held(lake, "2000-01-01") == 0


def test_commits_and_their_bytes_are_counted(delivery, lake, tmp_path):
    out = tmp_path / "out" / "lake"
    comparisons._copy(lake, out.parent)
    assert comparisons._commits(out) == comparisons._commits(lake)
    assert comparisons._bytes_added(out, lake) == 0
    data_plane.run(delivery.landing, out, delivery.partitions(end=3))
    assert comparisons._commits(out) == comparisons._commits(lake), "nothing to do, no commit"
    data_plane.run(delivery.landing, out, delivery.partitions(3))
    assert comparisons._commits(out) > comparisons._commits(lake)
    day = delivery.partitions(3)[0]
    assert comparisons._bytes_added(out, lake) >= comparisons._bytes_held(out, day) > 0


def test_loading_the_definitions_imports_no_engine(tmp_path):
    needed = tmp_path / "needed.json"
    home = {"LAKEHOUSE_HOME": str(tmp_path / "home")}
    module = "benchmarks.contenders.definitions"
    loads = Contender("definitions", module, ("load", str(needed)), variables=home)
    race([loads], 1, tmp_path / "work", lambda text: None)
    assert "dagster" in json.loads(needed.read_text())


def test_readers_of_text_find_the_same_lines(tmp_path):
    for kind in ("csv", "json"):
        path = str(text_lines.written(tmp_path, kind, 120_000))
        assert text_reader.parser(kind, path) == text_reader.polars(kind, path) == 120_000


def test_large_files_are_read_for_their_memory_and_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(comparisons, "_java", lambda: False)
    bench = comparisons.Bench(tmp_path, 1, lambda text: None, g_gigabytes=0.02)
    rows = bench.compared(["g"])
    assert [r.met for r in rows] == [True, True]
    assert all(r.cost and r.cost.peak > 100 << 20 for r in rows)
    assert not list(tmp_path.glob("bytes-*"))


def test_the_parts_of_a_run_are_its_steps_in_cpu_seconds(delivery, tmp_path):
    before = time.process_time()
    spent = parts.measured(delivery, tmp_path)
    steps = {"plan", "read", "transform", "audit", "count", "quarantine", "publish"}
    assert spent.keys() == {parts.START, *steps, parts.END}
    assert min(spent.values()) >= 0
    assert sum(spent.values()) <= time.process_time()
    assert sum(spent[s] for s in steps) > (time.process_time() - before) / 2


def test_an_unknown_comparison_is_named(capsys):
    with pytest.raises(SystemExit):
        command.main(["z"])
    assert "no comparison z; there are a, b, c, d, e, f" in capsys.readouterr().err


def test_requests_to_a_store_are_counted_for_both(tmp_path):
    ours, script, again = store.compared(workload.deliver(tmp_path, SCALE, days=2))
    assert "nothing changed: 6 requests, 3 a table" in again.measured
    counted = [int(row.measured.rpartition(": ")[2].split()[0]) for row in (ours, script)]
    assert counted[0] > counted[1] > 10
    assert float(ours.ratio) == pytest.approx(counted[0] / counted[1], abs=0.01)


def test_a_load_leaves_the_rows_of_copy_alone(tmp_path):
    delivery = workload.deliver(tmp_path, SCALE, days=2)
    ours, script, again = warehouse.compared(delivery, tmp_path, 1, lambda text: None)
    assert float(ours.ratio) > 0 and " 0 rows" not in ours.measured
    assert "by COPY alone" in script.measured and "nothing to do" in again.measured


def test_a_drain_and_a_loop_leave_the_same_files_and_one_other_byte_is_found_out(tmp_path):
    ours, bare = streams.compared(5_000, 1, tmp_path, java=False)[:2]
    assert float(ours.cpu_ratio) > 0 and "500 records of Kinesis" in ours.measured
    assert "a loop over boto3" in bare.measured

    def writes(text: bytes) -> streams.Work:
        def write(out: Path) -> None:
            (out / "2026-10-05T07").mkdir()
            (out / "2026-10-05T07" / "a-0-1-1.json").write_bytes(text)

        return write

    with pytest.raises(ContenderFailed, match="writes other files"):
        streams._raced("records", writes(b"{}\n"), ("a loop", writes(b"{} \n")), 1, tmp_path)
    with pytest.raises(ContenderFailed, match="writes other files"):  # none are not the same files
        streams._raced("records", lambda out: None, ("a loop", lambda out: None), 1, tmp_path)


def test_an_event_has_waited_until_the_first_version_that_shows_it(tmp_path):
    uri, began = str(tmp_path / "silver"), datetime.now(UTC)
    old, new = began - timedelta(seconds=30), began - timedelta(seconds=10)
    for times in ([old], [old, new], [old, new]):  # the last shows nothing new
        write_deltalake(uri, pa.table({"reading_ts": times}), mode="overwrite")
    ages, rate = latency.shown(uri, 2)
    took = (datetime.now(UTC) - began).total_seconds()
    assert 30 <= ages[0] <= 30 + took and 10 <= ages[1] <= 10 + took
    assert rate == pytest.approx(2 / 20)
    with pytest.raises(ContenderFailed, match="shows 2 events of 3"):
        latency.shown(uri, 3)


def test_a_pull_that_lands_other_than_all_rows_is_found_out(tmp_path):
    (tmp_path / "landing").mkdir()
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "landing" / "rows.parquet")
    extraction._landed("lines", 2)(tmp_path)
    with pytest.raises(ContenderFailed, match="2 rows have landed, of 3"):
        extraction._landed("lines", 3)(tmp_path)


@pytest.mark.jvm
@pytest.mark.rehearsal
@pytest.mark.timeout(1800)
def test_a_job_leaves_the_rows_of_spark_submit_and_grouping_takes_one_for_each_layer(tmp_path):
    bench = comparisons.Bench(tmp_path, 1, print, j_scale=SCALE, k_scale=SCALE)
    bench.k_tables = ("bronze.products", "bronze.orders", "silver.products")
    ours, script, alone, grouped, each = bench.compared(["j", "k"])
    assert float(ours.ratio) > 1 and "spark-submit of the same job" in script.measured
    assert (alone.ratio, grouped.ratio, each.met) == ("3", "2", True)
