"""The workload as a bare PySpark script on Sail: what one would write by hand, once, for this job.

Belongs here: the same reads, transforms, checks, quarantine and Delta writes as the platform's
tables. Does not belong here: anything of the platform; the script knows nothing of contracts.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from benchmarks import workload as w

LANDING, LAKE, DAYS = sys.argv[1], sys.argv[2], sys.argv[3:]
RUN_ID, RUN_TS = "bare", dt.datetime.now(dt.UTC)
os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"


def start_session() -> tuple[Any, Any]:
    os.environ |= {
        "RUST_LOG": "error",
        "SAIL_EXECUTION__DEFAULT_PARALLELISM": str(os.cpu_count()),
    }
    from pysail.spark import SparkConnectServer
    from pyspark.sql.connect.session import SparkSession

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    spark = SparkSession.builder.remote("sc://{}:{}".format(*server.listening_address)).create()
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    spark.conf.set("spark.sql.ansi.enabled", "true")
    return server, spark


server, spark = start_session()


# -- reading and writing -----------------------------------------------------------------------


def table(name: str) -> DataFrame:
    return spark.read.format("delta").load(f"{LAKE}/{name.replace('.', '/')}")


def save(frame: DataFrame, name: str, by: str | None = None) -> None:
    writer = frame.write.format("delta").mode("overwrite")
    if by:
        writer = writer.partitionBy(by)
    writer.save(f"{LAKE}/{name.replace('.', '/')}")


def text(name: str) -> Column:
    return F.nullif(F.trim(F.col(name)), F.lit(""))


def bronze(name: str, form: str) -> None:
    """Landing files as delivered, with the day and the file that they came in."""
    frames = []
    for day in DAYS:
        folder = f"{LANDING}/{name}/{day}"
        if not os.path.isdir(folder):
            continue
        for file in sorted(os.listdir(folder)):
            if form == "csv":
                frame = spark.read.csv(f"{folder}/{file}", header=True, inferSchema=False)
            else:
                frame = spark.read.parquet(f"{folder}/{file}")
            frames.append(
                frame.withColumns(
                    {
                        "_source_system": F.lit("snowflake" if form == "parquet" else "ecb"),
                        "_source_file": F.lit(file),
                        "_run_ts": F.lit(RUN_TS),
                        "_batch_id": F.lit(RUN_ID),
                        "_partition": F.lit(day),
                        "_arrival_date": F.lit(day).cast("date"),
                    }
                )
            )
    save(reduce(DataFrame.unionByName, frames), f"bronze.{name}", by="_arrival_date")
    check(f"bronze.{name}")


def publish(
    rows: DataFrame,
    name: str,
    rules: dict[str, Column],
    key: list[str],
    sequence: str | None,
    by: str | None = None,
    warn: dict[str, Column] | None = None,
) -> None:
    """Splits rows into the table and its quarantine by `rules` (true where broken), keeps the
    newest row of each key, and checks what is left."""
    none = F.lit(None).cast("array<string>")

    def broken(conditions: dict[str, Column]) -> Column:
        any_of = reduce(Column.__or__, [F.coalesce(c, F.lit(False)) for c in conditions.values()])
        names = F.array(*[F.when(c, F.lit(n)) for n, c in conditions.items()])
        return F.when(any_of, F.filter(names, lambda n: n.isNotNull()))

    rows = rows.withColumns(
        {"_rules": broken(rules), "_warnings": broken(warn) if warn else none}
    ).withColumn("_batch_id", F.lit(RUN_ID))
    bad = rows.where(F.col("_rules").isNotNull()).select(
        F.col("_partition").alias("partition"),
        F.col("_rules").alias("rules"),
        F.to_json("_input").alias("record")
        if "_input" in rows.columns
        else F.lit("").alias("record"),
        F.lit(RUN_ID).alias("run_id"),
        F.lit(RUN_TS).alias("quarantined_at"),
    )
    marks = [c for c in rows.columns if c.startswith("_has_")]
    good = rows.where(F.col("_rules").isNull()).drop("_rules", "_input", *marks)
    if sequence:
        good = newest(good, key, sequence)
    save(good, name, by)
    save(bad, f"quarantine.{name}")
    check(name, key)


def newest(rows: DataFrame, key: list[str], sequence: str) -> DataFrame:
    """One row per key. Few keys occur twice, and sorting all rows to find them takes longer than
    everything else together."""
    repeated = rows.groupBy(*key).count().where("count > 1").select(*key).toArrow()
    if not repeated.num_rows:
        return rows
    repeated = F.broadcast(spark.createDataFrame(repeated))
    order = Window.partitionBy(*key).orderBy(F.col(sequence).desc(), F.col("_partition"))
    several = rows.join(repeated, key, "left_semi").withColumn("_nth", F.row_number().over(order))
    once = rows.join(repeated, key, "left_anti")
    return once.unionByName(several.where("_nth = 1").drop("_nth"))


def check(name: str, key: list[str] | None = None) -> None:
    """Every day has rows, not too many are in quarantine, and keys are unique; or the job ends."""
    rows = {
        r["_partition"]: r["count"] for r in table(name).groupBy("_partition").count().collect()
    }
    bad = {}
    if not name.startswith("bronze"):
        quarantined = table(f"quarantine.{name}").groupBy("partition").count().collect()
        bad = {r["partition"]: r["count"] for r in quarantined}
    for day, n in bad.items():
        rate = n / (n + rows.get(day, 0))
        if rate > w.MAX_QUARANTINE_RATE[name.split(".")[0]]:
            raise SystemExit(f"{name} {day}: {rate:.1%} of the rows are in quarantine")
    if not rows:
        raise SystemExit(f"{name}: no rows")
    if key and table(name).groupBy(*key).count().where("count > 1").limit(1).collect():
        raise SystemExit(f"{name}: keys {key} are not unique")


def driving(name: str) -> DataFrame:
    """A bronze table with the whole original record in `_input`."""
    frame = table(name)
    record = [c for c in frame.columns if not c.startswith("_")]
    return frame.withColumn("_input", F.struct(*record, "_source_file"))


def keys_of(name: str, column: str) -> DataFrame:
    return (
        table(name)
        .select(F.col(column).alias(f"_{column}"))
        .distinct()
        .withColumn(f"_has_{column}", F.lit(True))
    )


def not_null(*names: str) -> dict[str, Column]:
    return {f"{n}_not_null": F.col(n).isNull() for n in names}


LINEAGE = ("_partition", "_arrival_date", "_input")


# -- silver ------------------------------------------------------------------------------------


def fx_rates() -> None:
    quotes = (
        driving("bronze.fx_rates")
        .where(F.coalesce(text("rate"), F.lit("")) != "N/A")
        .select(
            *LINEAGE,
            F.upper(text("ccy")).alias("ccy"),
            text("as_of_date").try_cast("date").alias("as_of_date"),
            text("rate").try_cast("decimal(18,6)").alias("rate"),
        )
    )
    dollars = (
        quotes.where("ccy = 'USD' and rate is not null")
        .groupBy(F.col("as_of_date").alias("usd_date"))
        .agg(F.max("rate").alias("usd"))
    )
    ratio = F.col("usd").cast("double") / F.when(F.col("rate") != 0, F.col("rate")).cast("double")
    rows = quotes.join(dollars, F.col("as_of_date") == F.col("usd_date"), "left").select(
        *LINEAGE,
        "ccy",
        "as_of_date",
        ratio.cast("decimal(20,10)").alias("rate_to_base"),
        F.lit("USD").alias("base_currency"),
        F.when(F.col("ccy").isin(*w.MAJOR_CURRENCIES), "major")
        .when(F.col("ccy").rlike("^[A-Z]{3}$"), "minor")
        .otherwise("exotic")
        .alias("rate_category"),
        F.col("_partition").cast("timestamp").alias("ingestion_timestamp"),
    )
    delivered_rate = F.trim(F.coalesce("_input.rate", F.lit("")))
    delivered_date = F.trim(F.coalesce("_input.as_of_date", F.lit("")))
    rules = not_null("ccy", "as_of_date", "rate_to_base") | {
        "as_of_date_type": (delivered_date != "") & F.col("as_of_date").isNull(),
        "rate_to_base_type": (delivered_rate != "") & F.col("rate_to_base").isNull(),
        "ccy_accepted_values": ~F.col("ccy").isin(*w.CURRENCIES),
        "rate_to_base_positive": ~(F.col("rate_to_base") > 0),
    }
    warn = {"rate_to_base_plausible": F.col("rate_to_base") > 1000}
    publish(rows, "silver.fx_rates", rules, ["ccy", "as_of_date"], "ingestion_timestamp", warn=warn)


def customers() -> None:
    rows = driving("bronze.customers").select(
        *LINEAGE,
        "customer_id",
        text("name").alias("name"),
        text("address").alias("address"),
        "nation_key",
        text("country").alias("country"),
        text("region").alias("region"),
        text("phone").alias("phone"),
        F.lower(text("email")).alias("email"),
        "account_balance",
        F.upper(text("market_segment")).alias("market_segment"),
        "comment",
        "updated_at",
    )
    rules = not_null("customer_id", "name", "updated_at") | {
        "market_segment_accepted_values": ~F.col("market_segment").isin(*w.SEGMENTS)
    }
    warn = {"email_pattern": ~F.col("email").rlike(w.EMAIL)}
    publish(rows, "silver.customers", rules, ["customer_id", "updated_at"], "updated_at", warn=warn)


def products() -> None:
    rows = driving("bronze.products").select(
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
    rules = not_null("product_id", "name", "category", "updated_at") | {
        "price_range": F.col("price") < 0
    }
    publish(rows, "silver.products", rules, ["product_id"], "updated_at")


def rate_by_day() -> DataFrame:
    """Each quotation on the days that it holds for: until the next one, at most CARRY_DAYS on."""
    offsets = spark.range(w.CARRY_DAYS + 1).select(F.col("id").cast("int").alias("offset"))
    days = (
        table("silver.fx_rates")
        .select(F.col("ccy").alias("_ccy"), "as_of_date", "rate_to_base")
        .crossJoin(offsets)
        .withColumn("_day", F.date_add("as_of_date", F.col("offset")))
    )
    nearest = Window.partitionBy("_ccy", "_day").orderBy(F.col("as_of_date").desc())
    return (
        days.withColumn("n", F.row_number().over(nearest))
        .where("n = 1")
        .select(
            "_ccy",
            "_day",
            F.col("rate_to_base").alias("usd_rate"),
            F.col("as_of_date").alias("rate_date"),
        )
    )


def in_usd(amount: Column) -> Column:
    return (amount * F.col("usd_rate").cast("decimal(19,10)")).cast("decimal(18,2)")


def orders() -> None:
    status = (
        F.when(F.col("status") == "O", "PLACED")
        .when(F.col("status") == "P", "PAID")
        .when(F.col("status") == "F", "SHIPPED")
        .otherwise(F.col("status"))
    )
    amount = F.col("total_price").cast("decimal(18,2)")
    rows = (
        driving("bronze.orders")
        .withColumn("currency", F.upper(text("currency")))
        .join(
            F.broadcast(rate_by_day()),
            (F.col("currency") == F.col("_ccy")) & (F.col("order_date") == F.col("_day")),
            "left",
        )
        .join(
            keys_of("silver.customers", "customer_id"),
            F.col("customer_id") == F.col("_customer_id"),
            "left",
        )
        .select(
            *LINEAGE,
            "order_id",
            "customer_id",
            "order_date",
            status.alias("order_status"),
            amount.alias("total_amount"),
            "currency",
            "usd_rate",
            "rate_date",
            in_usd(amount).alias("amount_usd"),
            "priority",
            "clerk",
            "ship_priority",
            "comment",
            "updated_at",
            "_has_customer_id",
        )
    )
    required = ("order_id", "customer_id", "order_date", "order_status", "total_amount", "currency")
    rules = not_null(*required, "usd_rate", "updated_at") | {
        "customer_id_reference": F.col("customer_id").isNotNull()
        & F.col("_has_customer_id").isNull(),
        "order_status_accepted_values": ~F.col("order_status").isin("PLACED", "PAID", "SHIPPED"),
        "total_amount_range": F.col("total_amount") < 0,
        "currency_accepted_values": ~F.col("currency").isin(*w.CURRENCIES),
    }
    warn = {"total_amount_plausible": F.col("total_amount") > 1_000_000}
    publish(rows, "silver.orders", rules, ["order_id"], "updated_at", by="_arrival_date", warn=warn)


def line_items() -> None:
    net = F.col("extended_price") * (F.lit(1) - F.col("discount"))
    rows = (
        driving("bronze.line_items")
        .join(keys_of("silver.orders", "order_id"), F.col("order_id") == F.col("_order_id"), "left")
        .join(
            keys_of("silver.products", "product_id"),
            F.col("part_id") == F.col("_product_id"),
            "left",
        )
        .select(
            *LINEAGE,
            "order_id",
            "line_number",
            F.col("part_id").alias("product_id"),
            "supplier_id",
            "quantity",
            "extended_price",
            "discount",
            "tax",
            net.cast("decimal(18,2)").alias("net_amount"),
            "return_flag",
            "line_status",
            "ship_date",
            "commit_date",
            "receipt_date",
            "ship_instruct",
            "ship_mode",
            "comment",
            "updated_at",
            "_has_order_id",
            "_has_product_id",
        )
    )
    required = ("order_id", "line_number", "product_id", "quantity", "extended_price", "updated_at")
    rules = not_null(*required) | {
        "order_id_reference": F.col("order_id").isNotNull() & F.col("_has_order_id").isNull(),
        "product_id_reference": F.col("product_id").isNotNull() & F.col("_has_product_id").isNull(),
        "quantity_range": F.col("quantity") <= 0,
        "extended_price_range": F.col("extended_price") < 0,
        "discount_range": ~F.col("discount").between(0, 1),
        "tax_range": ~F.col("tax").between(0, 1),
        "return_flag_accepted_values": ~F.col("return_flag").isin("R", "A", "N"),
    }
    publish(
        rows, "silver.line_items", rules, ["order_id", "line_number"], "updated_at",
        by="_arrival_date",
    )  # fmt: skip


# -- gold --------------------------------------------------------------------------------------


def dim_customer() -> None:
    versions = Window.partitionBy("customer_id").orderBy("updated_at")
    valid_to = F.lead("updated_at").over(versions)
    attributes = ("name", "email", "phone", "address", "country", "region", "market_segment")
    members = table("silver.customers").select(
        F.xxhash64("customer_id", "updated_at").alias("customer_sk"),
        "customer_id",
        *attributes,
        F.col("updated_at").alias("valid_from"),
        valid_to.alias("valid_to"),
        valid_to.isNull().alias("is_current"),
        "_partition",
        "_arrival_date",
    )
    unknown = {
        "customer_sk": F.lit(0).cast("bigint"),
        "customer_id": F.lit(0).cast("bigint"),
        "name": F.lit("Unknown"),
        "valid_from": F.lit("1900-01-01 00:00:00").cast("timestamp"),
        "is_current": F.lit(True),
        "_partition": F.lit(DAYS[0]),
        "_arrival_date": F.lit(DAYS[0]).cast("date"),
    }
    types = dict(members.dtypes)
    one = spark.range(1).select(
        *[unknown.get(n, F.lit(None).cast(types[n])).alias(n) for n in members.columns]
    )
    rules = not_null("customer_sk", "customer_id", "valid_from")
    publish(
        members.unionByName(one), "gold.dim_customer", rules, ["customer_id", "valid_from"], None
    )


def dim_product() -> None:
    members = table("silver.products").select(
        F.xxhash64("product_id").alias("product_sk"),
        "product_id",
        "name",
        "category",
        "brand",
        "price",
        "updated_at",
        "_partition",
        "_arrival_date",
    )
    unknown = {
        "product_sk": F.lit(0).cast("bigint"),
        "product_id": F.lit(0).cast("bigint"),
        "name": F.lit("Unknown"),
        "category": F.lit("UNKNOWN"),
        "updated_at": F.lit("1900-01-01 00:00:00").cast("timestamp"),
        "_partition": F.lit(DAYS[0]),
        "_arrival_date": F.lit(DAYS[0]).cast("date"),
    }
    types = dict(members.dtypes)
    one = spark.range(1).select(
        *[unknown.get(n, F.lit(None).cast(types[n])).alias(n) for n in members.columns]
    )
    rules = not_null("product_sk", "product_id", "updated_at")
    publish(members.unionByName(one), "gold.dim_product", rules, ["product_id"], None)


def fact_sales() -> None:
    customer = table("gold.dim_customer").select(
        F.col("customer_id").alias("c_id"), "customer_sk", "valid_from", "valid_to"
    )
    product = table("gold.dim_product").select(F.col("product_id").alias("p_id"), "product_sk")
    ordered_at = F.col("order_date").cast("timestamp")
    order = (
        table("silver.orders")
        .join(
            customer,
            (F.col("customer_id") == F.col("c_id"))
            & (F.col("valid_from") <= ordered_at)
            & (F.col("valid_to").isNull() | (F.col("valid_to") > ordered_at)),
            "left",
        )
        .select(
            F.col("order_id").alias("o_id"), "customer_id", "order_date", "usd_rate", "customer_sk"
        )
    )
    lines = table("silver.line_items").select(
        "order_id",
        "line_number",
        "product_id",
        "quantity",
        "net_amount",
        "return_flag",
        "updated_at",
        "_partition",
        "_arrival_date",
    )
    date_sk = (
        F.year("order_date") * 10000 + F.month("order_date") * 100 + F.dayofmonth("order_date")
    )
    unknown = F.lit(0).cast("bigint")
    rows = (
        lines.join(order, F.col("order_id") == F.col("o_id"), "left")
        .join(F.broadcast(product), F.col("product_id") == F.col("p_id"), "left")
        .select(
            F.coalesce("customer_sk", unknown).alias("customer_sk"),
            F.coalesce("product_sk", unknown).alias("product_sk"),
            F.coalesce(date_sk, F.lit(0)).cast("int").alias("date_sk"),
            "order_id",
            "line_number",
            "customer_id",
            "product_id",
            "order_date",
            "quantity",
            in_usd(F.col("net_amount")).alias("amount_usd"),
            (F.coalesce("return_flag", F.lit("N")) == "R").alias("is_returned"),
            "updated_at",
            "_partition",
            "_arrival_date",
        )
    )
    required = (
        "customer_sk", "product_sk", "date_sk", "order_id", "line_number", "customer_id",
        "product_id", "order_date", "quantity", "amount_usd", "is_returned", "updated_at",
    )  # fmt: skip
    rules = not_null(*required) | {"amount_usd_range": ~F.col("amount_usd").between(0, 1_000_000)}
    publish(rows, "gold.fact_sales", rules, ["order_id", "line_number"], None, by="order_date")


def product_perf_daily() -> None:
    amount = F.col("amount_usd")
    rows = (
        table("gold.fact_sales")
        .groupBy(F.col("order_date").alias("date"), "product_id")
        .agg(
            F.max("_partition").alias("_partition"),
            F.countDistinct("order_id").alias("order_count"),
            F.sum("quantity").cast("decimal(18,2)").alias("total_quantity"),
            F.sum(amount).cast("decimal(18,2)").alias("revenue_usd"),
            (F.round((F.sum(amount) * 100).cast("double") / F.count("*")).cast("bigint") / 100)
            .cast("decimal(18,2)")
            .alias("avg_order_value_usd"),
            F.max(amount).alias("max_order_value_usd"),
            F.min(amount).alias("min_order_value_usd"),
            F.countDistinct("customer_id").alias("unique_customers"),
        )
        .join(
            keys_of("silver.products", "product_id"),
            F.col("product_id") == F.col("_product_id"),
            "left",
        )
    )
    required = ("date", "product_id", "order_count", "total_quantity", "revenue_usd")
    rules = not_null(*required, "unique_customers") | {
        "product_id_reference": F.col("product_id").isNotNull() & F.col("_has_product_id").isNull(),
        "revenue_usd_range": F.col("revenue_usd") < 0,
    }
    publish(rows, "gold.product_perf_daily", rules, ["date", "product_id"], None, by="date")


for name in w.DATASETS:
    bronze(name, "csv" if name == "fx_rates" else "parquet")
for step in (fx_rates, customers, products, orders, line_items):
    step()
for step in (dim_customer, dim_product, fact_sales, product_perf_daily):
    step()
spark.stop()
server.stop()
