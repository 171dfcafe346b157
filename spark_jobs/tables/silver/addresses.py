"""Delivery addresses, the latest state of each."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, change_position, instant, text


def transform(addresses: DataFrame) -> DataFrame:
    """One row per captured change. What is deleted stays, marked, so that a change which was
    committed before and arrives later does not bring it back."""
    return addresses.select(
        *LINEAGE,
        "address_id",
        "customer_id",
        text("street").alias("street"),
        text("city").alias("city"),
        text("postal_code").alias("postal_code"),
        "is_default",
        F.col("Op").alias("op"),
        (F.col("Op") == "D").alias("is_deleted"),
        change_position(instant("commit_ts")).alias("position"),
        instant("commit_ts").alias("updated_at"),
    )
