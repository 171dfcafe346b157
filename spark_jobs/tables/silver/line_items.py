"""Order lines."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE


def transform(line_items: DataFrame) -> DataFrame:
    """One row per delivered line, with its amount after discount."""
    net = F.col("extended_price") * (F.lit(1) - F.col("discount"))
    return line_items.select(
        *LINEAGE,
        "order_id",
        "line_number",
        F.col("part_id").alias("product_id"),
        "supplier_id",
        "quantity",
        "extended_price",
        "discount",
        "tax",
        net.try_cast("decimal(18,2)").alias("net_amount"),
        "return_flag",
        "line_status",
        "ship_date",
        "commit_date",
        "receipt_date",
        "ship_instruct",
        "ship_mode",
        "comment",
        "updated_at",
    )
