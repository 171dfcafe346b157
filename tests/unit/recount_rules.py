"""When a delivered row is wrong, said once more in SQL, for the recount of the answer sheet.

Here: per table its typed columns, its key, and what breaks a rule. Not here: counting
(`recount.py`). Nothing is imported from the platform.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CURRENCIES = """
    'USD', 'JPY', 'BGN', 'CYP', 'CZK', 'DKK', 'EEK', 'GBP', 'HUF', 'LTL', 'LVL', 'MTL',
    'PLN', 'ROL', 'RON', 'SEK', 'SIT', 'SKK', 'CHF', 'ISK', 'NOK', 'HRK', 'RUB', 'TRL',
    'TRY', 'AUD', 'BRL', 'CAD', 'CNY', 'HKD', 'IDR', 'ILS', 'INR', 'KRW', 'MXN', 'MYR',
    'NZD', 'PHP', 'SGD', 'THB', 'ZAR', 'EUR'"""
EMAIL = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"


@dataclass(frozen=True)
class Table:
    """How to type a table's text columns, and when a row breaks a rule (SQL, true where broken)."""

    columns: dict[str, str]
    key: str
    sequence: str
    errors: dict[str, str]
    warnings: dict[str, str] = field(default_factory=dict)
    filtered: str = "false"


def _is_null(*columns: str) -> dict[str, str]:
    return {f"{column}_not_null": f"{column} is null" for column in columns}


def _uncast(**sources: str) -> dict[str, str]:
    return {f"{c}_type": f"r.{source} is not null and {c} is null" for c, source in sources.items()}


def _no_parent(column: str, parent: str) -> dict[str, str]:
    broken = f"{column} is not null and {column} not in (select {column} from valid_{parent})"
    return {f"{column}_reference": broken}


def _far(column: str) -> dict[str, str]:
    """Beyond a day after or ten years before the day of arrival."""
    days = f"{column}::date - r._partition[:10]::date"
    return {f"{column}_age": f"{days} not between -3653 and 1"}


POSITION = "coalesce(r.change_seq, '1') || (r.Op <> 'D')::int"
NO_RATE = """not exists (select 1 from valid_fx_rates f where f.ccy = currency
    and f.as_of_date between received_at::date - 5 and received_at::date)"""

TABLES = {
    "fx_rates": Table(
        {
            "ccy": "r.ccy",
            "as_of_date": "try_cast(r.as_of_date as date)",
            # To US dollars, by the dollar's quotation of the same day.
            "rate_to_base": """(select min(try_cast(u.rate as double)) from raw_fx_rates u
                where u.ccy = 'USD' and u.as_of_date = r.as_of_date)
                / try_cast(r.rate as double)""",
            "arrival": "r._partition",
        },
        "ccy, as_of_date",
        "arrival",
        _is_null("ccy", "as_of_date", "rate_to_base")
        | _uncast(as_of_date="as_of_date", rate_to_base="rate")
        | {
            "ccy_accepted_values": f"ccy not in ({CURRENCIES})",
            "rate_to_base_positive": "rate_to_base <= 0",
        },
        _far("as_of_date"),
        filtered="r.rate = 'N/A'",
    ),
    "customers": Table(
        {
            "customer_id": "r.customer_id::bigint",
            "updated_at": "r.updated_at::timestamp",
            "position": "case when r.updated_at is not null then '0' end",
        },
        "customer_id, updated_at",
        "position",
        _is_null("customer_id", "updated_at", "position")
        | {
            "name_not_null": "r.name is null",
            "market_segment_accepted_values": """r.market_segment not in
                ('AUTOMOBILE', 'BUILDING', 'FURNITURE', 'HOUSEHOLD', 'MACHINERY')""",
        },
        {"email_pattern": f"not regexp_matches(r.email, '{EMAIL}')"},
    ),
    # Of one moment a change in the database counts more than what the warehouse exports.
    "customer_changes": Table(
        {
            "customer_id": "r.customer_id::bigint",
            "updated_at": "try_cast(r.commit_ts as timestamp)",
            "position": POSITION,
        },
        "customer_id, updated_at",
        "position",
        _is_null("customer_id", "updated_at", "position")
        | {"name_not_null": "r.name is null", "op_accepted_values": "r.Op not in ('I', 'U', 'D')"},
    ),
    "addresses": Table(
        {
            "address_id": "r.address_id::bigint",
            "customer_id": "r.customer_id::bigint",
            "updated_at": "try_cast(r.commit_ts as timestamp)",
            "position": POSITION,
        },
        "address_id",
        "position",
        _is_null("address_id", "customer_id", "updated_at", "position")
        | _uncast(updated_at="commit_ts")
        | {"op_accepted_values": "r.Op not in ('I', 'U', 'D')"},
    ),
    "loyalty_accounts": Table(
        {
            "loyalty_id": "r.loyalty_id::bigint",
            "customer_id": "r.customer_id::bigint",
            "tier": "r.tier",
            "valid_from": "try_cast(r.commit_ts as timestamp)",
            "position": POSITION,
        },
        "loyalty_id, valid_from",
        "position",
        _is_null("loyalty_id", "customer_id", "tier", "valid_from")
        | _uncast(valid_from="commit_ts")
        | {
            "op_accepted_values": "r.Op not in ('I', 'U', 'D')",
            "tier_accepted_values": "tier not in ('BRONZE', 'SILVER', 'GOLD', 'PLATINUM')",
        },
        # What the same transaction changes again is left out.
        filtered="""position < max(position) over
            (partition by loyalty_id, r.commit_ts, r._partition)""",
    ),
    "products": Table(
        {"product_id": "r.part_id::bigint", "updated_at": "r.updated_at::timestamp"},
        "product_id",
        "updated_at",
        _is_null("product_id", "updated_at")
        | {"name_not_null": "r.name is null", "price_range": "r.retail_price::decimal(15,2) < 0"},
    ),
    "price_lists": Table(
        {
            "vendor": "r.vendor",
            "product_id": "try_cast(r.part_id as bigint)",
            "valid_from": "try_cast(r.valid_from as date)",
            "price": "try_cast(r.price as decimal(15,2))",
            "currency": "r.currency",
            "received_at": "try_cast(r.received_at as timestamp)",
        },
        "vendor, product_id, valid_from",
        "received_at",
        _is_null("vendor", "product_id", "valid_from", "price", "currency", "received_at")
        | _uncast(product_id="part_id", valid_from="valid_from", price="price")
        | _no_parent("product_id", "products")
        | {
            "price_range": "price <= 0",
            "currency_accepted_values": f"currency not in ({CURRENCIES})",
            "usd_rate_not_null": NO_RATE,
            "price_usd_not_null": f"price is null or {NO_RATE}",
        },
    ),
    "orders": Table(
        {
            "order_id": "r.order_id::bigint",
            "customer_id": "r.customer_id::bigint",
            "order_date": "r.order_date::date",
            "total_amount": "r.total_price::decimal(15,2)",
            "currency": "r.currency",
            "updated_at": "r.updated_at::timestamp",
        },
        "order_id",
        "updated_at",
        _is_null("order_id", "customer_id", "order_date", "total_amount", "currency", "updated_at")
        | _no_parent("customer_id", "customers")
        | {
            "total_amount_range": "total_amount < 0",
            "order_status_accepted_values": "r.status not in ('F', 'O', 'P')",
            "currency_accepted_values": f"currency not in ({CURRENCIES})",
            "usd_rate_not_null": """not exists (select 1 from valid_fx_rates f
                where f.ccy = currency and f.as_of_date between order_date - 5 and order_date)""",
        },
        {"total_amount_plausible": "total_amount > 1000000"} | _far("order_date"),
    ),
    "line_items": Table(
        {
            "order_id": "r.order_id::bigint",
            "line_number": "r.line_number::int",
            "product_id": "r.part_id::bigint",
            "quantity": "r.quantity::decimal(15,2)",
            "extended_price": "r.extended_price::decimal(15,2)",
            "updated_at": "r.updated_at::timestamp",
        },
        "order_id, line_number",
        "updated_at",
        _is_null(
            "order_id", "line_number", "product_id", "quantity", "extended_price", "updated_at"
        )
        | _no_parent("order_id", "orders")
        | _no_parent("product_id", "products")
        | {
            "quantity_range": "quantity <= 0",
            "extended_price_range": "extended_price < 0",
            "discount_range": "r.discount::decimal(15,2) not between 0 and 1",
            "return_flag_accepted_values": "r.return_flag not in ('A', 'N', 'R')",
        },
    ),
    "accounts": Table(
        {
            "account_id": "r.Id",
            "annual_revenue": "try_cast(r.AnnualRevenue as double)",
            "customer_id": "try_cast(r.Customer_Id__c as bigint)",
            "system_modstamp": "r.SystemModstamp",
        },
        "account_id",
        "system_modstamp",
        _is_null("account_id", "system_modstamp")
        | _uncast(annual_revenue="AnnualRevenue", customer_id="Customer_Id__c")
        | {"name_not_null": "r.Name is null"},
        _no_parent("customer_id", "customers"),
    ),
    "contacts": Table(
        {"contact_id": "r.Id", "account_id": "r.AccountId", "system_modstamp": "r.SystemModstamp"},
        "contact_id",
        "system_modstamp",
        _is_null("contact_id", "account_id", "system_modstamp")
        | _no_parent("account_id", "accounts"),
        {"email_pattern": f"not regexp_matches(r.Email, '{EMAIL}')"},
    ),
    "inventory": Table(
        {
            "warehouse": "r.warehouse",
            "product_id": "try_cast(r.part_id as bigint)",
            "on_hand": "try_cast(r.on_hand as int)",
            "counted_at": "try_cast(r.counted_at as timestamp)",
        },
        "warehouse, product_id",
        "counted_at",
        _is_null("warehouse", "product_id", "on_hand", "counted_at")
        | _uncast(product_id="part_id", on_hand="on_hand", counted_at="counted_at")
        | {"on_hand_range": "on_hand < 0"},
    ),
    "employees": Table(
        {
            "employee_id": "r.employee_id",
            "department": "coalesce(r.department, 'Unknown')",
            "hired_on": "try_cast(r.hired_on as date)",
            "updated_at": "try_cast(r.updated_at as timestamp)",
        },
        "employee_id",
        "updated_at",
        _is_null("employee_id", "updated_at")
        | _uncast(hired_on="hired_on", updated_at="updated_at"),
    ),
    "leads": Table(
        {
            "lead_id": "r.Id",
            "lead_source": "coalesce(r.LeadSource, 'Unknown')",
            "system_modstamp": "r.SystemModstamp",
        },
        "lead_id",
        "system_modstamp",
        _is_null("lead_id", "system_modstamp")
        | {"company_not_null": "r.Company is null", "status_not_null": "r.Status is null"},
        {"email_pattern": f"not regexp_matches(r.Email, '{EMAIL}')"},
    ),
    "opportunities": Table(
        {
            "opportunity_id": "r.Id",
            "account_id": "r.AccountId",
            "amount": "try_cast(r.Amount as double)",
            "close_date": "try_cast(r.CloseDate as date)",
            "created_at": "try_cast(r.CreatedDate[:10] as date)",
            "system_modstamp": "r.SystemModstamp",
        },
        "opportunity_id",
        "system_modstamp",
        _is_null("opportunity_id", "account_id", "system_modstamp")
        | _uncast(amount="Amount", close_date="CloseDate")
        | _no_parent("account_id", "accounts")
        | {
            "amount_range": "amount < 0",
            "probability_range": "r.Probability::double not between 0 and 100",
        },
        {
            "stage_accepted_values": """r.StageName not in ('Prospecting', 'Qualification',
                'Needs Analysis', 'Value Proposition', 'Proposal/Price Quote', 'Negotiation/Review',
                'Closed Won', 'Closed Lost')"""
        }
        | _far("created_at"),
    ),
    "customer_behavior": Table(
        {
            "event_id": "r.event_id",
            "customer_id": "try_cast(r.customer_id as bigint)",
            "event_ts": "try_cast(r.event_ts as timestamp)",
        },
        "event_id",
        "event_ts",
        _is_null("event_id", "customer_id", "event_ts")
        | _uncast(customer_id="customer_id", event_ts="event_ts"),
        {
            "event_ts_zone": "not regexp_matches(r.event_ts, '(Z|[+-][0-9:]+)$')",
            "event_name_accepted_values": """r.event_name not in ('email_open', 'email_click',
                'page_view', 'add_to_cart', 'purchase', 'login', 'signup')""",
        }
        | _far("event_ts"),
    ),
    "orders_events": Table(
        {
            "event_id": "r.event_id",
            "order_id": "try_cast(r.order_id as bigint)",
            "customer_id": "try_cast(r.customer_id as bigint)",
            "event_ts": "try_cast(r.event_ts as timestamp)",
            "amount": "try_cast(r.amount as decimal(15,2))",
            "currency": "r.currency",
            "status": "r.status",
        },
        "event_id",
        "event_ts",
        _is_null("event_id", "order_id", "customer_id", "event_ts", "amount", "currency", "status")
        | _uncast(
            order_id="order_id", customer_id="customer_id", event_ts="event_ts", amount="amount"
        )
        | {
            "amount_range": "amount < 0",
            "currency_accepted_values": "currency not in ('USD', 'EUR', 'GBP', 'CAD', 'AUD')",
            "status_accepted_values": "status not in ('PLACED', 'PAID', 'SHIPPED', 'CANCELLED')",
        },
        _far("event_ts"),
    ),
    "customer_events": Table(
        {
            "event_id": "r.event_id",
            "customer_id": "try_cast(r.customer_id as bigint)",
            "event_type": "r.event_type",
            "event_ts": "try_cast(r.event_ts as timestamp)",
        },
        "event_id",
        "event_ts",
        _is_null("event_id", "customer_id", "event_type", "event_ts")
        | _uncast(customer_id="customer_id", event_ts="event_ts"),
        {"channel_accepted_values": "r.channel not in ('ios', 'android', 'web')"}
        | _far("event_ts"),
    ),
    "sensor_readings": Table(
        {
            "sensor_id": "r.sensor_id",
            "reading_ts": "try_cast(r.timestamp as timestamp)",
            "temperature_celsius": "try_cast(r.temperature_celsius as double)",
            "arrival_ts": "try_cast(r.arrival_timestamp as timestamp)",
        },
        "sensor_id, reading_ts",
        "arrival_ts",
        _is_null("sensor_id", "reading_ts", "temperature_celsius", "arrival_ts")
        | _uncast(reading_ts="timestamp", temperature_celsius="temperature_celsius")
        | {"temperature_celsius_range": "temperature_celsius not between -90 and 60"},
        {"location_not_null": "r.location is null"} | _far("reading_ts"),
    ),
}


REFERENCES = (
    ("orders", "customers", "customer_id"),
    ("line_items", "orders", "order_id"),
    ("line_items", "products", "product_id"),
    ("price_lists", "products", "product_id"),
    ("accounts", "customers", "customer_id"),
    ("contacts", "accounts", "account_id"),
    ("opportunities", "accounts", "account_id"),
    ("customer_behavior", "customers", "customer_id"),
    ("orders_events", "customers", "customer_id"),
    ("customer_events", "customers", "customer_id"),
)

FEEDS = {"customer_changes": "customers"}
"""Datasets that are part of a silver table of another name; after that table's own."""
