"""Products (TPC-H parts): all on the first day, then price changes.

Here: the delivered products and their planted faults. Not here: their use in order lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.standins.data import faults
from lakehouse.standins.data.faults import Fault, Planted, missing
from lakehouse.standins.data.plan import Plan, timestamps
from lakehouse.standins.data.record import Tally
from lakehouse.standins.data.tpch import Tpch

NAME = "products"
CHANGED_A_DAY = 0.005
COLUMNS = {
    "p_partkey": "part_id",
    "p_name": "name",
    "p_mfgr": "manufacturer",
    "p_brand": "brand",
    "p_type": "category",
    "p_size": "size",
    "p_container": "container",
    "p_retailprice": "retail_price",
    "p_comment": "comment",
}
FAULTS = (
    missing("name"),
    missing("updated_at"),
    Fault("negative", "retail_price", Decimal("-9.99"), ("price_range",)),
    missing("part_id", "product_id"),
)


@dataclass
class Products:
    plan: Plan
    tpch: Tpch
    unusable: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        part = self.tpch.read("part")
        self._ids = part.column("p_partkey").to_numpy()
        self._first = self.plan.history(self._ids, NAME)
        self._table = part.select(list(COLUMNS)).rename_columns(list(COLUMNS.values()))
        total = faults.how_many(len(part), 0.002) if self.plan.faults else 0
        order = self.plan.draw(NAME, "faults").first(self._ids, total)
        self._planted: Planted = faults.distribute(order, FAULTS, total, 0)
        self.unusable = faults.rows_of(self._planted, len(part), "quarantine")

    def is_unusable(self, ids: np.ndarray) -> np.ndarray:
        """Mask of the product ids that never become valid."""
        inside = (ids >= 1) & (ids <= len(self.unusable))
        return ~inside | self.unusable[np.where(inside, ids - 1, 0)]

    @property
    def usable(self) -> np.ndarray:
        """Ids of the products that become valid."""
        return self._ids[~self.unusable]

    def list_prices(self, ids: np.ndarray) -> np.ndarray:
        """First list prices in US dollars."""
        price = self._table.column("retail_price").take(pa.array(ids - 1))
        return price.cast(pa.float64()).to_numpy()

    def deliver(self, index: int) -> tuple[pa.Table, Tally]:
        tally = Tally(NAME, self.plan.partition(index))
        table = self._price_changes(index, tally) if index else self._all(tally)
        tally.read = len(table)
        return table, tally

    def _all(self, tally: Tally) -> pa.Table:
        for fault, positions in self._planted:
            fault.count(tally, len(positions))
        table = self._table.append_column("updated_at", timestamps(self._first))
        return faults.spoil_table(table, self._planted)

    def _price_changes(self, index: int, tally: Tally) -> pa.Table:
        count = max(1, round(len(self._ids) * CHANGED_A_DAY))
        at = faults.shuffled(
            self.plan.draw(NAME, "changes", index), self._ids, ~self.unusable, count
        )
        ids = self._ids[at]
        moments = self.plan.moments(ids, f"{NAME}:{index}", index)
        for position, moment in zip(at.tolist(), moments.tolist(), strict=True):
            tally.repeat(str(self._ids[position]), moment)
            tally.follows(str(self._ids[position]), self.plan.partition(0), self._first[position])
        rows = self._table.take(pa.array(at))
        column = rows.schema.get_field_index("retail_price")
        factor = 0.8 + 0.5 * self.plan.draw(NAME, "price", index).unit(ids)
        price = pc.round(pc.multiply(rows.column(column).cast(pa.float64()), pa.array(factor)), 2)
        rows = rows.set_column(
            column, rows.schema.field(column), price.cast(rows.schema.field(column).type)
        )
        return rows.append_column("updated_at", timestamps(moments))
