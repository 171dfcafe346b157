"""Web and e-mail events of customers."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, has_zone, instant, number, text


def transform(customer_behavior: DataFrame) -> DataFrame:
    """One row per delivered event. A time without zone is read as UTC and flagged."""
    return customer_behavior.select(
        *LINEAGE,
        text("event_id").alias("event_id"),
        number("customer_id", "bigint").alias("customer_id"),
        text("event_name").alias("event_name"),
        instant("event_ts").alias("event_ts"),
        has_zone("event_ts").alias("event_ts_zoned"),
        F.to_date(instant("event_ts")).alias("event_date"),
        text("session_id").alias("session_id"),
        text("device").alias("device"),
        text("geo").alias("geo"),
        text("url_1").alias("url_1"),
        text("url_2").alias("url_2"),
        text("metadata").alias("metadata"),
    )
