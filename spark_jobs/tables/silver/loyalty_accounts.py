"""Loyalty accounts, with history."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, change_position, instant, text


def transform(loyalty_accounts: DataFrame) -> DataFrame:
    """One row per state that an account had after a transaction. States that lasted for less are
    left out: a transaction arrives as a whole, and has one moment."""
    changes = loyalty_accounts.withColumn("_position", change_position(instant("commit_ts")))
    at_once = Window.partitionBy("_partition", "loyalty_id", "commit_ts")
    beaten = F.col("_position") < F.max("_position").over(at_once)
    return changes.select(
        *LINEAGE,
        F.when(beaten, F.lit("changed again by the same transaction")).alias("_filtered"),
        "loyalty_id",
        "customer_id",
        F.upper(text("tier")).alias("tier"),
        "points",
        F.col("Op").alias("op"),
        (F.col("Op") == "D").alias("is_deleted"),
        instant("commit_ts").alias("valid_from"),
    )
