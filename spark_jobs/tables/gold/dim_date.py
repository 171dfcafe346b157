"""The calendar."""

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

FIRST, LAST = "2020-01-01", "2030-12-31"


def transform(spark: SparkSession) -> DataFrame:
    """One row per day from FIRST to LAST, and member 0 for an unknown day."""
    bounds = F.sequence(F.lit(FIRST).cast("date"), F.lit(LAST).cast("date"))
    days = spark.range(1).select(F.explode(bounds).alias("date"))
    unknown = spark.range(1).select(F.lit(None).cast("date").alias("date"))
    iso_day = (F.dayofweek("date") + 5) % 7 + 1
    key = F.year("date") * 10000 + F.month("date") * 100 + F.dayofmonth("date")
    return days.unionByName(unknown).select(
        F.coalesce(key, F.lit(0)).cast("int").alias("date_sk"),
        "date",
        F.year("date").cast("int").alias("year"),
        F.month("date").cast("int").alias("month"),
        F.dayofmonth("date").cast("int").alias("day"),
        F.quarter("date").cast("int").alias("quarter"),
        iso_day.cast("int").alias("day_of_week"),
        F.date_format("date", "EEEE").alias("day_name"),
        F.date_format("date", "MMMM").alias("month_name"),
        (iso_day >= 6).alias("is_weekend"),
        (F.col("date") == F.last_day("date")).alias("is_month_end"),
    )
