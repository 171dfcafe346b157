"""The Delta log tells no text of a column that may not be shown, and its readers lose no row."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.compute as pc
import pytest

from spark_jobs.lake import delta
from spark_jobs.lake.storage import Storage
from tests.lakes import MONDAY, TinyLake, bronze, column, contract

INTERNAL = {"classification": "internal"}
TYPES = {
    "mail": ("string", "'canary@lovelace.org'"),
    "born": ("date", "date '1815-12-10'"),
    "seen": ("timestamp", "timestamp '1852-11-27 11:22:33'"),
    "income": ("decimal(12,2)", "cast(987654321.12 as decimal(12,2))"),
    "number": ("bigint", "cast(987654321 as bigint)"),
    "minor": ("boolean", "true"),
}
TRANSFORM = """
    from pyspark.sql import functions as F
    from spark_jobs.columns import LINEAGE

    def transform(people):
        return people.select(*LINEAGE, "id", {columns})
"""


@pytest.fixture
def people(lake: TinyLake) -> TinyLake:
    columns = [column("id", key=1, of="bronze.people.id") | INTERNAL]
    columns += [column(n, t) | {"classification": "pii"} for n, (t, _) in TYPES.items()]
    made = ", ".join(f'F.expr("{sql}").alias("{n}")' for n, (_, sql) in TYPES.items())
    lake.define(bronze("people", "json", column("id", required=True) | INTERNAL, column("note")))
    silver = contract("silver.people", columns, inputs=[{"table": "bronze.people"}])
    lake.define(silver, TRANSFORM.format(columns=made))
    lake.land(
        "people",
        MONDAY,
        "f.json",
        json.dumps({"id": "key-1", "note": "note-canary", "new": "new-canary"}) + "\n",
    )
    lake.run("bronze.people", MONDAY)
    lake.run("silver.people", MONDAY)
    return lake


def log(lake: TinyLake, table: str) -> str:
    folder = Path(lake.lake.table(table), "_delta_log")
    return "\n".join(p.read_text() for p in folder.glob("*.json"))


def test_the_log_holds_no_bounds_of_personal_or_unclassified_texts(people: TinyLake) -> None:
    said = log(people, "silver.people") + log(people, "bronze.people")
    assert "canary" not in said
    assert "key-1" in said


def test_readers_find_the_rows_by_columns_without_bounds(people: TinyLake) -> None:
    location = people.lake.table("silver.people")
    table = delta.open_table(location, Storage())
    assert table is not None
    found = delta.read(table, Storage(), where=pc.field("mail") == "canary@lovelace.org")
    assert found.num_rows == 1
    rows = people.engine.spark.read.format("delta").load(location)
    for name, (_, sql) in TYPES.items():
        assert rows.where(f"{name} = {sql}").count() == 1, name
        if name != "minor":
            assert rows.selectExpr(f"max({name}) = {sql} and min({name}) = {sql}").head()[0], name
            assert rows.where(f"{name} > {sql}").count() == 0, name
