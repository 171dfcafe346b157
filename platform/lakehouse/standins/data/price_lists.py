"""Price lists of vendors: three of them, each with a format and habits of its own.

Here: the lists of a day, as files with when they were written, the rows that land of them, and their
planted faults. Not here: the formats (`vendor_files.py`), and the bucket that they are put into.

One vendor sends what changes, now and then twice under two names; one overwrites its one workbook with
all its prices, corrected ones among them; one sends what holds from that day on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np

from lakehouse.standins.data import faults, files, vendor_files
from lakehouse.standins.data.faults import Fault, missing
from lakehouse.standins.data.plan import HOUR_US, Plan
from lakehouse.standins.data.products import Products
from lakehouse.standins.data.record import Tally

NAME = "price_lists"
POOL, LISTED = 100, 60
"""How many products are offered at all, and how many of them by a vendor."""
CHANGED = 0.2
NO_USD = "price_usd_not_null"
NO_RATE = ("usd_rate_not_null", NO_USD)
FAULTS = (
    missing("vendor"),
    Fault("wrong_type", "price", "on request", ("price_type", "price_not_null", NO_USD)),
    Fault("unknown_currency", "currency", "XBT", ("currency_accepted_values", *NO_RATE)),
    Fault("orphan", "part_id", faults.NEVER_DELIVERED + 11, ("product_id_reference",)),
    missing("valid_from"),
    Fault("negative", "price", -9.99, ("price_range",)),
    missing("part_id", "product_id"),
    Fault("wrong_type", "valid_from", "next spring", ("valid_from_type", "valid_from_not_null")),
    missing("currency", "currency", *NO_RATE),
    missing("price", "price", NO_USD),
)


@dataclass(frozen=True)
class Vendor:
    """`begins`: the day from which a price that is sent later holds, counted from that day; None if
    it corrects the first one. `hour` is when the vendor sends."""

    name: str
    currency: str
    per_dollar: float
    file: str
    hour: int
    begins: int | None


VENDORS = (
    Vendor("Alpine Supply", "EUR", 0.9, "alpine/{day}.csv", 7, 1),
    Vendor("Boreal & Sons", "GBP", 0.8, "boreal/prices.xlsx", 12, None),
    Vendor("Cobalt Goods", "USD", 1.0, "cobalt/{day}.json", 16, 0),
)


@dataclass(frozen=True)
class List:
    """A file in the vendors' bucket."""

    name: str
    written_us: int
    rows: list[dict[str, Any]]

    @property
    def written_at(self) -> datetime:
        return datetime.fromtimestamp(self.written_us // 1_000_000, UTC)

    def landed(self) -> Iterator[dict[str, Any]]:
        """Its rows as they land."""
        digest = hashlib.sha256(vendor_files.render(self.name, self.rows)).hexdigest()
        origin = {"source_file": self.name, "source_sha256": digest}
        for row in self.rows:
            yield {**row, **origin, "received_at": self.written_at.isoformat()}


@dataclass
class PriceLists:
    plan: Plan
    goods: Products

    def deliver(self, index: int) -> tuple[bytes, Tally]:
        tally = Tally(NAME, self.plan.partition(index))
        lists = [a_list for n in range(len(VENDORS)) for a_list in self._lists(n, index, tally)]
        rows = [row for a_list in lists for row in a_list.landed()]
        tally.read = len(rows)
        return files.json_lines(rows), tally

    def _lists(self, n: int, index: int, tally: Tally) -> list[List]:
        """What a vendor sends on a day."""
        vendor = VENDORS[n]
        name = vendor.file.format(day=self.plan.partition(index))
        second = int(self.plan.draw(NAME, vendor.name, "sent").below(np.array([index]), 1800)[0])
        at = self.plan.midnight(index) + vendor.hour * HOUR_US + second * 1_000_000
        whole = index == 0 or vendor.begins is None
        offered = self._listed[n]
        ids = offered if whole else offered[self._changes(vendor, index, offered)]
        begins = index + vendor.begins if index and vendor.begins is not None else None
        rows = self._rows(vendor, index, ids, begins)
        wrong = 0
        if self.plan.faults and rows:
            fault = FAULTS[(index * len(VENDORS) + n) % len(FAULTS)]
            faults.spoil_records(rows, [(fault, np.array([0]))])
            wrong = 1
        sent = [List(name, at, rows)] if rows else []
        if rows and self.plan.faults and n == 0 and index % 2:
            sent.append(List(name.replace(".csv", " (1).csv"), at + HOUR_US, rows))
            tally.plant("duplicate_file", 1)
        tally.plant(
            "overwritten_file", int(self.plan.faults and index > 0 and vendor.begins is None)
        )
        for a_list in sent:
            if wrong:
                fault.count(tally, 1)
            for row in rows[wrong:]:
                key = f"{row['vendor']}|{row['part_id']}|{row['valid_from']}"
                tally.repeat(key, a_list.written_us)
        return sent

    def _rows(
        self, vendor: Vendor, index: int, ids: np.ndarray, begins: int | None
    ) -> list[dict[str, Any]]:
        day = self._first if begins is None else self.plan.day(begins)
        prices = self._prices(vendor, index, ids)
        return [
            {
                "vendor": vendor.name,
                "part_id": part,
                "price": price,
                "currency": vendor.currency,
                "valid_from": day.isoformat(),
            }
            for part, price in zip(ids.tolist(), prices.tolist(), strict=True)
        ]

    def _prices(self, vendor: Vendor, index: int, ids: np.ndarray) -> np.ndarray:
        """Well below the list price, and another one with each change."""
        changed = np.zeros(len(ids), np.int64)
        for day in range(1, index + 1):
            changed[self._changes(vendor, day, ids)] = day
        share = 0.5 + 0.3 * self.plan.draw(NAME, vendor.name, "price").unit(
            ids + changed * 1_000_000
        )
        return np.round(self.goods.list_prices(ids) * share * vendor.per_dollar, 2)

    def _changes(self, vendor: Vendor, index: int, ids: np.ndarray) -> np.ndarray:
        return self.plan.draw(NAME, vendor.name, "changes", index).unit(ids) < CHANGED

    @property
    def _first(self) -> date:
        """Prices of the first day hold since the start of its month, or of the one before: all that is
        sold has one."""
        return (self.plan.start - timedelta(days=7)).replace(day=1)

    @cached_property
    def _listed(self) -> list[np.ndarray]:
        """The products that each vendor has."""
        usable = self.goods.usable
        pool = usable[self.plan.draw(NAME, "pool").first(usable, POOL)]
        return [
            np.sort(pool[self.plan.draw(NAME, v.name, "listed").first(pool, LISTED)])
            for v in VENDORS
        ]
