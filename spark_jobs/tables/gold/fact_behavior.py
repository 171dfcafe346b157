"""Behaviour facts, one row per customer event."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE


def transform(customer_behavior: DataFrame, dim_customer: DataFrame) -> DataFrame:
    """One row per event, with the customer version that was valid at its time; a customer that
    the dimension does not know is the unknown member, 0."""
    customer = dim_customer.select(
        F.col("customer_id").alias("c_id"), "customer_sk", "valid_from", "valid_to"
    )
    joined = customer_behavior.join(
        customer,
        (F.col("customer_id") == F.col("c_id"))
        & (F.col("valid_from") <= F.col("event_ts"))
        & (F.col("valid_to").isNull() | (F.col("valid_to") > F.col("event_ts"))),
        "left",
    )
    date_sk = (
        F.year("event_date") * 10000 + F.month("event_date") * 100 + F.dayofmonth("event_date")
    )
    return joined.select(
        *LINEAGE,
        F.coalesce("customer_sk", F.lit(0).cast("bigint")).alias("customer_sk"),
        F.coalesce(date_sk, F.lit(0)).cast("int").alias("date_sk"),
        "event_id",
        "customer_id",
        "session_id",
        "event_name",
        "event_ts",
        "event_date",
    )
