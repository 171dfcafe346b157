"""Stock, one row per warehouse and product."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE


def transform(inventory: DataFrame, dim_product: DataFrame) -> DataFrame:
    """One row per last count. A product that the dimension does not know is the unknown member, 0."""
    product = dim_product.select(F.col("product_id").alias("p_id"), "product_sk")
    joined = inventory.join(product, F.col("product_id") == F.col("p_id"), "left")
    day = F.col("counted_at").cast("date")
    return joined.select(
        *LINEAGE,
        F.coalesce("product_sk", F.lit(0).cast("bigint")).alias("product_sk"),
        (F.year(day) * 10000 + F.month(day) * 100 + F.dayofmonth(day)).cast("int").alias("date_sk"),
        "warehouse",
        "product_id",
        "on_hand",
        (F.col("on_hand") == 0).alias("is_out_of_stock"),
        "counted_at",
    )
