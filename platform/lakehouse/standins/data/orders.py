"""Orders: a fourteenth of TPC-H's orders each day, placed around the day on which they arrive.

Here: the day's orders, their planted faults, and the later and older versions of yesterday's.
Not here: their lines (`line_items.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.standins.data import faults, fx
from lakehouse.standins.data.customers import Customers
from lakehouse.standins.data.faults import Fault, Planted, missing
from lakehouse.standins.data.plan import CYCLE, DAY_US, HOUR_US, Plan, timestamps
from lakehouse.standins.data.record import Tally
from lakehouse.standins.data.tpch import Tpch

NAME = "orders"
PLACED_THE_DAY_BEFORE = 0.03
FROM_NEW_CUSTOMERS = 0.01
WRONG, IMPLAUSIBLE, AGAIN, UPDATED, OUTDATED = 0.008, 0.0005, 0.004, 0.005, 0.002

# A currency that no quotation knows has no USD rate either, so two rules fire.
NO_RATE = "usd_rate_not_null"
FAULTS = (
    missing("order_id"),
    Fault("negative", "total_price", Decimal("-125.50"), ("total_amount_range",)),
    Fault("unknown_currency", "currency", "XBT", ("currency_accepted_values", NO_RATE)),
    Fault("orphan", "customer_id", faults.NEVER_DELIVERED + 7, ("customer_id_reference",)),
    missing("customer_id"),
    missing("order_date", "order_date", NO_RATE),
    missing("total_price", "total_amount"),
    missing("currency", "currency", NO_RATE),
    missing("updated_at"),
    Fault("wrong_value", "status", "X", ("order_status_accepted_values",)),
)
IMPLAUSIBLE_TOTAL = Fault(
    "implausible", "total_price", Decimal("1250000.00"), ("total_amount_plausible",), "warn"
)
NOT_A_PRICE = Fault("wrong_type", "total_price", "n/a", ("total_price_type",), "unreadable")


@dataclass(frozen=True)
class OrderDay:
    """The new orders of a day as they should be, and what happens to whom (positions of rows)."""

    index: int
    first_key: int  # TPC-H keys of the slice, before re-keying
    last_key: int
    key_shift: int
    moved_by: np.ndarray  # days by which the dates of an order were moved
    table: pa.Table
    moments: np.ndarray
    planted: Planted
    lost: np.ndarray  # mask: this order never becomes a valid row
    again: np.ndarray
    updated: np.ndarray
    outdated: np.ndarray

    @property
    def ids(self) -> np.ndarray:
        return self.table.column("order_id").to_numpy()


@dataclass
class Orders:
    plan: Plan
    tpch: Tpch
    customers: Customers
    _days: dict[int, OrderDay] = field(default_factory=dict)

    def slice_of(self, index: int) -> tuple[int, int]:
        """Positions, among all TPC-H orders, of the first order of a day and of the next day."""
        total, part = len(self.tpch.order_keys), index % CYCLE
        return part * total // CYCLE, (part + 1) * total // CYCLE

    def day(self, index: int) -> OrderDay:
        """The new orders of a day (this day and the one before are kept in memory)."""
        if index not in self._days:
            self._days = {i: d for i, d in self._days.items() if i == index - 1}
            self._days[index] = self._generate(index)
        return self._days[index]

    def _generate(self, index: int) -> OrderDay:
        low, high = self.slice_of(index)
        first, last = int(self.tpch.order_keys[low]), int(self.tpch.order_keys[high - 1])
        source = self.tpch.orders(first, last)
        # From the fifteenth day on the same orders come again as other ones, under new keys.
        key_shift = index // CYCLE * self.tpch.key_span
        ids = source.column("o_orderkey").to_numpy() + key_shift
        table, moved_by, moments = self._as_delivered(source, ids, index)
        customer_ids = table.column("customer_id").to_numpy()
        orphaned = self.customers.is_unusable(customer_ids)
        status = np.asarray(table.column("status").to_numpy(zero_copy_only=False) == "F")
        planted, again, updated, outdated = self._assign(index, ids, ~orphaned, ~status)
        lost = orphaned | faults.rows_of(planted, len(ids), "quarantine", "unreadable")
        return OrderDay(
            index,
            first,
            last,
            key_shift,
            moved_by,
            table,
            moments,
            planted,
            lost,
            again,
            updated,
            outdated,
        )

    def _as_delivered(
        self, source: pa.Table, ids: np.ndarray, index: int
    ) -> tuple[pa.Table, np.ndarray, np.ndarray]:
        draw, today = self.plan.draw, self.plan.day(index).toordinal() - 719_163
        placed = np.where(
            draw(NAME, "late").unit(ids) < PLACED_THE_DAY_BEFORE, today - 1, today
        ).astype(np.int32)
        moved_by = placed - source.column("o_orderdate").cast(pa.int32()).to_numpy()
        moments = self.plan.moments(ids, NAME, index)
        customer_ids = source.column("o_custkey").to_numpy()
        if fresh := self.customers.established(index) - self.customers.count:
            switched = draw(NAME, "new customer").unit(ids) < FROM_NEW_CUSTOMERS
            customer_ids = np.where(
                switched,
                self.customers.count + 1 + draw(NAME, "which").below(ids, fresh),
                customer_ids,
            )
        columns = {
            "order_id": pa.array(ids),
            "customer_id": pa.array(customer_ids),
            "status": source.column("o_orderstatus"),
            "total_price": source.column("o_totalprice"),
            "order_date": pa.array(placed).cast(pa.date32()),
            "priority": source.column("o_orderpriority"),
            "clerk": source.column("o_clerk"),
            "ship_priority": source.column("o_shippriority"),
            "comment": source.column("o_comment"),
            "currency": self._currencies(ids, index),
            "updated_at": timestamps(moments),
        }
        return pa.table(columns), moved_by, moments

    def _currencies(self, ids: np.ndarray, index: int) -> pa.Array:
        """45 % USD, 25 % EUR, 10 % GBP, the rest evenly over what the ECB quotes on the day."""
        others = [
            c
            for c in fx.quotations().quoted(self.plan.day(index))
            if c not in ("USD", "EUR", "GBP")
        ]
        u = self.plan.draw(NAME, "currency").unit(ids)
        at = np.select(
            [u < 0.45, u < 0.70, u < 0.80],
            [0, 1, 2],
            3 + ((u - 0.80) / 0.20 * len(others)).astype(int),
        )
        return pa.array(["USD", "EUR", "GBP", *others], pa.string()).take(
            pa.array(np.minimum(at, 2 + len(others)))
        )

    def _assign(
        self, index: int, ids: np.ndarray, usable: np.ndarray, unfinished: np.ndarray
    ) -> tuple[Planted, np.ndarray, np.ndarray, np.ndarray]:
        """Give every spoiled or repeated order one role only, so that the counts stay exact."""
        none = np.empty(0, np.int64)
        if not self.plan.faults:
            return [], none, none, none
        rows = len(ids)
        wanted = [
            faults.how_many(rows, part) for part in (UPDATED, OUTDATED, AGAIN, IMPLAUSIBLE, WRONG)
        ]
        updated = faults.shuffled(
            self.plan.draw(NAME, "update"), ids, usable & unfinished, wanted[0]
        )
        free = usable.copy()
        free[updated] = False
        others = faults.shuffled(self.plan.draw(NAME, "roles"), ids, free, sum(wanted[1:]) + 2)
        outdated, again, warned, wrong = np.split(others, np.cumsum(wanted[1:4]))
        planted = faults.distribute(wrong[: wanted[4]], self._faults(index), wanted[4], index)
        planted.append((IMPLAUSIBLE_TOTAL, warned))
        if faults.falls_on(index, faults.ORDERS_PRICE_AS_TEXT):
            planted.append((NOT_A_PRICE, wrong[wanted[4] :]))
        return planted, again, updated, outdated

    def _faults(self, index: int) -> Sequence[Fault]:
        gone = fx.quotations().no_longer_quoted(self.plan.day(index))
        return (
            *FAULTS,
            Fault("currency_without_rate", "currency", gone[index % len(gone)], (NO_RATE,)),
        )

    def deliver(self, index: int) -> tuple[pa.Table, Tally]:
        """The day's Parquet rows: new orders, exact copies, and versions of yesterday's orders."""
        today, tally = self.day(index), Tally(NAME, self.plan.partition(index))
        in_place = [(f, at) for f, at in today.planted if f is not NOT_A_PRICE]
        parts = [faults.spoil_table(today.table, in_place), today.table.take(pa.array(today.again))]
        for fault, at in today.planted:
            fault.count(tally, len(at))
        orphaned = int(today.lost.sum()) - tally.quarantined - tally.unreadable
        tally.quarantine(orphaned, ["customer_id_reference"])
        for at in today.again:
            tally.repeat(str(today.ids[at]), today.moments[at], 2)
        tally.plant("duplicate", len(today.again))
        if index and self.plan.faults:
            parts += self._versions(self.day(index - 1), index, tally)
        table = pa.concat_tables(parts)
        tally.read = len(table)
        unpriced = next((at for f, at in today.planted if f is NOT_A_PRICE), None)
        return self._reshape(table, index, unpriced, tally), tally

    def updates(self, index: int) -> np.ndarray:
        """When yesterday's updated orders changed today, in the order of `OrderDay.updated`."""
        yesterday = self.day(index - 1)
        return self.plan.moments(yesterday.ids[yesterday.updated], f"{NAME}:update", index)

    def _versions(self, before: OrderDay, index: int, tally: Tally) -> list[pa.Table]:
        """Newer versions of yesterday's orders, and older ones that must lose."""
        newer, older = self.updates(index), before.moments[before.outdated] - 6 * HOUR_US - DAY_US
        parts = []
        for positions, status, moments in (
            (before.updated, "F", newer),
            (before.outdated, "P", older),
        ):
            rows = before.table.take(pa.array(positions))
            rows = _with(rows, "status", pa.array([status] * len(rows), pa.string()))
            parts.append(_with(rows, "updated_at", timestamps(moments)))
            for at, moment in zip(positions, moments, strict=True):
                tally.repeat(str(before.ids[at]), moment)
                tally.follows(
                    str(before.ids[at]), self.plan.partition(before.index), before.moments[at]
                )
        tally.plant("late_update", len(before.updated))
        tally.plant("older_after_newer", len(before.outdated))
        return parts

    def _reshape(
        self, table: pa.Table, index: int, unpriced: np.ndarray | None, tally: Tally
    ) -> pa.Table:
        """Faults of the whole file: a column more, a column less, a column of another type."""
        if not self.plan.faults:
            return table
        if faults.falls_on(index, faults.ORDERS_EXTRA_COLUMN):
            ids = pc.fill_null(table.column("order_id"), 0).to_numpy()
            channel = self.plan.draw(NAME, "channel").one_of(ids, ("web", "shop", "phone"))
            tally.drift = {"extra": ["channel"]}
            return table.append_column("channel", channel)
        if faults.falls_on(index, faults.ORDERS_WITHOUT_COMMENT):
            tally.drift = {"missing": ["comment"]}
            return table.drop_columns(["comment"])
        if unpriced is not None:
            tally.drift = {"retyped": ["total_price"]}
            table = _with(table, "total_price", table.column("total_price").cast(pa.string()))
            return faults.spoil_table(table, [(NOT_A_PRICE, unpriced)])
        return table


def _with(table: pa.Table, column: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.schema.get_field_index(column), column, values)
