"""The product dimension."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, surrogate_key


def transform(products: DataFrame) -> DataFrame:
    """One row per product, and the unknown member, product_sk 0."""
    members = products.select(
        *LINEAGE,
        F.lit(1).cast("bigint").alias("_rows"),
        surrogate_key("product_id").alias("product_sk"),
        "product_id",
        "name",
        "category",
        "brand",
        "price",
        "updated_at",
    )
    # The unknown member stands for no row that was read, so it weighs nothing in the accounting.
    # Each partition has one: which days run together must not decide whether there is one.
    first = members.groupBy("_partition", "_arrival_date").agg(F.min("_input").alias("_input"))
    unknown = first.select(
        *LINEAGE,
        F.lit(0).cast("bigint").alias("_rows"),
        F.lit(0).cast("bigint").alias("product_sk"),
        F.lit(0).cast("bigint").alias("product_id"),
        F.lit("Unknown").alias("name"),
        F.lit("UNKNOWN").alias("category"),
        F.lit(None).cast("string").alias("brand"),
        F.lit(None).cast("decimal(15,2)").alias("price"),
        F.lit("1900-01-01 00:00:00").cast("timestamp").alias("updated_at"),
    )
    return members.unionByName(unknown)
