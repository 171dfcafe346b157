"""Customers, as a source with change tracking delivers them: all on the first day, then changes.

Here: the customers' state from day to day, the delivered versions, their planted faults, and which
customers others may refer to. Not here: the history dimension, which the platform builds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from lakehouse.standins.data import faults
from lakehouse.standins.data.faults import Fault, Planted, missing
from lakehouse.standins.data.plan import HOUR_US, Plan, timestamps
from lakehouse.standins.data.record import Tally
from lakehouse.standins.data.tpch import Tpch

NAME = "customers"
SEGMENTS = ("AUTOMOBILE", "BUILDING", "FURNITURE", "HOUSEHOLD", "MACHINERY")
STREETS = (
    "Alder",
    "Birch",
    "Cedar",
    "Elm",
    "Harbour",
    "Juniper",
    "Mill",
    "Oak",
    "Orchard",
    "Station",
)
CHANGED_A_DAY = 0.01
NEW_A_DAY = 0.002
ADDRESS, SEGMENT, EMAIL, COUNTRY, PHONE, BALANCE = range(6)
# One draw of twenty decides what changes.
CHANGES = np.array(
    [ADDRESS] * 7 + [SEGMENT] * 4 + [EMAIL] * 4 + [COUNTRY] * 2 + [PHONE] + [BALANCE] * 2
)

CASCADING = missing("name")
FAULTS = (
    missing("customer_id"),
    missing("updated_at", None, "position_not_null"),
    Fault("wrong_value", "market_segment", "SPACECRAFT", ("market_segment_accepted_values",)),
    missing("name"),
)
BAD_EMAIL = Fault("bad_email", "email", "customer at example.com", ("email_pattern",), "warn")

SCHEMA = pa.schema(
    [
        ("customer_id", pa.int64()),
        ("name", pa.string()),
        ("address", pa.string()),
        ("nation_key", pa.int32()),
        ("country", pa.string()),
        ("region", pa.string()),
        ("phone", pa.string()),
        ("email", pa.string()),
        ("account_balance", pa.decimal128(15, 2)),
        ("market_segment", pa.string()),
        ("comment", pa.string()),
        ("updated_at", pa.timestamp("us", tz="UTC")),
    ]
)


@dataclass
class Customers:
    """Plays the days in order; `deliver(index)` gives the versions that arrive on a day.
    `changed_today` are customers of the first day who changed on the last one, and when."""

    plan: Plan
    tpch: Tpch
    base: dict[str, np.ndarray] = field(init=False)
    count: int = field(init=False)
    unusable: np.ndarray = field(init=False)
    changed_today: dict[int, int] = field(init=False, default_factory=dict)
    _held_back: pa.Table | None = field(init=False, default=None)
    _next: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        table = self.tpch.read("customer")
        self.base = {
            name: table.column(f"c_{name}").to_numpy(zero_copy_only=False)
            for name in ("name", "address", "phone", "comment", "acctbal")
        }
        self.count = len(table)
        nations, regions = (
            self.tpch.read("nation").to_pydict(),
            self.tpch.read("region").to_pydict(),
        )
        self._countries = np.array(nations["n_name"], object)
        self._regions = np.array([regions["r_name"][key] for key in nations["n_regionkey"]], object)
        self._nation = table.column("c_nationkey").to_numpy().astype(np.int32)
        segments = {name: at for at, name in enumerate(SEGMENTS)}
        self._segment = np.array([segments[s] for s in table.column("c_mktsegment").to_pylist()])
        # How often the text attributes have changed; 0 stands for the TPC-H value.
        self._revision = np.zeros((6, self.count), np.int32)
        self._first_day = self._plant_first_day()
        self.unusable = faults.rows_of(self._first_day, self.count, "quarantine")
        self._settled = ~(self.unusable | faults.rows_of(self._first_day, self.count, "warn"))

    @property
    def new_a_day(self) -> int:
        return max(1, round(self.count * NEW_A_DAY))

    def established(self, index: int) -> int:
        """The highest customer id that others may refer to on a day.

        New customers act two days later at the earliest: an order or event may be dated the day
        before its arrival, and its customer's first version should be valid by then.
        """
        return self.count + self.new_a_day * max(0, index - 2)

    def is_unusable(self, ids: np.ndarray) -> np.ndarray:
        """Mask of the ids whose customer never becomes valid (quarantined, or never delivered)."""
        inside = (ids >= 1) & (ids <= self.count)
        return ~((ids > self.count) & (ids < faults.NEVER_DELIVERED) | inside) | (
            inside & self.unusable[np.where(inside, ids - 1, 0)]
        )

    def settled(self) -> np.ndarray:
        """Positions of the customers whose first version is right."""
        return np.flatnonzero(self._settled[: self.count])

    def rows_at(self, at: np.ndarray) -> pa.Table:
        """Customers as they are now, without the time of their change."""
        return self._rows(at, np.zeros(len(at))).drop_columns(["updated_at"])

    def deliver(self, index: int) -> tuple[pa.Table, Tally]:
        """The versions that arrive on the day. Days are asked for in order."""
        while self._next < index:
            self._play(self._next)
        if self._next > index:
            raise ValueError(
                f"customers of day {index} were asked for after those of day {self._next - 1}"
            )
        return self._play(index)

    def _play(self, index: int) -> tuple[pa.Table, Tally]:
        tally = Tally(NAME, self.plan.partition(index))
        table = self._play_first_day(tally) if index == 0 else self._play_changes(index, tally)
        tally.read = len(table)
        self._next = index + 1
        return table, tally

    def _plant_first_day(self) -> Planted:
        if not self.plan.faults:
            return []
        ids = np.arange(1, self.count + 1)
        draw = self.plan.draw(NAME, "faults", 0)
        total = faults.how_many(self.count, 0.006)
        # TPC-H gives no orders to every third customer: their faults stay alone. A few customers
        # with orders are spoiled as well, on purpose: their orders then refer to nobody.
        alone = faults.shuffled(draw, ids, ids % 3 == 0, total + self.count // 500 + 1)
        cascading = faults.shuffled(draw, ids, ids % 3 != 0, max(1, self.count // 2000))
        planted = faults.distribute(alone, FAULTS, total, 0)
        planted.append((CASCADING, cascading))
        planted.append((BAD_EMAIL, alone[total:]))
        return planted

    def _play_first_day(self, tally: Tally) -> pa.Table:
        at = np.arange(self.count)
        table = self._rows(at, self.plan.history(at, NAME))
        for fault, positions in self._first_day:
            fault.count(tally, len(positions))
        moments = table.column("updated_at").cast(pa.int64()).to_numpy()
        table = faults.spoil_table(table, self._first_day)
        if not self.plan.faults:
            return table
        again = faults.shuffled(
            self.plan.draw(NAME, "again", 0), at, self._settled, max(1, self.count // 300)
        )
        for position in again:
            tally.repeat(f"{position + 1}|{moments[position]}", moments[position], 2)
        tally.plant("duplicate", len(again))
        return pa.concat_tables([table, table.take(pa.array(again))])

    def _play_changes(self, index: int, tally: Tally) -> pa.Table:
        """New customers, changed ones, and the version that was held back the day before."""
        late, self._held_back = self._held_back, None
        fresh = self._add_customers()
        draw = self.plan.draw(NAME, "changes", index)
        older = self._settled.copy()
        older[fresh] = False
        changing = faults.shuffled(
            draw, np.arange(len(older)), older, max(3, round(self.count * CHANGED_A_DAY))
        )
        twice = changing[: max(1, len(changing) // 50)] if self.plan.faults else changing[:0]
        once = changing[len(twice) :]
        spoiled = self._spoiled_versions(index, changing, tally)
        # Customers who change twice on the day: the newer version arrives now, the older tomorrow.
        self._change(twice, np.full(len(twice), ADDRESS), index)
        morning = self.plan.midnight(index) + 9 * HOUR_US
        self._held_back = self._rows(twice, np.full(len(twice), morning)) if len(twice) else None
        self._change(twice, np.full(len(twice), SEGMENT), index)
        kinds = CHANGES[self.plan.draw(NAME, "kinds", index).below(once, len(CHANGES))]
        self._change(once, kinds, index)
        at = np.concatenate([fresh, twice, once])
        moments = self.plan.moments(at, f"{NAME}:{index}", index)
        moments[len(fresh) : len(fresh) + len(twice)] = morning + 6 * HOUR_US
        ids, when = at[len(fresh) :] + 1, moments[len(fresh) :]
        self.changed_today = dict(zip(ids.tolist(), when.tolist(), strict=True))
        parts = [self._rows(at, moments), *spoiled]
        if late is not None:
            parts.append(late)
            tally.plant("older_after_newer", len(late))
        return pa.concat_tables(parts)

    def _spoiled_versions(self, index: int, changing: np.ndarray, tally: Tally) -> list[pa.Table]:
        """Versions that are wrong, of customers who did not really change on the day."""
        if not self.plan.faults:
            return []
        others = self._settled.copy()
        others[changing] = False
        total = int(len(changing) * 0.01)
        at = faults.shuffled(
            self.plan.draw(NAME, "faults", index), np.arange(len(others)), others, total
        )
        if not len(at):
            return []
        table = self._rows(at, self.plan.moments(at, f"{NAME}:bad:{index}", index))
        planted = faults.distribute(np.arange(len(at)), FAULTS, total, index)
        for fault, positions in planted:
            fault.count(tally, len(positions))
        return [faults.spoil_table(table, planted)]

    def _add_customers(self) -> np.ndarray:
        """Positions of the day's new customers, each modelled on a TPC-H one."""
        at = np.arange(len(self._nation), len(self._nation) + self.new_a_day)
        ids = at + 1
        self._nation = np.append(
            self._nation, self.plan.draw(NAME, "nation").below(ids, 25).astype(np.int32)
        )
        self._segment = np.append(
            self._segment, self.plan.draw(NAME, "segment").below(ids, len(SEGMENTS))
        )
        revision = np.zeros((6, len(at)), np.int32)
        revision[[ADDRESS, PHONE]] = 1
        self._revision = np.concatenate([self._revision, revision], axis=1)
        self._settled = np.append(self._settled, np.ones(len(at), bool))
        return at

    def _change(self, at: np.ndarray, kinds: np.ndarray, index: int) -> None:
        self._revision[kinds, at] += 1
        moved, regrouped = at[kinds == COUNTRY], at[kinds == SEGMENT]
        step = self.plan.draw(NAME, "step", index)
        self._nation[moved] = (self._nation[moved] + 1 + step.below(moved, 24)) % 25
        self._segment[regrouped] = (self._segment[regrouped] + 1 + step.below(regrouped, 4)) % len(
            SEGMENTS
        )

    def _rows(self, at: np.ndarray, moments: np.ndarray) -> pa.Table:
        """The current state of the customers at these positions as delivered rows."""
        model = at % self.count
        ids = at + 1
        revision = self._revision[:, at]
        address = self.base["address"][model].copy()
        phone = self.base["phone"][model].copy()
        for i in np.flatnonzero(revision[ADDRESS]):
            number = int(
                self.plan.draw(NAME, "street", revision[ADDRESS][i]).below(ids[i : i + 1], 9_000)[0]
            )
            address[i] = f"{number + 1} {STREETS[number % len(STREETS)]} Street"
        for i in np.flatnonzero(revision[PHONE]):
            number = int(
                self.plan.draw(NAME, "phone", revision[PHONE][i]).below(ids[i : i + 1], 10_000_000)[
                    0
                ]
            )
            phone[i] = (
                f"{10 + self._nation[at[i]]}-{100 + number % 900}"
                f"-{number // 10_000:03d}-{number % 10_000:04d}"
            )
        mailbox = [
            f"customer{n}@example.com" if not r else f"customer{n}.{r + 1}@example.net"
            for n, r in zip(ids.tolist(), revision[EMAIL].tolist(), strict=True)
        ]
        balance = [
            b + 100 * r
            for b, r in zip(self.base["acctbal"][model], revision[BALANCE].tolist(), strict=True)
        ]
        columns = [
            ids,
            [f"Customer#{n:09d}" for n in ids.tolist()],
            address,
            self._nation[at],
            self._countries[self._nation[at]],
            self._regions[self._nation[at]],
            phone,
            mailbox,
            balance,
            np.array(SEGMENTS, object)[self._segment[at]],
            self.base["comment"][model],
            timestamps(moments),
        ]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
        return pa.Table.from_arrays(arrays, schema=SCHEMA)
