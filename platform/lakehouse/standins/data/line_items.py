"""Order lines: they arrive with their order, and again when a late update finishes it.

Here: the day's lines, their planted faults, and which of them follow a lost order or product into
quarantine. Not here: the orders themselves (`orders.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pyarrow as pa

from lakehouse.standins.data import faults
from lakehouse.standins.data.faults import Fault, missing
from lakehouse.standins.data.orders import OrderDay, Orders
from lakehouse.standins.data.plan import Plan, timestamps
from lakehouse.standins.data.products import Products
from lakehouse.standins.data.record import Tally
from lakehouse.standins.data.tpch import Tpch

NAME = "line_items"
WRONG, AGAIN = 0.002, 0.002
NO_ORDER, NO_PRODUCT = "order_id_reference", "product_id_reference"
FAULTS = (
    missing("order_id"),
    Fault("negative", "quantity", Decimal("-3.00"), ("quantity_range",)),
    Fault("orphan", "order_id", faults.NEVER_DELIVERED + 11, (NO_ORDER,)),
    missing("line_number"),
    Fault("orphan", "part_id", faults.NEVER_DELIVERED + 13, (NO_PRODUCT,)),
    missing("part_id", "product_id"),
    Fault("negative", "extended_price", Decimal("-20.00"), ("extended_price_range",)),
    missing("quantity"),
    Fault("out_of_range", "discount", Decimal("1.50"), ("discount_range",)),
    missing("extended_price"),
    Fault("wrong_value", "return_flag", "X", ("return_flag_accepted_values",)),
    missing("updated_at"),
)


@dataclass(frozen=True)
class LineDay:
    """Lines of one day's new orders. `owner` is the position of each line's order in its day."""

    table: pa.Table
    owner: np.ndarray
    no_product: np.ndarray

    def key(self, at: int) -> str:
        return f"{self.table.column('order_id')[at]}|{self.table.column('line_number')[at]}"


@dataclass
class LineItems:
    plan: Plan
    tpch: Tpch
    orders: Orders
    products: Products

    def deliver(self, index: int) -> tuple[pa.Table, Tally]:
        tally = Tally(NAME, self.plan.partition(index))
        today = self.orders.day(index)
        lines = self._lines(today)
        parts = (
            [self._new_lines(today, lines, tally)]
            if not self.plan.faults
            else self._planted(today, lines, tally)
        )
        if index and self.plan.faults:
            parts.append(self._finished(self.orders.day(index - 1), index, tally))
        table = pa.concat_tables(parts)
        tally.read = len(table)
        return table, tally

    def _lines(self, day: OrderDay, only: np.ndarray | None = None) -> LineDay:
        """The day's lines as they should be; `only` keeps those of some orders (positions)."""
        source = self.tpch.lines(day.first_key, day.last_key)
        ids = source.column("l_orderkey").to_numpy() + day.key_shift
        owner = np.searchsorted(day.ids, ids)
        if only is not None:
            keep = np.flatnonzero(np.isin(owner, only))
            source, ids, owner = source.take(pa.array(keep)), ids[keep], owner[keep]
        moved_by = day.moved_by[owner]
        columns = {
            "order_id": pa.array(ids),
            "line_number": source.column("l_linenumber"),
            "part_id": source.column("l_partkey"),
            "supplier_id": source.column("l_suppkey"),
            "quantity": source.column("l_quantity"),
            "extended_price": source.column("l_extendedprice"),
            "discount": source.column("l_discount"),
            "tax": source.column("l_tax"),
            "return_flag": source.column("l_returnflag"),
            "line_status": source.column("l_linestatus"),
            "ship_date": _moved(source.column("l_shipdate"), moved_by),
            "commit_date": _moved(source.column("l_commitdate"), moved_by),
            "receipt_date": _moved(source.column("l_receiptdate"), moved_by),
            "ship_instruct": source.column("l_shipinstruct"),
            "ship_mode": source.column("l_shipmode"),
            "comment": source.column("l_comment"),
            "updated_at": timestamps(day.moments[owner]),
        }
        no_product = self.products.is_unusable(source.column("l_partkey").to_numpy())
        return LineDay(pa.table(columns), owner, no_product)

    def _new_lines(self, today: OrderDay, lines: LineDay, tally: Tally) -> pa.Table:
        """Count the lines that follow a lost order or product into quarantine."""
        no_order = today.lost[lines.owner]
        tally.quarantined += int((no_order | lines.no_product).sum())
        tally.breaks(int(no_order.sum()), [NO_ORDER])
        tally.breaks(int(lines.no_product.sum()), [NO_PRODUCT])
        return lines.table

    def _planted(self, today: OrderDay, lines: LineDay, tally: Tally) -> list[pa.Table]:
        table = self._new_lines(today, lines, tally)
        rows = len(table)
        untouched = ~today.lost
        untouched[today.updated] = False
        usable = untouched[lines.owner] & ~lines.no_product
        wrong, twice = faults.how_many(rows, WRONG), faults.how_many(rows, AGAIN)
        ids = table.column("order_id").to_numpy() * 8 + table.column("line_number").to_numpy()
        chosen = faults.shuffled(self.plan.draw(NAME, "roles"), ids, usable, wrong + twice)
        planted = faults.distribute(chosen[:wrong], FAULTS, wrong, today.index)
        for fault, at in planted:
            fault.count(tally, len(at))
        again = chosen[wrong:]
        for at in again:
            tally.repeat(lines.key(int(at)), today.moments[lines.owner[at]], 2)
        tally.plant("duplicate", len(again))
        return [faults.spoil_table(table, planted), table.take(pa.array(again))]

    def _finished(self, before: OrderDay, index: int, tally: Tally) -> pa.Table:
        """Lines of yesterday's orders that a late update finished: delivered again, now final."""
        lines = self._lines(before, only=before.updated)
        moment_of = np.zeros(len(before.ids), np.int64)
        moment_of[before.updated] = self.orders.updates(index)
        moments = moment_of[lines.owner]
        tally.quarantine(int(lines.no_product.sum()), [NO_PRODUCT])
        for at in np.flatnonzero(~lines.no_product):
            tally.repeat(lines.key(int(at)), moments[at])
            first = before.moments[lines.owner[at]]
            tally.follows(lines.key(int(at)), self.plan.partition(before.index), first)
        tally.plant("late_update", len(lines.table))
        table = lines.table
        for column, values in (
            ("line_status", pa.array(["F"] * len(table), pa.string())),
            ("updated_at", timestamps(moments)),
        ):
            table = table.set_column(table.schema.get_field_index(column), column, values)
        return table


def _moved(dates: pa.ChunkedArray, by: np.ndarray) -> pa.Array:
    days = dates.cast(pa.int32()).to_numpy() + by
    return pa.array(days.astype(np.int32)).cast(pa.date32())
