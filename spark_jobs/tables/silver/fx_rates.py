"""ECB reference rates, re-based from EUR to USD."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE, day, number, quotient, text

MAJOR = ("USD", "EUR", "GBP", "JPY", "CHF", "CAD", "AUD", "NZD")


def transform(fx_rates: DataFrame) -> DataFrame:
    """One row per quotation. USD per unit of a currency is the dollar's quotation divided by the
    currency's, both in units per EUR; `N/A` is a known gap and leaves as filtered."""
    quotes = fx_rates.select(
        *LINEAGE,
        F.upper(text("ccy")).alias("ccy"),
        day("as_of_date").alias("as_of_date"),
        number("rate", "decimal(18,6)").alias("rate"),
        F.when(text("rate") == "N/A", F.lit("not quoted")).alias("_filtered"),
    )
    dollars = (
        quotes.where((F.col("ccy") == "USD") & F.col("rate").isNotNull())
        .groupBy(F.col("as_of_date").alias("usd_date"), F.col("_partition").alias("usd_partition"))
        .agg(F.max("rate").alias("usd"))
    )
    # Of the same delivery: what a day's rows become must not depend on which days run together.
    of_its_day = (F.col("as_of_date") == F.col("usd_date")) & (
        F.col("_partition") == F.col("usd_partition")
    )
    joined = quotes.join(dollars, of_its_day, "left")
    to_base = quotient(F.col("usd"), F.when(F.col("rate") != 0, F.col("rate")), "decimal(20,10)")
    category = (
        F.when(F.col("ccy").isin(*MAJOR), "major")
        .when(F.col("ccy").rlike(r"^[A-Z]{3}\z"), "minor")
        .otherwise("exotic")
    )
    return joined.select(
        *LINEAGE,
        "_filtered",
        "ccy",
        "as_of_date",
        to_base.alias("rate_to_base"),
        F.lit("USD").alias("base_currency"),
        category.alias("rate_category"),
        F.col("_partition").cast("timestamp").alias("ingestion_timestamp"),
    )
