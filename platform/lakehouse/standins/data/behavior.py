"""Customer behaviour events, as a click-stream export delivers them in CSV.

Here: the day's events (two for every order), their text form and their planted faults. Not here:
sessions or attribution derived from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.standins.data import faults, files
from lakehouse.standins.data.customers import Customers
from lakehouse.standins.data.faults import Fault, missing
from lakehouse.standins.data.orders import Orders
from lakehouse.standins.data.plan import CYCLE, DAY_US, Plan
from lakehouse.standins.data.record import Tally

NAME = "customer_behavior"
EVENTS_PER_ORDER, EVENTS_PER_SESSION = 2, 5
ANONYMOUS, UNKNOWN, LATE, MULTI_LINE = 0.01, 0.01, 0.01, 0.02
WRONG, WARNED, AGAIN = 0.008, 0.004, 0.004
EVENT_NAMES = (
    *("page_view",) * 8,
    *("add_to_cart",) * 2,
    *("purchase", "email_open", "email_click", "login", "signup"),
)
DEVICES = ("desktop", "desktop", "mobile", "mobile", "mobile", "tablet")
GEOS = (
    "AT",
    "BR",
    "CA",
    "CN",
    "DE",
    "EG",
    "FR",
    "GB",
    "IN",
    "JP",
    "KE",
    "MA",
    "PE",
    "RO",
    "US",
    "VN",
)
PAGES = (
    *("/", "/search?q=freezer", "/catalog/parts", "/catalog/frozen,chilled"),
    *("/cart", "/checkout", "/account", "/help"),
)
METADATA = (
    '{"campaign": "autumn", "position": 3}',
    '{"campaign": null, "ab_test": "B"}',
    '{"note": "said \\"call me\\"", "score": 0.75}',
    '{"items": [1, 2, 3]}',
    "{}",
)
MULTI_LINE_METADATA = '{\n  "campaign": "autumn",\n  "items": [\n    4,\n    5\n  ]\n}'

FAULTS = (
    Fault("short_row", "", None, ("parsable",), "unreadable"),
    missing("event_id"),
    Fault("wrong_type", "customer_id", "guest-17", ("customer_id_type", "customer_id_not_null")),
    Fault("long_row", "", None, ("parsable",), "unreadable"),
    missing("customer_id"),
    Fault(
        "wrong_type", "event_ts", "2026-13-45T25:61:00.000Z", ("event_ts_type", "event_ts_not_null")
    ),
    missing("event_ts"),
)
NO_ZONE = Fault("no_zone", "event_ts", None, ("event_ts_zone",), "warn")
WARNINGS = (
    NO_ZONE,
    Fault("wrong_value", "event_name", "teleport", ("event_name_accepted_values",), "warn"),
)


@dataclass
class Behavior:
    plan: Plan
    customers: Customers
    orders: Orders

    def deliver(self, index: int) -> tuple[bytes, Tally]:
        """The day's `customer_behavior.csv`."""
        tally = Tally(NAME, self.plan.partition(index))
        low, high = self.orders.slice_of(index)
        rows = EVENTS_PER_ORDER * (high - low)
        # Numbers of events run on from day to day, so that no two events share an id.
        numbers = EVENTS_PER_ORDER * (
            index // CYCLE * len(self.orders.tpch.order_keys) + low
        ) + np.arange(rows)
        table, moments = self._events(numbers, index)
        planted: faults.Planted = []
        if self.plan.faults:
            table, planted = self._spoil(table, numbers, moments, tally, index)
        tally.read = len(table)
        return self._as_csv(table, planted, tally, index), tally

    def _events(self, numbers: np.ndarray, index: int) -> tuple[pa.Table, np.ndarray]:
        draw = self.plan.draw
        sessions = numbers // EVENTS_PER_SESSION
        ids = 1 + draw(NAME, "customer").below(sessions, self.customers.established(index))
        u = draw(NAME, "anonymous").unit(sessions)
        ids = np.where(
            u < ANONYMOUS,
            0,
            np.where(u < ANONYMOUS + UNKNOWN, faults.NEVER_DELIVERED + sessions, ids),
        )
        begins = (
            draw(NAME, "begin").below(sessions, 23 * 3_600_000)
            + (numbers % EVENTS_PER_SESSION) * 41_000
        )
        ms = begins + draw(NAME, "delay").below(numbers, 40_000)
        moments = self.plan.midnight(index) + ms * 1_000
        moments = np.where(draw(NAME, "late").unit(numbers) < LATE, moments - DAY_US, moments)
        product = pa.array(1 + draw(NAME, "part").below(numbers, self.orders.tpch.parts)).cast(
            pa.string()
        )
        pages = draw(NAME, "page").one_of(numbers, PAGES)
        second = pc.if_else(
            pa.array(draw(NAME, "second").unit(numbers) < 0.3),
            pa.scalar(None, pa.string()),
            pc.binary_join_element_wise("https://shop.example.com/p/", product, ""),
        )
        metadata = pc.if_else(
            pa.array(draw(NAME, "multi-line").unit(numbers) < MULTI_LINE),
            MULTI_LINE_METADATA,
            draw(NAME, "metadata").one_of(numbers, METADATA),
        )
        columns = {
            "event_id": pc.binary_join_element_wise("E", pa.array(numbers).cast(pa.string()), ""),
            "customer_id": pa.array(ids).cast(pa.string()),
            "event_name": draw(NAME, "name").one_of(numbers, EVENT_NAMES),
            "event_ts": pc.binary_join_element_wise(_iso(moments), "Z", ""),
            "session_id": pc.binary_join_element_wise(
                "S", pa.array(sessions).cast(pa.string()), ""
            ),
            "device": draw(NAME, "device").one_of(sessions, DEVICES),
            "geo": draw(NAME, "geo").one_of(ids, GEOS),
            "url_1": pc.binary_join_element_wise("https://shop.example.com", pages, ""),
            "url_2": second,
            "metadata": metadata,
        }
        return pa.table(columns), moments

    def _spoil(
        self, table: pa.Table, numbers: np.ndarray, moments: np.ndarray, tally: Tally, index: int
    ) -> tuple[pa.Table, faults.Planted]:
        rows = len(numbers)
        wrong, warned, twice = (faults.how_many(rows, share) for share in (WRONG, WARNED, AGAIN))
        chosen = self.plan.draw(NAME, "roles").first(numbers, wrong + warned + twice)
        planted = faults.distribute(chosen[:wrong], FAULTS, wrong, index)
        planted += faults.distribute(chosen[wrong : wrong + warned], WARNINGS, warned, index)
        for fault, at in planted:
            fault.count(tally, len(at))
        again = chosen[wrong + warned :]
        for at in again:
            tally.repeat(f"E{numbers[at]}", moments[at], 2)
        tally.plant("duplicate", len(again))
        multi_line = pc.sum(pc.match_substring(table.column("metadata"), "\n")).as_py()
        tally.plant("multi_line", multi_line or 0)
        zoneless = next((at for fault, at in planted if fault is NO_ZONE), np.empty(0, np.int64))
        mask = np.zeros(rows, bool)
        mask[zoneless] = True
        at = table.schema.get_field_index("event_ts")
        without = pc.utf8_rtrim(table.column(at), "Z")
        copies = table.take(pa.array(again))
        table = table.set_column(
            at, "event_ts", pc.if_else(pa.array(mask), without, table.column(at))
        )
        in_place = [(f, p) for f, p in planted if f.effect != "unreadable" and f is not NO_ZONE]
        table = faults.spoil_table(table, in_place)
        return pa.concat_tables([table, copies]), planted

    def _as_csv(self, table: pa.Table, planted: faults.Planted, tally: Tally, index: int) -> bytes:
        """Text of all rows; the ones that are to be of the wrong width are cut or lengthened."""
        if self.plan.faults and faults.falls_on(index, faults.BEHAVIOR_WITHOUT_URL_2):
            table = table.drop_columns(["url_2"])
            tally.drift = {"missing": ["url_2"]}
        odd = sorted(
            (int(at), fault.kind)
            for fault, p in planted
            if fault.effect == "unreadable"
            for at in p
        )
        parts = [(",".join(table.column_names) + "\n").encode()]
        start = 0
        for at, kind in odd:
            parts.append(files.csv_lines(table.slice(start, at - start)))
            row = [value or "" for value in table.slice(at, 1).to_pylist()[0].values()][:-1]
            row = row[:-3] if kind == "short_row" else [*row, "{}", "surplus", "fields"]
            parts.append(
                (",".join(f'"{value}"' if "," in value else value for value in row) + "\n").encode()
            )
            start = at + 1
        parts.append(files.csv_lines(table.slice(start)))
        if self.plan.faults and faults.falls_on(index, faults.BYTE_ORDER_MARK):
            parts.insert(0, b"\xef\xbb\xbf")
            tally.plant("byte_order_mark", 1)
        return b"".join(parts)


def _iso(us: np.ndarray) -> pa.Array:
    """`2026-10-05T01:02:03.456`, without a zone."""
    return pc.replace_substring(
        pa.array(us // 1000, pa.timestamp("ms")).cast(pa.string()), " ", "T"
    )
