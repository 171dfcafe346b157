"""Customers, every delivered version."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, change_position, instant, position_of, text


def transform(customers: DataFrame, customer_changes: DataFrame) -> DataFrame:
    """One row per version of a customer, from the warehouse and from the operational database. Of
    two versions of one moment that of the database counts, which knows the order of its changes."""
    updated_at = F.col("updated_at")
    exported = _versions(customers, updated_at, position_of(updated_at), F.lit(None).cast("string"))
    commit = instant("commit_ts")
    captured = _versions(customer_changes, commit, change_position(commit), F.col("Op"))
    return exported.unionByName(captured)


def _versions(rows: DataFrame, updated_at: Column, position: Column, op: Column) -> DataFrame:
    return rows.select(
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
        op.alias("op"),
        F.coalesce(op == "D", F.lit(False)).alias("is_deleted"),
        position.alias("position"),
        updated_at.alias("updated_at"),
    )
