"""Staff, latest version of each."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, day, instant, number, text


def transform(employees: DataFrame) -> DataFrame:
    """One row per delivered record."""
    return employees.select(
        *LINEAGE,
        text("employee_id").alias("employee_id"),
        text("first_name").alias("first_name"),
        text("last_name").alias("last_name"),
        F.lower(text("email")).alias("email"),
        F.coalesce(text("department"), F.lit("Unknown")).alias("department"),
        number("salary", "int").alias("salary"),
        day("hired_on").alias("hired_on"),
        instant("updated_at").alias("updated_at"),
    )
