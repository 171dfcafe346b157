"""What customers do in the app."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, instant, number, text


def transform(customer_events: DataFrame) -> DataFrame:
    """One row per delivered event; what a producer sent again has the same key and time."""
    return customer_events.select(
        *LINEAGE,
        text("event_id").alias("event_id"),
        number("customer_id", "bigint").alias("customer_id"),
        F.lower(text("event_type")).alias("event_type"),
        instant("event_ts").alias("event_ts"),
        F.to_date(instant("event_ts")).alias("event_date"),
        text("session_id").alias("session_id"),
        F.lower(text("channel")).alias("channel"),
        text("properties").alias("properties"),
    )
