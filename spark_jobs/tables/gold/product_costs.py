"""What products cost, by the prices that vendors ask."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def transform(price_lists: DataFrame) -> DataFrame:
    """One row per product and day on which a price of a vendor begins, of all prices of the products
    that the batch touched. Each vendor counts with the price that it asks on that day."""
    days = price_lists.groupBy("product_id", "valid_from").agg(
        F.max("_partition").alias("_partition"), F.count("*").cast("bigint").alias("_rows")
    )
    asked = price_lists.select(
        F.col("product_id").alias("p_id"), "vendor", F.col("valid_from").alias("since"), "price_usd"
    )
    then = (F.col("product_id") == F.col("p_id")) & (F.col("since") <= F.col("valid_from"))
    newest = Window.partitionBy("product_id", "valid_from", "vendor").orderBy(F.desc("since"))
    offers = days.join(asked, then).withColumn("_nth", F.row_number().over(newest))
    offers = offers.where("_nth = 1").drop("_nth")
    of_day = Window.partitionBy("product_id", "valid_from")
    best = offers.select(
        "*",
        F.count("*").over(of_day).cast("bigint").alias("vendors"),
        F.row_number().over(of_day.orderBy("price_usd", "vendor")).alias("_nth"),
    ).where("_nth = 1")
    of_product = Window.partitionBy("product_id").orderBy("valid_from")
    return best.select(
        "_partition",
        "_rows",
        "product_id",
        "valid_from",
        F.lead("valid_from").over(of_product).alias("valid_to"),
        F.col("price_usd").alias("cost_usd"),
        "vendor",
        "vendors",
    )
