"""Customers, every delivered version."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, text


def transform(customers: DataFrame) -> DataFrame:
    """One row per delivered version of a customer."""
    return customers.select(
        *LINEAGE,
        "customer_id",
        text("name").alias("name"),
        text("address").alias("address"),
        "nation_key",
        text("country").alias("country"),
        text("region").alias("region"),
        text("phone").alias("phone"),
        F.lower(text("email")).alias("email"),
        "account_balance",
        F.upper(text("market_segment")).alias("market_segment"),
        "comment",
        "updated_at",
    )
