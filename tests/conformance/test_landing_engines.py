"""Landing on JVM Spark: names are literal, values convert alike, a failing row fails its day alone.

Here: what the engine could do otherwise. The same on Sail: tests/integration/test_landing_files.py,
tests/integration/test_failing_rows.py and tests/unit/test_landing.py.
"""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

from tests.integration.test_failing_rows import lake_with, settled
from tests.integration.test_landing_files import NAMES, one
from tests.lakes import MONDAY, TinyLake, bronze, column, transforms_in

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


def test_a_cast_that_fails_in_a_transform_fails_its_day_and_no_other(on_spark):
    error = settled(lake_with(on_spark, "F.col('amount').cast('int')"))
    assert "a value cannot be cast to INT in column n, on the spark engine." in error
