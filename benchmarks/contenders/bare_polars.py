"""The workload as a bare Polars and delta-rs script: what one would write by hand for one machine.

Belongs here: the same reads, transforms, checks, quarantine and Delta writes as the platform's
tables. Does not belong here: anything of the platform; the script knows nothing of contracts.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path

import polars as pl

from benchmarks import workload as w

LANDING, LAKE, DAYS = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
RUN_ID, RUN_TS = "bare", dt.datetime.now(dt.UTC)
NO_TIME = dt.datetime(1900, 1, 1, tzinfo=dt.UTC)
CENT = pl.Decimal(18, 2)


# -- reading and writing -----------------------------------------------------------------------


def scan(name: str) -> pl.LazyFrame:
    return pl.scan_delta(str(LAKE / name.replace(".", "/")))


def save(frame: pl.DataFrame, name: str, by: str | None = None) -> None:
    frame.write_delta(
        str(LAKE / name.replace(".", "/")),
        mode="overwrite",
        delta_write_options={"partition_by": [by]} if by else None,
    )


def text(name: str) -> pl.Expr:
    trimmed = pl.col(name).str.strip_chars(" ")
    return pl.when(trimmed != "").then(trimmed)


def bronze(name: str) -> None:
    """Landing files as delivered, with the day and the file that they came in."""
    files = [f for day in DAYS for f in sorted((LANDING / name / day).glob("*"))]
    if name == "fx_rates":
        frames = pl.scan_csv(files, infer_schema=False, include_file_paths="_path")
        system = "ecb"
    else:
        frames = pl.scan_parquet(files, include_file_paths="_path")
        system = "snowflake"
    parts = pl.col("_path").str.split("/").list
    day = parts.get(-2)
    frame = frames.with_columns(
        pl.lit(system).alias("_source_system"),
        parts.get(-1).alias("_source_file"),
        pl.lit(RUN_TS).alias("_run_ts"),
        pl.lit(RUN_ID).alias("_batch_id"),
        day.alias("_partition"),
        day.str.to_date().alias("_arrival_date"),
    ).drop("_path")
    save(frame.collect(), f"bronze.{name}", by="_arrival_date")
    check(f"bronze.{name}")


def publish(
    rows: pl.LazyFrame,
    name: str,
    rules: dict[str, pl.Expr],
    key: list[str],
    sequence: str | None,
    by: str | None = None,
    warn: dict[str, pl.Expr] | None = None,
    record: list[str] | None = None,
) -> None:
    """Splits rows into the table and its quarantine by `rules` (true where broken), keeps the
    newest row of each key, and checks what is left."""
    any_broken = pl.any_horizontal(c.fill_null(value=False) for c in rules.values())
    columns = rows.collect_schema().names()
    source = [c for c in columns if c.startswith("_in_")]
    frame = rows.with_columns(
        any_broken.alias("_broken"),
        named(warn).alias("_warnings")
        if warn
        else pl.lit(None, pl.List(pl.String)).alias("_warnings"),
        pl.lit(RUN_ID).alias("_batch_id"),
    ).collect()
    bad = frame.filter("_broken").select(
        pl.col("_partition").alias("partition"),
        named(rules).alias("rules"),
        pl.struct(*[pl.col(c).cast(pl.String).alias(c.removeprefix("_in_")) for c in source])
        .map_elements(json.dumps, return_dtype=pl.String)
        .alias("record")
        if source
        else pl.lit("").alias("record"),
        pl.lit(RUN_ID).alias("run_id"),
        pl.lit(RUN_TS).alias("quarantined_at"),
    )
    marks = [c for c in columns if c.startswith("_has_")]
    good = frame.filter(~pl.col("_broken")).drop("_broken", *source, *marks)
    del frame
    if sequence:
        repeated = good.select(key).is_duplicated()
        several = good.filter(repeated).sort(sequence, descending=True)
        several = several.unique(key, keep="first", maintain_order=True)
        good = pl.concat([good.filter(~repeated), several])
    save(good, name, by)
    save(bad, f"quarantine.{name}")
    del good, bad
    check(name, key)


def named(conditions: dict[str, pl.Expr]) -> pl.Expr:
    """The names of the conditions that are true, as a list."""
    names = [pl.when(c).then(pl.lit(n)) for n, c in conditions.items()]
    return pl.concat_list(names).list.drop_nulls()


def check(name: str, key: list[str] | None = None) -> None:
    """Every day has rows, not too many are in quarantine, and keys are unique; or the job ends."""
    rows = dict(scan(name).group_by("_partition").len().collect().iter_rows())
    bad: dict[str, int] = {}
    if not name.startswith("bronze"):
        bad = dict(scan(f"quarantine.{name}").group_by("partition").len().collect().iter_rows())
    for day, n in bad.items():
        rate = n / (n + rows.get(day, 0))
        if rate > w.MAX_QUARANTINE_RATE[name.split(".")[0]]:
            raise SystemExit(f"{name} {day}: {rate:.1%} of the rows are in quarantine")
    if not rows:
        raise SystemExit(f"{name}: no rows")
    if key and scan(name).select(key).collect().is_duplicated().any():
        raise SystemExit(f"{name}: keys {key} are not unique")


def driving(name: str) -> pl.LazyFrame:
    """A bronze table, with the columns of its original record twice: as `_in_<name>` too."""
    frame = scan(name).drop("_run_ts", "_batch_id", "_source_system")
    record = [c for c in frame.collect_schema().names() if not c.startswith("_")]
    return frame.with_columns(pl.col(c).alias(f"_in_{c}") for c in [*record, "_source_file"])


def marked(frame: pl.LazyFrame, on: str, name: str, column: str) -> pl.LazyFrame:
    """Adds `_has_<column>`: whether the table has the value of `on` in `column`."""
    keys = scan(name).select(pl.col(column).alias(on)).unique()
    keys = keys.with_columns(pl.lit(value=True).alias(f"_has_{column}"))
    return frame.join(keys, on=on, how="left")


def not_null(*names: str) -> dict[str, pl.Expr]:
    return {f"{n}_not_null": pl.col(n).is_null() for n in names}


LINEAGE = (pl.col("_partition"), pl.col("_arrival_date"), pl.col("^_in_.*$"))


# -- silver ------------------------------------------------------------------------------------


def fx_rates() -> None:
    quotes = (
        driving("bronze.fx_rates")
        .filter(text("rate").fill_null("") != "N/A")
        .select(
            *LINEAGE,
            text("ccy").str.to_uppercase().alias("ccy"),
            text("as_of_date").str.to_date("%Y-%m-%d", strict=False).alias("as_of_date"),
            text("rate").cast(pl.Decimal(18, 6), strict=False).alias("rate"),
        )
    )
    dollars = (
        quotes.filter((pl.col("ccy") == "USD") & pl.col("rate").is_not_null())
        .group_by("as_of_date")
        .agg(pl.col("rate").max().alias("usd"))
    )
    divisor = pl.when(pl.col("rate") != 0).then(pl.col("rate")).cast(pl.Float64)
    ratio = (pl.col("usd").cast(pl.Float64) / divisor).round(10).cast(pl.Decimal(20, 10))
    currency = pl.col("ccy")
    category = (
        pl.when(currency.is_in(w.MAJOR_CURRENCIES))
        .then(pl.lit("major"))
        .when(currency.str.contains("^[A-Z]{3}$"))
        .then(pl.lit("minor"))
        .otherwise(pl.lit("exotic"))
    )
    rows = quotes.join(dollars, on="as_of_date", how="left").select(
        *LINEAGE,
        "ccy",
        "as_of_date",
        ratio.alias("rate_to_base"),
        pl.lit("USD").alias("base_currency"),
        category.alias("rate_category"),
        pl.col("_partition")
        .str.to_datetime("%Y-%m-%d", time_unit="us", time_zone="UTC")
        .alias("ingestion_timestamp"),
    )
    delivered_rate = pl.col("_in_rate").fill_null("").str.strip_chars(" ")
    delivered_date = pl.col("_in_as_of_date").fill_null("").str.strip_chars(" ")
    rules = not_null("ccy", "as_of_date", "rate_to_base") | {
        "as_of_date_type": (delivered_date != "") & pl.col("as_of_date").is_null(),
        "rate_to_base_type": (delivered_rate != "") & pl.col("rate_to_base").is_null(),
        "ccy_accepted_values": ~currency.is_in(w.CURRENCIES),
        "rate_to_base_positive": ~(pl.col("rate_to_base") > 0),
    }
    warn = {"rate_to_base_plausible": pl.col("rate_to_base") > 1000}
    key = ["ccy", "as_of_date"]
    publish(rows, "silver.fx_rates", rules, key, "ingestion_timestamp", warn=warn)


def customers() -> None:
    rows = driving("bronze.customers").select(
        *LINEAGE,
        "customer_id",
        *[text(n).alias(n) for n in ("name", "address", "country", "region", "phone")],
        "nation_key",
        text("email").str.to_lowercase().alias("email"),
        "account_balance",
        text("market_segment").str.to_uppercase().alias("market_segment"),
        "comment",
        "updated_at",
    )
    rules = not_null("customer_id", "name", "updated_at") | {
        "market_segment_accepted_values": ~pl.col("market_segment").is_in(w.SEGMENTS)
    }
    warn = {"email_pattern": ~pl.col("email").str.contains(w.EMAIL)}
    key = ["customer_id", "updated_at"]
    publish(rows, "silver.customers", rules, key, "updated_at", warn=warn)


def products() -> None:
    rows = driving("bronze.products").select(
        *LINEAGE,
        pl.col("part_id").alias("product_id"),
        *[text(n).alias(n) for n in ("name", "manufacturer", "brand")],
        text("category").fill_null("UNKNOWN").alias("category"),
        "size",
        "container",
        pl.col("retail_price").alias("price"),
        "comment",
        "updated_at",
    )
    rules = not_null("product_id", "name", "category", "updated_at") | {
        "price_range": pl.col("price") < 0
    }
    publish(rows, "silver.products", rules, ["product_id"], "updated_at")


def rate_by_day() -> pl.LazyFrame:
    """Each quotation on the days that it holds for: until the next one, at most CARRY_DAYS on."""
    offsets = pl.LazyFrame({"offset": range(w.CARRY_DAYS + 1)})
    return (
        scan("silver.fx_rates")
        .select(
            pl.col("ccy").alias("currency"),
            pl.col("as_of_date").alias("rate_date"),
            pl.col("rate_to_base").alias("usd_rate"),
        )
        .join(offsets, how="cross")
        .with_columns(
            (pl.col("rate_date") + pl.duration(days="offset")).cast(pl.Date).alias("order_date")
        )
        .sort("rate_date")
        .group_by("currency", "order_date")
        .agg(pl.col("usd_rate").last(), pl.col("rate_date").last())
    )


def cents(amount: str, by: pl.Expr, scale: int) -> pl.Expr:
    """A decimal(_, 2) times a decimal with `scale` digits, to the cent, rounded half up. In whole
    numbers: the product of two Decimals keeps too few digits."""
    whole = pl.col(amount).cast(pl.Decimal(38, 2)).to_physical() * by.cast(pl.Int128)
    half = pl.lit(10**scale // 2, pl.Int128)
    rounded = whole.sign() * ((whole.abs() + half) // pl.lit(10**scale, pl.Int128))
    return rounded.cast(pl.Decimal(38, 0)).cast(pl.Decimal(38, 2)) / 100


def orders() -> None:
    status = pl.col("status").replace({"O": "PLACED", "P": "PAID", "F": "SHIPPED"})
    rows = (
        driving("bronze.orders")
        .with_columns(text("currency").str.to_uppercase().alias("currency"))
        .join(rate_by_day(), on=["currency", "order_date"], how="left")
    )
    rows = marked(rows, "customer_id", "silver.customers", "customer_id").select(
        *LINEAGE,
        "order_id",
        "customer_id",
        "order_date",
        status.alias("order_status"),
        pl.col("total_price").cast(CENT).alias("total_amount"),
        "currency",
        "usd_rate",
        "rate_date",
        in_usd("total_price").alias("amount_usd"),
        "priority",
        "clerk",
        "ship_priority",
        "comment",
        "updated_at",
        "_has_customer_id",
    )
    required = ("order_id", "customer_id", "order_date", "order_status", "total_amount", "currency")
    rules = not_null(*required, "usd_rate", "updated_at") | {
        "customer_id_reference": pl.col("customer_id").is_not_null()
        & pl.col("_has_customer_id").is_null(),
        "order_status_accepted_values": ~pl.col("order_status").is_in(
            ["PLACED", "PAID", "SHIPPED"]
        ),
        "total_amount_range": pl.col("total_amount") < 0,
        "currency_accepted_values": ~pl.col("currency").is_in(w.CURRENCIES),
    }
    warn = {"total_amount_plausible": pl.col("total_amount") > 1_000_000}
    publish(rows, "silver.orders", rules, ["order_id"], "updated_at", by="_arrival_date", warn=warn)


def in_usd(amount: str) -> pl.Expr:
    return cents(amount, pl.col("usd_rate").to_physical(), 10)


def line_items() -> None:
    share = 100 - pl.col("discount").to_physical()
    rows = marked(driving("bronze.line_items"), "order_id", "silver.orders", "order_id")
    rows = rows.rename({"part_id": "product_id"})
    rows = marked(rows, "product_id", "silver.products", "product_id").select(
        *LINEAGE,
        "order_id",
        "line_number",
        "product_id",
        "supplier_id",
        "quantity",
        "extended_price",
        "discount",
        "tax",
        cents("extended_price", share, 2).cast(CENT).alias("net_amount"),
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
    required = ("order_id", "line_number", "product_id", "quantity", "extended_price", "updated_at")
    rules = not_null(*required) | {
        "order_id_reference": pl.col("order_id").is_not_null() & pl.col("_has_order_id").is_null(),
        "product_id_reference": pl.col("product_id").is_not_null()
        & pl.col("_has_product_id").is_null(),
        "quantity_range": pl.col("quantity") <= 0,
        "extended_price_range": pl.col("extended_price") < 0,
        "discount_range": ~pl.col("discount").is_between(0, 1),
        "tax_range": ~pl.col("tax").is_between(0, 1),
        "return_flag_accepted_values": ~pl.col("return_flag").is_in(["R", "A", "N"]),
    }
    key = ["order_id", "line_number"]
    publish(rows, "silver.line_items", rules, key, "updated_at", by="_arrival_date")


# -- gold --------------------------------------------------------------------------------------


def with_unknown(members: pl.LazyFrame, unknown: dict[str, object]) -> pl.LazyFrame:
    """The members and the row that stands for what is not known."""
    schema = members.collect_schema()
    values = {n: [unknown.get(n)] for n in schema.names()}
    return pl.concat([members, pl.LazyFrame(values, schema=schema)])


def dim_customer() -> None:
    valid_to = pl.col("updated_at").shift(-1).over("customer_id", order_by="updated_at")
    attributes = ("name", "email", "phone", "address", "country", "region", "market_segment")
    members = scan("silver.customers").select(
        pl.struct("customer_id", "updated_at").hash().reinterpret(signed=True).alias("customer_sk"),
        "customer_id",
        *attributes,
        pl.col("updated_at").alias("valid_from"),
        valid_to.alias("valid_to"),
        valid_to.is_null().alias("is_current"),
        "_partition",
        "_arrival_date",
    )
    unknown = {
        "customer_sk": 0,
        "customer_id": 0,
        "name": "Unknown",
        "valid_from": NO_TIME,
        "is_current": True,
        "_partition": DAYS[0],
        "_arrival_date": dt.date.fromisoformat(DAYS[0]),
    }
    rules = not_null("customer_sk", "customer_id", "valid_from")
    key = ["customer_id", "valid_from"]
    publish(with_unknown(members, unknown), "gold.dim_customer", rules, key, None)


def dim_product() -> None:
    members = scan("silver.products").select(
        pl.struct("product_id").hash().reinterpret(signed=True).alias("product_sk"),
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
        "product_sk": 0,
        "product_id": 0,
        "name": "Unknown",
        "category": "UNKNOWN",
        "updated_at": NO_TIME,
        "_partition": DAYS[0],
        "_arrival_date": dt.date.fromisoformat(DAYS[0]),
    }
    rules = not_null("product_sk", "product_id", "updated_at")
    publish(with_unknown(members, unknown), "gold.dim_product", rules, ["product_id"], None)


def fact_sales() -> None:
    customer = scan("gold.dim_customer").select(
        "customer_id", "customer_sk", "valid_from", "valid_to"
    )
    product = scan("gold.dim_product").select("product_id", "product_sk")
    ordered_at = pl.col("order_date").cast(pl.Datetime("us", "UTC"))
    valid = (pl.col("valid_from") <= ordered_at) & (
        pl.col("valid_to").is_null() | (pl.col("valid_to") > ordered_at)
    )
    order = scan("silver.orders").select("order_id", "customer_id", "order_date", "usd_rate")
    version = order.join(customer, on="customer_id").filter(valid).select("order_id", "customer_sk")
    order = order.join(version, on="order_id", how="left")
    date = pl.col("order_date").dt
    date_sk = date.year() * 10000 + date.month().cast(pl.Int32) * 100 + date.day()
    rows = (
        scan("silver.line_items")
        .join(order, on="order_id", how="left")
        .join(product, on="product_id", how="left")
        .select(
            pl.col("customer_sk").fill_null(0),
            pl.col("product_sk").fill_null(0),
            date_sk.fill_null(0).cast(pl.Int32).alias("date_sk"),
            "order_id",
            "line_number",
            "customer_id",
            "product_id",
            "order_date",
            "quantity",
            in_usd("net_amount").cast(CENT).alias("amount_usd"),
            (pl.col("return_flag").fill_null("N") == "R").alias("is_returned"),
            "updated_at",
            "_partition",
            "_arrival_date",
        )
    )
    required = (
        "customer_sk", "product_sk", "date_sk", "order_id", "line_number", "customer_id",
        "product_id", "order_date", "quantity", "amount_usd", "is_returned", "updated_at",
    )  # fmt: skip
    rules = not_null(*required) | {
        "amount_usd_range": ~pl.col("amount_usd").is_between(0, 1_000_000)
    }
    publish(rows, "gold.fact_sales", rules, ["order_id", "line_number"], None, by="order_date")


def product_perf_daily() -> None:
    amount = pl.col("amount_usd")
    average = amount.to_physical().sum().cast(pl.Float64) / pl.len()
    rows = (
        scan("gold.fact_sales")
        .group_by(pl.col("order_date").alias("date"), "product_id")
        .agg(
            pl.col("_partition").max(),
            pl.col("order_id").n_unique().cast(pl.Int64).alias("order_count"),
            pl.col("quantity").sum().cast(CENT).alias("total_quantity"),
            amount.sum().cast(CENT).alias("revenue_usd"),
            average.round(mode="half_away_from_zero").alias("_average"),
            amount.max().alias("max_order_value_usd"),
            amount.min().alias("min_order_value_usd"),
            pl.col("customer_id").n_unique().cast(pl.Int64).alias("unique_customers"),
        )
        .with_columns(
            (pl.col("_average").cast(pl.Decimal(18, 0)).cast(pl.Decimal(38, 2)) / 100)
            .cast(CENT)
            .alias("avg_order_value_usd")
        )
        .drop("_average")
    )
    rows = marked(rows, "product_id", "silver.products", "product_id")
    required = ("date", "product_id", "order_count", "total_quantity", "revenue_usd")
    rules = not_null(*required, "unique_customers") | {
        "product_id_reference": pl.col("product_id").is_not_null()
        & pl.col("_has_product_id").is_null(),
        "revenue_usd_range": pl.col("revenue_usd") < 0,
    }
    publish(rows, "gold.product_perf_daily", rules, ["date", "product_id"], None, by="date")


for name in w.DATASETS:
    bronze(name)
for step in (fx_rates, customers, products, orders, line_items):
    step()
for step in (dim_customer, dim_product, fact_sales, product_perf_daily):
    step()
