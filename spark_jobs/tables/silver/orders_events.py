"""What happens to orders."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, instant, number, text


def transform(orders_events: DataFrame) -> DataFrame:
    """One row per delivered event; what a producer sent again has the same key and time."""
    return orders_events.select(
        *LINEAGE,
        text("event_id").alias("event_id"),
        number("order_id", "bigint").alias("order_id"),
        number("customer_id", "bigint").alias("customer_id"),
        instant("event_ts").alias("event_ts"),
        F.to_date(instant("event_ts")).alias("event_date"),
        F.upper(text("currency")).alias("currency"),
        number("amount", "decimal(15,2)").alias("amount"),
        F.upper(text("status")).alias("status"),
    )
