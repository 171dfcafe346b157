"""Stock per warehouse and product, as last counted."""

from pyspark.sql import DataFrame

from spark_jobs.columns import LINEAGE, instant, number, text


def transform(inventory: DataFrame) -> DataFrame:
    """One row per delivered count."""
    return inventory.select(
        *LINEAGE,
        text("warehouse").alias("warehouse"),
        number("part_id", "bigint").alias("product_id"),
        number("on_hand", "int").alias("on_hand"),
        instant("counted_at").alias("counted_at"),
    )
