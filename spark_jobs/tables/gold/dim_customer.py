"""The customer dimension, with history."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, surrogate_key

ATTRIBUTES = ("name", "email", "phone", "address", "country", "region", "market_segment")
BEGINNING = "1900-01-01 00:00:00"


def transform(customers: DataFrame) -> DataFrame:
    """One row per version of a customer, and the unknown member, customer_sk 0. The platform sets
    the end of each version's validity from the version that follows it."""
    versions = customers.select(
        *LINEAGE,
        F.lit(1).cast("bigint").alias("_rows"),
        surrogate_key("customer_id", "updated_at").alias("customer_sk"),
        "customer_id",
        *ATTRIBUTES,
        F.col("updated_at").alias("valid_from"),
    )
    # The unknown member stands for no row that was read, so it weighs nothing in the accounting.
    # Each partition has one: which days run together must not decide whether there is one.
    first = versions.groupBy("_partition", "_arrival_date").agg(F.min("_input").alias("_input"))
    unknown = first.select(
        *LINEAGE,
        F.lit(0).cast("bigint").alias("_rows"),
        F.lit(0).cast("bigint").alias("customer_sk"),
        F.lit(0).cast("bigint").alias("customer_id"),
        F.lit("Unknown").alias("name"),
        *[F.lit(None).cast("string").alias(a) for a in ATTRIBUTES[1:]],
        F.lit(BEGINNING).cast("timestamp").alias("valid_from"),
    )
    return versions.unionByName(unknown)
