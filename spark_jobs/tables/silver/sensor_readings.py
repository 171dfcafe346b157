"""Freezer sensor readings, classified."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, hour, instant, number, text


def transform(sensor_readings: DataFrame) -> DataFrame:
    """One row per delivered reading. Above 0 degrees a freezer is critical, above -10 a warning."""
    reading, celsius = instant("timestamp"), number("temperature_celsius", "decimal(6,2)")
    status = F.when(celsius > 0, "critical").when(celsius > -10, "warning")
    return sensor_readings.select(
        *LINEAGE,
        text("sensor_id").alias("sensor_id"),
        reading.alias("reading_ts"),
        hour(reading).alias("reading_hour"),
        F.to_date(reading).alias("reading_date"),
        text("location").alias("location"),
        celsius.alias("temperature_celsius"),
        F.when(celsius.isNotNull(), status.otherwise("normal")).alias("status"),
        instant("arrival_timestamp").alias("arrival_ts"),
    )
