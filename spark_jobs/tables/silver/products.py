"""Products, latest version of each."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, text


def transform(products: DataFrame) -> DataFrame:
    """One row per delivered product; a product without category is in category UNKNOWN."""
    return products.select(
        *LINEAGE,
        F.col("part_id").alias("product_id"),
        text("name").alias("name"),
        text("manufacturer").alias("manufacturer"),
        text("brand").alias("brand"),
        F.coalesce(text("category"), F.lit("UNKNOWN")).alias("category"),
        "size",
        "container",
        F.col("retail_price").alias("price"),
        "comment",
        "updated_at",
    )
