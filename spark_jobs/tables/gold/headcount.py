"""Staff per department."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def transform(employees: DataFrame) -> DataFrame:
    """One row per department, of all staff of the departments that the batch touched: those that
    somebody joined, left, or changed in."""
    return employees.groupBy("department").agg(
        F.max("_partition").alias("_partition"),
        F.count("*").cast("bigint").alias("_rows"),
        F.count("*").cast("bigint").alias("employees"),
        F.max("hired_on").alias("last_hired_on"),
    )
