"""Orders with their amount in US dollars."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, text

CARRY_DAYS = 5
"""A rate is carried forward over weekends and holidays, never further than this."""


def transform(orders: DataFrame, fx_rates: DataFrame) -> DataFrame:
    """One row per delivered order. `usd_rate` is the rate of the order's date or of the last
    quotation at most CARRY_DAYS before it; without one it is null, and the contract rejects it."""
    status = (
        F.when(F.col("status") == "O", "PLACED")
        .when(F.col("status") == "P", "PAID")
        .when(F.col("status") == "F", "SHIPPED")
        .otherwise(F.col("status"))
    )
    rates = rate_by_day(fx_rates)
    priced = orders.withColumn("currency", F.upper(text("currency"))).join(
        rates,
        (F.col("currency") == rates["ccy"]) & (F.col("order_date") == rates["day"]),
        "left",
    )
    amount = F.col("total_price").cast("decimal(18,2)")
    return priced.select(
        *LINEAGE,
        "order_id",
        "customer_id",
        "order_date",
        status.alias("order_status"),
        amount.alias("total_amount"),
        "currency",
        "usd_rate",
        "rate_date",
        in_usd(amount, F.col("usd_rate")).alias("amount_usd"),
        "priority",
        "clerk",
        "ship_priority",
        "comment",
        "updated_at",
    )


def rate_by_day(fx_rates: DataFrame) -> DataFrame:
    """Rows (ccy, day, usd_rate, rate_date): each quotation repeated for the days it is valid on,
    until the next one and at most CARRY_DAYS after its own."""
    offsets = F.explode(F.sequence(F.lit(0), F.lit(CARRY_DAYS)))
    days = fx_rates.select(
        "ccy",
        F.col("as_of_date").alias("rate_date"),
        F.col("rate_to_base").alias("usd_rate"),
        offsets.alias("offset"),
    ).withColumn("day", F.date_add("rate_date", F.col("offset")))
    newest = days.groupBy("ccy", "day").agg(F.max("rate_date").alias("rate_date"))
    return newest.join(days, ["ccy", "day", "rate_date"]).select(
        "ccy", "day", "usd_rate", "rate_date"
    )


def in_usd(amount: Column, rate: Column) -> Column:
    """An amount in US dollars, to the cent. Null where it is too large.

    One digit less of the rate, or their product needs 39 and is rounded twice on one engine.
    """
    return (amount * rate.try_cast("decimal(19,10)")).try_cast("decimal(18,2)")
