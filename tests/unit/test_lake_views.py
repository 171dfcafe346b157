"""The warehouse's views show exactly what the Delta log says, and exactly what has changed."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Field, Schema, write_deltalake
from deltalake.schema import PrimitiveType
from deltalake.transaction import AddAction

from lakehouse.marts import lake_files
from lakehouse.marts.lake_views import ZONES, LakeTable, pin
from lakehouse.standins.servers.aws import Aws
from spark_jobs.errors import StorageError
from spark_jobs.lake.storage import Storage

NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)


def rows(sql: str) -> list[tuple]:
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'America/New_York'")  # must not matter
        return sorted(connection.execute(sql).fetchall())


def opened(root: Path, version: int | None = None) -> LakeTable:
    table = LakeTable.open("silver.orders", str(root), version)
    assert table is not None
    return table


def orders(*of: tuple[int, str, str]) -> pa.Table:
    """Orders with id, customer and day."""
    return pa.table(
        {
            "order_id": pa.array([o[0] for o in of], pa.int64()),
            "customer": pa.array([o[1] for o in of], pa.string()),
            "day": pa.array([date.fromisoformat(o[2]) for o in of], pa.date32()),
            "_batch_id": pa.array(["b"] * len(of), pa.string()),
        }
    )


def zones(lake: Path) -> dict[str, str]:
    return {zone: f"{lake}/{zone}" for zone in ZONES}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "silver" / "orders"
    first = orders((1, "ada", "2026-10-05"), (2, "bob", "2026-10-05"), (3, "cy", "2026-10-06"))
    write_deltalake(folder, first, partition_by=["day"])
    return folder


def changed(root: Path, since: int = 0) -> list[tuple]:
    before = opened(root, since)
    sql = opened(root).changed_since(before.table_id, before.version)
    return rows(f"select order_id, customer from ({sql})")


def test_a_view_reads_only_the_files_that_the_log_references(root: Path) -> None:
    stray = root / "batch=b9" / "day=2026-10-05"
    stray.mkdir(parents=True)
    pq.write_table(orders((99, "eve", "2026-10-05")), stray / "staged.parquet")
    DeltaTable(root).delete("order_id = 2")
    assert [r[0] for r in rows(opened(root).select())] == [1, 3]


def test_partition_values_come_from_the_log_and_not_from_the_path(root: Path) -> None:
    folder = root / "batch=b7" / "outcome=insert" / "day=1999-01-01"
    folder.mkdir(parents=True)
    pq.write_table(orders((7, "gil", "1999-01-01")).drop_columns("day"), folder / "x.parquet")
    table = DeltaTable(root)
    path = "batch=b7/outcome=insert/day=1999-01-01/x.parquet"
    size = (folder / "x.parquet").stat().st_size
    add = AddAction(path, size, {"day": "2026-10-07"}, 0, True, '{"numRecords": 1}')
    table.create_write_transaction([add], "append", table.schema(), ["day"])
    found = rows(f"select order_id, day from ({opened(root).select()}) where order_id = 7")
    assert found == [(7, date(2026, 10, 7))]


def test_columns_that_are_not_in_the_schema_are_not_in_the_view(root: Path) -> None:
    data = next((root / "day=2026-10-06").glob("*.parquet"))
    extended = pq.read_table(data).append_column("_violations", pa.array([["x"]]))
    pq.write_table(extended, data)
    names = [c[0] for c in duckdb.sql(opened(root).select()).description]
    assert names == ["order_id", "customer", "day", "_batch_id"]
    assert len(rows(opened(root).select())) == 3


def test_a_column_that_older_files_lack_is_null_in_their_rows(root: Path) -> None:
    DeltaTable(root).alter.add_columns([Field("note", PrimitiveType("string"))])
    late = orders((4, "dee", "2026-10-06")).append_column("note", pa.array(["new"]))
    write_deltalake(root, late, mode="append")
    found = rows(f"select order_id, note from ({opened(root).select()})")
    assert found == [(1, None), (2, None), (3, None), (4, "new")]


def test_an_empty_table_is_a_view_without_rows(tmp_path: Path) -> None:
    schema = Schema([Field("id", PrimitiveType("long")), Field("at", PrimitiveType("timestamp"))])
    DeltaTable.create(tmp_path / "t", schema)
    assert rows(opened(tmp_path / "t").select()) == []


def test_instants_are_utc_timestamps_without_zone_wherever_the_reader_is(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"at": pa.array([NOON], pa.timestamp("us", "UTC"))}))
    assert rows(opened(tmp_path / "t").select()) == [(NOON.replace(tzinfo=None),)]


def test_a_partition_value_may_hold_any_character_or_be_null(tmp_path: Path) -> None:
    values = ["a b", "a/b", "50%", "it's", None]
    data = pa.table({"id": pa.array(range(5), pa.int64()), "place": pa.array(values)})
    write_deltalake(tmp_path / "t", data, partition_by=["place"])
    assert rows(opened(tmp_path / "t").select()) == list(enumerate(values))


def test_a_table_that_needs_more_than_a_parquet_reader_is_refused(root: Path) -> None:
    table = DeltaTable(root)
    table.alter.set_table_properties({"delta.enableDeletionVectors": "true"})
    features = set(DeltaTable(root).protocol().reader_features or ())
    if "deletionVectors" not in features:
        table.alter.add_feature("deletionVectors", allow_protocol_versions_increase=True)
    with pytest.raises(StorageError, match="deletionVectors"):
        opened(root)


def test_nothing_has_changed_between_equal_versions(root: Path) -> None:
    assert changed(root) == []


def test_new_updated_and_deleted_rows_have_changed_and_their_neighbours_have_not(
    root: Path,
) -> None:
    table = DeltaTable(root)
    table.update(predicate="order_id = 2", new_values={"customer": "BOB"})
    table.delete("order_id = 3")
    write_deltalake(root, orders((4, "dee", "2026-10-07")), mode="append")
    assert changed(root) == [(2, "BOB"), (2, "bob"), (3, "cy"), (4, "dee")]


def test_compaction_changes_nothing(root: Path) -> None:
    write_deltalake(root, orders((4, "dee", "2026-10-05")), mode="append")
    since = DeltaTable(root).version()
    DeltaTable(root).optimize.compact()
    assert DeltaTable(root).version() > since
    assert changed(root, since) == []


def test_a_restored_version_changes_back_what_it_takes_back(root: Path) -> None:
    DeltaTable(root).delete("order_id = 3")
    since = DeltaTable(root).version()
    DeltaTable(root).restore(0)
    assert changed(root, since) == [(3, "cy")]


def test_everything_has_changed_if_the_earlier_files_are_gone(root: Path) -> None:
    DeltaTable(root).update(predicate="order_id = 2", new_values={"customer": "BOB"})
    DeltaTable(root).vacuum(0, dry_run=False, enforce_retention_duration=False)
    assert changed(root) == [(1, "ada"), (2, "BOB"), (3, "cy")]


def test_everything_has_changed_in_a_table_that_was_built_anew(root: Path) -> None:
    sql = opened(root).changed_since("another table", 0)
    assert len(rows(sql)) == 3


def test_a_table_that_cannot_be_read_has_no_view_and_the_others_do(
    root: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "gold" / "fact_sales" / "_delta_log"
    broken.mkdir(parents=True)
    (broken / "00000000000000000000.json").write_text("{")
    with duckdb.connect(tmp_path / "warehouse.duckdb") as connection:
        unreadable = pin(connection, zones(tmp_path), Storage())
        assert connection.execute("select count(*) from silver.orders").fetchone() == (3,)
        assert connection.execute("select source, version from lakehouse.pins").fetchall() == [
            ("silver.orders", 0)
        ]
    assert list(unreadable) == ["gold.fact_sales"]


def test_views_of_one_pin_do_not_move_when_the_table_does(root: Path, tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "warehouse.duckdb") as connection:
        pin(connection, zones(tmp_path), Storage())
        write_deltalake(root, orders((4, "dee", "2026-10-07")), mode="append")
        assert connection.execute("select count(*) from silver.orders").fetchone() == (3,)
        pin(connection, zones(tmp_path), Storage())
        assert connection.execute("select count(*) from silver.orders").fetchone() == (4,)


def test_views_read_an_object_store_through_the_platforms_own_client(aws: Aws) -> None:
    aws.create_buckets("curated")
    storage = Storage(aws.storage_options)
    at = "s3://curated/gold/orders"
    options = storage.delta_options(at)
    write_deltalake(
        at, orders((1, "ada", "2026-10-05")), partition_by=["day"], storage_options=options
    )
    places = {"gold": "s3://curated/gold", "silver": "s3://curated/silver"}
    counted = "select count(*), sum(order_id), min(day) from gold.orders"
    with duckdb.connect() as connection:
        lake_files.register(connection, storage)
        assert pin(connection, places, storage) == {}
        assert connection.execute(counted).fetchone() == (1, 1, date(2026, 10, 5))
        write_deltalake(
            at, orders((2, "bob", "2026-10-06")), mode="append", storage_options=options
        )
        table = LakeTable.open("gold.orders", at, storage=storage)
        assert table is not None
        new = f"select customer from ({table.changed_since(table.table_id, 0)})"
        assert connection.execute(new).fetchall() == [("bob",)]
