"""Events of two streams, as their daily files deliver them in JSON lines.

Here: what happens to an order (`orders_events`), what customers do in the app (`customer_events`),
and their planted faults. Not here: what reads the streams, or facts made of the events.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from lakehouse.standins.data import faults, files
from lakehouse.standins.data.customers import Customers
from lakehouse.standins.data.faults import Fault, missing
from lakehouse.standins.data.orders import Orders
from lakehouse.standins.data.plan import CYCLE, DAY_US, Plan
from lakehouse.standins.data.record import Tally

ORDERS, CUSTOMERS = "orders_events", "customer_events"
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the producers' text form adds the Z
WRONG, AGAIN, LATE, UNKNOWN = 0.008, 0.004, 0.01, 0.01
CURRENCIES = ("USD", "EUR", "GBP", "CAD", "AUD")
FOLLOWING = ("PAID", "PAID", "PAID", "SHIPPED", "CANCELLED")
TYPES = (
    *("product_view",) * 5,
    *("app_open", "app_open", "search", "search"),
    *("add_to_cart", "checkout_started", "purchase", "support_request"),
)
CHANNELS = ("ios", "ios", "android", "android", "android", "web")
EVENTS_PER_SESSION = 4

CUT_SHORT = Fault("unparsable", "", None, ("parsable",), "unreadable")
NO_TIME = Fault("wrong_type", "event_ts", "yesterday", ("event_ts_type", "event_ts_not_null"))
FAULTS: dict[str, tuple[Fault, ...]] = {
    ORDERS: (
        missing("amount"),
        CUT_SHORT,
        Fault("wrong_value", "status", "RETURNED", ("status_accepted_values",)),
        missing("customer_id"),
        Fault("wrong_type", "amount", "12,50", ("amount_type", "amount_not_null")),
        missing("event_id"),
        Fault("unknown_currency", "currency", "XTS", ("currency_accepted_values",)),
        missing("status"),
        Fault("negative", "amount", -10.0, ("amount_range",)),
        missing("order_id"),
        NO_TIME,
        missing("currency"),
        missing("event_ts"),
    ),
    CUSTOMERS: (
        CUT_SHORT,
        missing("event_id"),
        Fault("wrong_type", "customer_id", "guest", ("customer_id_type", "customer_id_not_null")),
        missing("event_type"),
        missing("customer_id"),
        NO_TIME,
        missing("event_ts"),
    ),
}
UNNAMED = Fault("wrong_value", "channel", "fax", ("channel_accepted_values",), "warn")


@dataclass
class Events:
    plan: Plan
    customers: Customers
    orders: Orders

    def deliver(self, dataset: str, index: int) -> tuple[bytes, Tally]:
        """The day's `<dataset>.jsonl`, in order of arrival but for repeated records."""
        tally = Tally(dataset, self.plan.partition(index))
        make = self._of_orders if dataset == ORDERS else self._of_customers
        records, moments = make(index)
        cut: set[int] = set()
        if self.plan.faults:
            cut = self._spoil(dataset, records, moments, tally, index)
        tally.read = len(records)
        return files.json_lines(records, cut), tally

    def _of_orders(self, index: int) -> tuple[list[dict[str, Any]], np.ndarray]:
        """Each of the day's orders is placed, and soon after paid, shipped or cancelled."""
        low, high = self.orders.slice_of(index)
        source, draw = self.orders.tpch, self.plan.draw
        ids = np.repeat(source.order_keys[low:high] + index // CYCLE * source.key_span, 2)
        second = np.arange(len(ids)) % 2 == 1
        # Numbers of events run on from day to day, so that no two events share an id.
        numbers = 2 * (index // CYCLE * len(source.order_keys) + low) + np.arange(len(ids))
        moments = self._moments(ORDERS, ids, index) + second * (
            1_000_000 * (60 + draw(ORDERS, "later").below(ids, 3_000))
        )
        customers = self._customer_ids(ORDERS, ids, index)
        cents = 1_000 + draw(ORDERS, "amount").below(ids, 99_001)
        statuses = np.where(second, draw(ORDERS, "status").one_of(ids, FOLLOWING), "PLACED")
        currencies = draw(ORDERS, "currency").one_of(ids, CURRENCIES).to_pylist()
        records = [
            {
                "event_id": f"OE{number}",
                "order_id": order_id,
                "customer_id": customer_id,
                "event_ts": _iso(moment),
                "currency": currency,
                "amount": cent / 100,
                "status": status,
            }
            for number, order_id, customer_id, moment, currency, cent, status in zip(
                numbers.tolist(),
                ids.tolist(),
                customers.tolist(),
                moments.tolist(),
                currencies,
                cents.tolist(),
                statuses.tolist(),
                strict=True,
            )
        ]
        return records, moments

    def _of_customers(self, index: int) -> tuple[list[dict[str, Any]], np.ndarray]:
        """As many events as there are orders, a few to a session."""
        low, high = self.orders.slice_of(index)
        numbers = index // CYCLE * len(self.orders.tpch.order_keys) + np.arange(low, high)
        draw, sessions = self.plan.draw, numbers // EVENTS_PER_SESSION
        steps = numbers % EVENTS_PER_SESSION * 19_000_000
        moments = self._moments(CUSTOMERS, sessions, index) + steps
        customers = self._customer_ids(CUSTOMERS, sessions, index)
        channels = draw(CUSTOMERS, "channel").one_of(sessions, CHANNELS).to_pylist()
        types = draw(CUSTOMERS, "type").one_of(numbers, TYPES).to_pylist()
        parts = (1 + draw(CUSTOMERS, "part").below(numbers, self.orders.tpch.parts)).tolist()
        records = [
            {
                "event_id": f"CE{number}",
                "customer_id": customer_id,
                "event_type": type_,
                "event_ts": _iso(moment),
                "session_id": f"A{session}",
                "channel": channel,
                "properties": {"product_id": part, "app": {"version": f"4.{part % 7}"}},
            }
            for number, customer_id, type_, moment, session, channel, part in zip(
                numbers.tolist(),
                customers.tolist(),
                types,
                moments.tolist(),
                sessions.tolist(),
                channels,
                parts,
                strict=True,
            )
        ]
        return records, moments

    def _moments(self, dataset: str, ids: np.ndarray, index: int) -> np.ndarray:
        moments = self.plan.moments(ids, f"{dataset}:{index}", index)
        late = self.plan.draw(dataset, "late").unit(ids) < LATE
        return np.where(late, moments - DAY_US, moments)

    def _customer_ids(self, dataset: str, ids: np.ndarray, index: int) -> np.ndarray:
        draw = self.plan.draw
        known = 1 + draw(dataset, "customer").below(ids, self.customers.established(index))
        unknown = draw(dataset, "unknown").unit(ids) < UNKNOWN
        return np.where(unknown, faults.NEVER_DELIVERED + ids, known)

    def _spoil(
        self,
        dataset: str,
        records: list[dict[str, Any]],
        moments: np.ndarray,
        tally: Tally,
        index: int,
    ) -> set[int]:
        """A share of wrong records, one warning, and copies that a producer's retries sent."""
        rows = len(records)
        wrong, again = faults.how_many(rows, WRONG), faults.how_many(rows, AGAIN)
        chosen = self.plan.draw(dataset, "roles", index).first(np.arange(rows), wrong + again + 1)
        planted = faults.distribute(chosen[:wrong], FAULTS[dataset], wrong, index)
        if dataset == CUSTOMERS:
            planted.append((UNNAMED, chosen[wrong + again :]))
        for at in chosen[wrong : wrong + again].tolist():
            tally.repeat(records[at]["event_id"], moments[at], 2)
            records.append(dict(records[at]))
        tally.plant("duplicate", again)
        for fault, positions in planted:
            fault.count(tally, len(positions))
        return faults.spoil_records(records, planted)


def _iso(us: int) -> str:
    return (EPOCH + timedelta(microseconds=us)).isoformat(timespec="milliseconds") + "Z"
