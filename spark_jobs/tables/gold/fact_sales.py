"""Sales facts, one row per order line."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import LINEAGE
from spark_jobs.tables.silver.orders import in_usd


def transform(
    line_items: DataFrame, orders: DataFrame, dim_customer: DataFrame, dim_product: DataFrame
) -> DataFrame:
    """One row per order line, with the customer version that was valid at the start of the order
    day. A dimension row that is not there is the unknown member, 0; a line without its order has
    no date or amount, and the contract rejects it."""
    order = orders.select("order_id", "customer_id", "order_date", "usd_rate").alias("o")
    customer = dim_customer.select(
        F.col("customer_id").alias("c_id"), "customer_sk", "valid_from", "valid_to"
    )
    product = dim_product.select(F.col("product_id").alias("p_id"), "product_sk")
    ordered_at = F.col("order_date").cast("timestamp")
    known = order.join(
        customer,
        (F.col("customer_id") == F.col("c_id"))
        & (F.col("valid_from") <= ordered_at)
        & (F.col("valid_to").isNull() | (F.col("valid_to") > ordered_at)),
        "left",
    ).select(
        F.col("order_id").alias("o_id"), "customer_id", "order_date", "usd_rate", "customer_sk"
    )
    lines = line_items.join(known, F.col("order_id") == F.col("o_id"), "left").join(
        product, F.col("product_id") == F.col("p_id"), "left"
    )
    date_sk = (
        F.year("order_date") * 10000 + F.month("order_date") * 100 + F.dayofmonth("order_date")
    )
    return lines.select(
        *LINEAGE,
        F.coalesce("customer_sk", F.lit(0).cast("bigint")).alias("customer_sk"),
        F.coalesce("product_sk", F.lit(0).cast("bigint")).alias("product_sk"),
        F.coalesce(date_sk, F.lit(0)).cast("int").alias("date_sk"),
        "order_id",
        "line_number",
        "customer_id",
        "product_id",
        "order_date",
        "quantity",
        in_usd(F.col("net_amount"), F.col("usd_rate")).alias("amount_usd"),
        (F.coalesce("return_flag", F.lit("N")) == "R").alias("is_returned"),
        "updated_at",
    )
