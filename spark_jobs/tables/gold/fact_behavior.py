"""Behaviour facts, one row per customer event."""

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE


def transform(
    customer_behavior: DataFrame,
    customer_events: DataFrame,
    orders_events: DataFrame,
    dim_customer: DataFrame,
) -> DataFrame:
    """One row per event of the web, the app and of orders, with the customer version that was valid
    at its time; a customer that the dimension does not know is the unknown member, 0. What happens
    to an order belongs to no session, and is named after the state that the order came to."""
    order_event = F.concat(F.lit("order_"), F.lower("status"))
    sources = [
        _events(customer_behavior, "web", F.col("session_id"), F.col("event_name")),
        _events(customer_events, "app", F.col("session_id"), F.col("event_type")),
        _events(orders_events, "orders", F.lit(None).cast("string"), order_event),
    ]
    events = reduce(lambda a, b: a.unionByName(b), sources)
    customer = dim_customer.select(
        F.col("customer_id").alias("c_id"), "customer_sk", "valid_from", "valid_to"
    )
    joined = events.join(
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
        "event_source",
        "event_id",
        "customer_id",
        "session_id",
        "event_name",
        "event_ts",
        "event_date",
    )


def _events(events: DataFrame, source: str, session: Column, name: Column) -> DataFrame:
    return events.select(
        *LINEAGE,
        F.lit(source).alias("event_source"),
        "event_id",
        "customer_id",
        session.alias("session_id"),
        name.alias("event_name"),
        "event_ts",
        "event_date",
    )
