"""What transforms, the audit and the publisher ask of whole frames: one answer on both engines.

Here: windows, groups, joins and generated rows over keys that are null, repeated or alike. Not here:
single expressions (test_expressions.py).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from spark_jobs.tables.gold import dim_date
from spark_jobs.tables.silver.orders import rate_by_day
from tests.conformance import edge_values
from tests.conformance.agreement import content, differences

pytestmark = pytest.mark.jvm

# Alike to the eye, or to one of two engines, and still different keys.
KEYS = (None, "", " ", "a", "A", "a ", "é", "e\u0301", "🦊", "\uffff", "null", "NaN")
BASE = dt.datetime(2026, 10, 5, 1, 2, 3, tzinfo=dt.UTC)


def _rows() -> pa.Table:
    rows = [
        {
            "key": KEYS[i % 12],
            "id": None if i % 7 == 0 else i % 5,
            "at": None
            if i % 11 == 0
            else BASE + dt.timedelta(microseconds=i % 4, days=-(i % 3) * 9000),
            "hash": (-1) ** i * i * 7919,
            "partition": f"2026-10-0{5 + i % 3}",
            "day": dt.date(2026, 10, 1 + i % 4) if i % 5 else None,
            "amount": None if i % 6 == 0 else Decimal(i * 333 - 9999) / 100,
            "rules": None if i % 3 else ["a", "b"][: i % 2 + 1],
        }
        for i in range(120)
    ]
    types = [
        ("key", pa.string()), ("id", pa.int64()), ("at", pa.timestamp("us", "UTC")),
        ("hash", pa.int64()), ("partition", pa.string()), ("day", pa.date32()),
        ("amount", pa.decimal128(18, 2)), ("rules", pa.list_(pa.string())),
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=pa.schema(types))


def newest_of_each_key(rows: Any) -> Any:
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    order = Window.partitionBy("key", "id").orderBy(
        F.col("at").desc(), F.col("hash").desc(), F.col("partition")
    )
    return rows.withColumn("first", F.row_number().over(order) == 1)


def next_version_of_each_key(rows: Any) -> Any:
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    distinct = rows.groupBy("key", "at").agg(F.max("hash").alias("hash")).where("at is not null")
    return distinct.withColumn("to", F.lead("at").over(Window.partitionBy("key").orderBy("at")))


def equal_records_in_order(rows: Any) -> Any:
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    same = Window.partitionBy("partition", "key").orderBy("key")
    return rows.select("partition", "key", F.row_number().over(same).cast("string").alias("nth"))


def repeated_keys(rows: Any) -> Any:
    return rows.groupBy("key", "id").count().where("count > 1").select("key", "id")


def keys_without_nulls(rows: Any) -> Any:
    return rows.select("key", "id").dropna().groupBy("key", "id").count()


def counts_by_outcome(rows: Any) -> Any:
    from pyspark.sql import functions as F

    hit = F.coalesce(F.array_contains("rules", "a"), F.lit(False))
    return rows.groupBy("partition", "day").agg(
        F.sum(F.lit(1).cast("bigint")).alias("n"),
        F.max("at").cast("string").alias("newest"),
        F.sum(hit.cast("int")).alias("a"),
    )


def measures(rows: Any) -> Any:
    from pyspark.sql import functions as F

    return rows.groupBy("day").agg(
        F.max("partition").alias("partition"),
        F.count("*").cast("bigint").alias("n"),
        F.countDistinct("key").cast("bigint").alias("keys"),
        F.sum("amount").cast("decimal(18,2)").alias("total"),
        F.min("amount").alias("least"),
        F.max("amount").alias("most"),
        F.max("key").alias("last"),
        F.sum(F.when(F.col("amount") > 0, 1).otherwise(0)).cast("bigint").alias("above"),
    )


def rows_of_touched_slices(rows: Any) -> Any:
    from pyspark.sql import functions as F

    times = [BASE, BASE + dt.timedelta(microseconds=2)]
    days = [dt.date(2026, 10, 2), dt.date(2026, 10, 3)]
    return rows.where(F.col("at").isin(*times) | F.col("day").isin(*days))


def rows_of_other_slices(rows: Any) -> Any:
    from pyspark.sql import functions as F

    return rows.where(~F.col("partition").isin("2026-10-05", "2026-10-06"))


def rows_of_partitions(rows: Any) -> Any:
    from pyspark.sql import functions as F

    return rows.where(F.col("partition").between("2026-10-05", "2026-10-06"))


def references(rows: Any) -> Any:
    from pyspark.sql import functions as F

    known = rows.where("id = 1").select(F.col("key").alias("_key")).distinct()
    known = known.select(F.col("_key").alias("known"), F.lit(True).alias("mark"))
    return rows.join(known, F.col("key") == F.col("known"), "left").select("key", "id", "mark")


def kept_and_touched(rows: Any) -> Any:
    from pyspark.sql import functions as F

    some = rows.where("hash > 0 and id < 3").select("key", "id").distinct()
    kept = rows.join(F.broadcast(some), ["key", "id"], "left_anti").withColumn(
        "side", F.lit("kept")
    )
    touched = rows.join(some, ["key", "id"], "left_semi").withColumn("side", F.lit("touched"))
    return kept.unionByName(touched)


def versions_at_their_time(rows: Any) -> Any:
    from pyspark.sql import functions as F

    versions = next_version_of_each_key(rows).select(F.col("key").alias("k"), "hash", "at", "to")
    events = rows.select("key", F.col("at").alias("event"))
    at_its_time = (F.col("at") <= F.col("event")) & (
        F.col("to").isNull() | (F.col("to") > F.col("event"))
    )
    joined = events.join(versions, (F.col("key") == F.col("k")) & at_its_time, "left")
    return joined.select("key", "event", F.coalesce("hash", F.lit(0).cast("bigint")).alias("sk"))


def record_in_a_struct(rows: Any) -> Any:
    from pyspark.sql import functions as F

    made = rows.select("partition", F.struct("key", "at", "amount").alias("_input"))
    record = F.to_json(F.struct(F.col("_input.`at`").cast("string").alias("at")))
    return made.select("_input.key", record.alias("record"))


def calendar(rows: Any) -> Any:
    return dim_date.transform(rows.sparkSession)


def rates_carried_forward(rows: Any) -> Any:
    from pyspark.sql import functions as F

    quotes = (
        rows.where("key is not null and day is not null")
        .groupBy("key", "day")
        .agg(F.max(F.abs("amount")).cast("decimal(20,10)").alias("rate_to_base"))
    )
    return rate_by_day(
        quotes.select(F.col("key").alias("ccy"), F.col("day").alias("as_of_date"), "rate_to_base")
    )


FRAMES: tuple[Callable[[Any], Any], ...] = (
    newest_of_each_key, next_version_of_each_key, equal_records_in_order, repeated_keys,
    keys_without_nulls, counts_by_outcome, measures, rows_of_touched_slices, rows_of_other_slices,
    rows_of_partitions, references, kept_and_touched, versions_at_their_time, record_in_a_struct,
    calendar, rates_carried_forward,
)  # fmt: skip


@pytest.mark.parametrize("frame", FRAMES, ids=lambda f: f.__name__)
def test_frames_have_the_same_rows(frame, sail, spark, tmp_path):
    path = edge_values.write(tmp_path, "rows", _rows())
    found = {e.name: frame(e.spark.read.parquet(path)) for e in (sail, spark)}
    rows = {name: content(made.toArrow()) for name, made in found.items()}
    assert not differences(**rows)
    assert len(rows["sail"]) > 1
    assert found["sail"].dtypes == found["spark"].dtypes
