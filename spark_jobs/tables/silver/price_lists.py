"""What vendors ask for products, with the price in US dollars."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, day, instant, number, text
from spark_jobs.tables.silver.orders import in_usd, rate_by_day


def transform(price_lists: DataFrame, fx_rates: DataFrame) -> DataFrame:
    """One row per offered price. A list is in the rates of the day on which it came: its prices may
    begin on a later one, which has no rate yet."""
    asked = price_lists.select(
        *LINEAGE,
        text("vendor").alias("vendor"),
        number("part_id", "bigint").alias("product_id"),
        day("valid_from").alias("valid_from"),
        number("price", "decimal(15,2)").alias("price"),
        F.upper(text("currency")).alias("currency"),
        "source_file",
        instant("received_at").alias("received_at"),
    )
    rates = rate_by_day(fx_rates)
    received_on = F.col("received_at").cast("date")
    priced = asked.join(
        rates, (F.col("currency") == rates["ccy"]) & (received_on == rates["day"]), "left"
    )
    return priced.select(
        *asked.columns, "usd_rate", in_usd(F.col("price"), F.col("usd_rate")).alias("price_usd")
    )
