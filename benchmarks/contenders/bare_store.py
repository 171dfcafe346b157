"""A bare script on an object store: a day of products from landing into a bronze and a silver table.

Belongs here: reading, keeping the newest row of a key, writing. Does not belong here: rules, quarantine,
a ledger, repeatable publishing, and whatever else the platform does.
"""

from __future__ import annotations

from deltalake import DeltaTable
from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F

KEY, SEQUENCE = "product_id", "updated_at"


def run(spark: SparkSession, root: str, day: str, options: dict[str, str]) -> None:
    """Appends the day to bronze, and merges it into silver."""
    rows = spark.read.parquet(f"{root}/landing/products/{day}")
    rows.write.format("delta").mode("append").save(f"{root}/bronze/products")
    order = Window.partitionBy(KEY).orderBy(F.col(SEQUENCE).desc())
    rows = rows.withColumnRenamed("part_id", KEY)
    newest = rows.withColumn("_n", F.row_number().over(order)).where("_n = 1").drop("_n")
    silver = f"{root}/silver/products"
    if not DeltaTable.is_deltatable(silver, options):
        newest.write.format("delta").save(silver)
        return
    table = DeltaTable(silver, storage_options=options)
    merge = table.merge(newest.toArrow(), f"t.{KEY} = s.{KEY}", source_alias="s", target_alias="t")
    newer = f"s.{SEQUENCE} > t.{SEQUENCE}"
    merge.when_matched_update_all(newer).when_not_matched_insert_all().execute()
