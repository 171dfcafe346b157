"""The customer dimension, with history."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, surrogate_key

ATTRIBUTES = ("name", "email", "phone", "address", "country", "region", "market_segment")
BEGINNING = "1900-01-01 00:00:00"


def transform(customers: DataFrame, loyalty_accounts: DataFrame) -> DataFrame:
    """One row per version of a customer, and the unknown member, customer_sk 0. The platform sets
    the end of each version's validity from the version that follows it."""
    versions = _with_tier(customers, loyalty_accounts).select(
        *LINEAGE,
        F.lit(1).cast("bigint").alias("_rows"),
        surrogate_key("customer_id", "updated_at").alias("customer_sk"),
        "customer_id",
        *ATTRIBUTES,
        "loyalty_tier",
        "is_deleted",
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
        *[F.lit(None).cast("string").alias(a) for a in (*ATTRIBUTES[1:], "loyalty_tier")],
        F.lit(False).alias("is_deleted"),
        F.lit(BEGINNING).cast("timestamp").alias("valid_from"),
    )
    return versions.unionByName(unknown)


def _with_tier(customers: DataFrame, loyalty_accounts: DataFrame) -> DataFrame:
    """Versions with the tier of the account that the customer had when they began, the newest if
    there were several. Only versions with an account are sorted, and of those only their keys."""
    accounts = loyalty_accounts.select(
        F.col("customer_id").alias("_of"),
        F.col("tier").alias("loyalty_tier"),
        F.col("valid_from").alias("_since"),
        F.col("valid_to").alias("_until"),
    )
    held = customers.select("customer_id", F.col("updated_at").alias("_at")).join(
        accounts,
        (F.col("customer_id") == F.col("_of"))
        & (F.col("_since") <= F.col("_at"))
        & (F.col("_until").isNull() | (F.col("_until") > F.col("_at"))),
    )
    newest = Window.partitionBy("_of", "_at").orderBy(F.col("_since").desc(), "loyalty_tier")
    tiers = held.withColumn("_nth", F.row_number().over(newest)).where("_nth = 1")
    return customers.join(
        tiers.select("_of", "_at", "loyalty_tier"),
        (F.col("customer_id") == F.col("_of")) & (F.col("updated_at") == F.col("_at")),
        "left",
    )
