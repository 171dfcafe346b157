"""Freezer temperatures per sensor and day."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import quotient


def transform(sensor_readings: DataFrame) -> DataFrame:
    """One row per sensor and day, of all readings of the days that the batch touched."""
    celsius = F.col("temperature_celsius")
    critical = F.sum(F.when(F.col("status") == "critical", 1).otherwise(0)).cast("bigint")
    warning = F.sum(F.when(F.col("status") == "warning", 1).otherwise(0)).cast("bigint")
    return sensor_readings.groupBy("sensor_id", F.col("reading_date").alias("date")).agg(
        F.max("_partition").alias("_partition"),
        F.count("*").cast("bigint").alias("_rows"),
        F.max("location").alias("location"),
        F.count("*").cast("bigint").alias("readings"),
        quotient(F.sum(celsius), F.count("*"), "decimal(6,2)").alias("avg_temperature_celsius"),
        F.min(celsius).alias("min_temperature_celsius"),
        F.max(celsius).alias("max_temperature_celsius"),
        warning.alias("warning_readings"),
        critical.alias("critical_readings"),
    )
