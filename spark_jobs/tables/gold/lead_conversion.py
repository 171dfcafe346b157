"""What became of leads, by how they were found."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import quotient

CONVERTED = "Closed - Converted"


def transform(leads: DataFrame) -> DataFrame:
    """One row per source of leads, of all leads of the sources that the batch touched. Deleted ones
    count for nothing."""
    is_closed = F.col("status").startswith("Closed")
    converted, closed = _counted(F.col("status") == CONVERTED), _counted(is_closed)
    return leads.groupBy("lead_source").agg(
        F.max("_partition").alias("_partition"),
        F.count("*").cast("bigint").alias("_rows"),
        _counted(F.lit(True)).alias("leads"),
        _counted(~is_closed).alias("open_leads"),
        converted.alias("converted"),
        quotient(converted, F.nullif(closed, F.lit(0)), "decimal(5,4)").alias("conversion_rate"),
    )


def _counted(of: Column) -> Column:
    alive = ~F.coalesce("is_deleted", F.lit(False))
    return F.sum(F.when(alive & of, 1).otherwise(0)).cast("bigint")
