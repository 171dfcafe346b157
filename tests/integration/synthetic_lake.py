"""A small lake with every silver and gold table of the contracts, written by delta-rs alone.

Here: rows that are consistent with each other (orders of known customers, lines of known orders),
a day at a time, and changes to them. Not here: the platform's own way of making them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from spark_jobs.contract.model import Contract
from spark_jobs.lake.delta import arrow_type

FIRST_DAY = date(2026, 9, 28)
CURRENCIES = {"USD": "1", "EUR": "1.1", "GBP": "1.3", "JPY": "0.0065", "RON": "0.22"}
TECHNICAL = (("_batch_id", "string"), ("_partition", "string"), ("_arrival_date", "date"))
UNKNOWN = datetime(1900, 1, 1, tzinfo=UTC)


def at(day: date, hour: int = 12) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


@dataclass
class SyntheticLake:
    root: str
    contracts: dict[str, Contract]
    seed: int = 7
    _batches: int = field(default=0, init=False)

    def create(self) -> None:
        """Every silver and gold table, empty but for the unknown customer."""
        for c in self.contracts.values():
            if c.layer != "bronze":
                by = [] if c.physical_partition == "none" else [c.physical_partition]
                write_deltalake(self.uri(c.table), self._schema(c).empty_table(), partition_by=by)
        unknown = {
            "customer_sk": 0,
            "customer_id": 0,
            "valid_from": UNKNOWN,
            "is_current": True,
            "is_deleted": False,
        }
        self.merge("gold.dim_customer", FIRST_DAY, [unknown])

    def uri(self, table: str) -> str:
        return f"{self.root}/{table.replace('.', '/')}"

    def rows(self, table: str) -> list[dict[str, Any]]:
        return DeltaTable(self.uri(table)).to_pyarrow_table().to_pylist()

    def merge(self, table: str, day: date, rows: Iterable[dict[str, Any]]) -> None:
        """Inserts rows, or replaces those with the same key, as a batch that arrived on the day."""
        contract = self.contracts[table]
        self._batches += 1
        stamp = {"_batch_id": f"b{self._batches}", "_partition": str(day), "_arrival_date": day}
        schema = self._schema(contract)
        source = pa.Table.from_pylist(
            [{**self._filler(contract), **r, **stamp} for r in rows], schema
        )
        same = " and ".join(f"target.{k} = source.{k}" for k in contract.key)
        (
            DeltaTable(self.uri(table))
            .merge(source, same, source_alias="source", target_alias="target")
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .execute()
        )

    def delete(self, table: str, predicate: str) -> None:
        DeltaTable(self.uri(table)).delete(predicate)

    def deliver(self, index: int) -> None:
        """One day: new customers with accounts, orders with lines, events, rates."""
        day, draw = FIRST_DAY + timedelta(days=index), Random(self.seed * 1000 + index)
        rates = {c: Decimal(r) for c, r in CURRENCIES.items()}
        self.merge(
            "silver.fx_rates",
            day,
            [
                {
                    "ccy": c,
                    "as_of_date": day,
                    "rate_to_base": r,
                    "base_currency": "USD",
                    "rate_category": "minor" if c == "RON" else "major",
                    "ingestion_timestamp": at(day, 0),
                }
                for c, r in rates.items()
            ],
        )
        new = range(index * 20 + 1, index * 20 + 21)
        self.merge("gold.dim_customer", day, [self.customer(i, day) for i in new])
        self.merge("silver.accounts", day, [self.account(i, day) for i in new if i % 4])
        self.merge("silver.contacts", day, [_of_account(i, "contact_id", day) for i in new])
        deals = [_of_account(i, "opportunity_id", day) for i in new if i % 3]
        self.merge("silver.opportunities", day, deals)
        self.merge("silver.addresses", day, [self.address(i, i, day) for i in new if i % 5])
        orders, lines = [], []
        for n in range(60):
            order_id, customer = index * 100 + n, draw.randint(1, index * 20 + 20)
            currency = draw.choice(list(rates))
            total = Decimal(draw.randint(1_000, 500_000)) / 100
            order = {
                "order_id": order_id,
                "customer_id": customer,
                "order_date": day,
                "order_status": draw.choice(["PLACED", "PAID", "SHIPPED"]),
                "total_amount": total,
                "currency": currency,
                "usd_rate": rates[currency],
                "rate_date": day,
                "amount_usd": round(total * rates[currency], 2),
                "updated_at": at(day),
            }
            orders.append(order)
            for line in (1, 2):
                lines.append(
                    {
                        "customer_sk": customer,
                        "product_sk": line,
                        "order_id": order_id,
                        "date_sk": int(f"{day:%Y%m%d}"),
                        "line_number": line,
                        "customer_id": customer,
                        "product_id": line,
                        "order_date": day,
                        "quantity": Decimal(1),
                        "amount_usd": round(order["amount_usd"] / 3, 2),
                        "is_returned": draw.random() < 0.2,
                        "updated_at": at(day),
                    }
                )
        self.merge("gold.dim_product", day, [self.product(line) for line in (1, 2)])
        self.merge("gold.product_costs", day, [_cost(day, Decimal(index + 7))])
        self.merge("silver.orders", day, orders)
        self.merge("gold.fact_sales", day, lines)
        self.merge(
            "gold.fact_behavior",
            day,
            [
                {
                    "customer_sk": c,
                    "date_sk": 0,
                    "event_source": "web",
                    "event_id": f"e{index}-{n}",
                    "customer_id": c,
                    "session_id": f"s{index}-{n // 3}",
                    "event_name": "page_view",
                    "event_ts": at(day, n % 24),
                    "event_date": day,
                }
                for n in range(40)
                for c in [draw.randint(1, index * 20 + 20)]
            ],
        )

    def customer(self, number: int, day: date, **changed: Any) -> dict[str, Any]:
        country, region = (("FRANCE", "EUROPE"), ("PERU", "AMERICA"), ("CHINA", "ASIA"))[number % 3]
        return {
            "customer_sk": number * 10_000 + day.toordinal() % 10_000,
            "customer_id": number,
            "name": f"Ada Number{number}",
            "email": f"ada{number}@example.com",
            "phone": "1-2",
            "address": "1 Street",
            "country": country,
            "region": region,
            "market_segment": "BUILDING",
            "valid_from": at(day, 1),
            "valid_to": None,
            "is_current": True,
            "is_deleted": False,
            **changed,
        }

    def account(self, number: int, day: date, **changed: Any) -> dict[str, Any]:
        return {
            "account_id": f"a{number}",
            "name": f"Account {number}",
            "customer_id": number,
            "industry": ("Energy", "Retail", "Banking")[number % 3],
            "billing_city": "Lyon",
            "billing_state": "ARA",
            "billing_country": "France",
            "system_modstamp": at(day, 2),
            **changed,
        }

    def product(self, number: int) -> dict[str, Any]:
        return {
            "product_sk": number,
            "product_id": number,
            "name": f"Product {number}",
            "category": "STANDARD TIN",
            "updated_at": at(FIRST_DAY),
        }

    def address(self, number: int, customer: int, day: date) -> dict[str, Any]:
        return {
            "address_id": number,
            "customer_id": customer,
            "city": f"City {number}",
            "is_default": True,
            "op": "I",
            "is_deleted": False,
            "position": f"{day:%Y%m%d}{number:08}",
            "updated_at": at(day, 3),
        }

    def _schema(self, contract: Contract) -> pa.Schema:
        columns = [(c.name, c.type) for c in contract.columns] + list(TECHNICAL)
        return pa.schema([(name, arrow_type(kind)) for name, kind in columns])

    def _filler(self, contract: Contract) -> dict[str, Any]:
        return dict.fromkeys((*contract.column, *(n for n, _ in TECHNICAL)))


def _of_account(number: int, key: str, day: date) -> dict[str, Any]:
    """A contact or an opportunity of an account, by the name of its key."""
    stage = ("Prospecting", "Closed Won", "Closed Lost")[number // 3 % 3]
    deal = {"stage": stage, "amount": Decimal(number)} if key == "opportunity_id" else {}
    account = f"a{number - number % 2 + 1}"
    return {key: f"{key[0]}{number}", "account_id": account, "system_modstamp": at(day, 2), **deal}


def _cost(day: date, cost: Decimal) -> dict[str, Any]:
    """What one of the products costs on a day; nobody offers the other."""
    return {
        "product_id": 1,
        "valid_from": day,
        "valid_to": day + timedelta(days=1),
        "cost_usd": cost,
        "vendor": "Acme",
        "vendors": 1,
    }
