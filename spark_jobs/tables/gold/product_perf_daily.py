"""Sales per product and day."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import quotient


def transform(fact_sales: DataFrame) -> DataFrame:
    """One row per product and order day, of all sales of the days that the batch touched."""
    amount = F.col("amount_usd")
    return fact_sales.groupBy(F.col("order_date").alias("date"), "product_id").agg(
        F.max("_partition").alias("_partition"),
        F.count("*").cast("bigint").alias("_rows"),
        F.countDistinct("order_id").cast("bigint").alias("order_count"),
        F.sum("quantity").cast("decimal(18,2)").alias("total_quantity"),
        F.sum(amount).cast("decimal(18,2)").alias("revenue_usd"),
        quotient(F.sum(amount), F.count("*"), "decimal(18,2)").alias("avg_order_value_usd"),
        F.max(amount).alias("max_order_value_usd"),
        F.min(amount).alias("min_order_value_usd"),
        F.countDistinct("customer_id").cast("bigint").alias("unique_customers"),
    )
