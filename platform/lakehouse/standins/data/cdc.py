"""Changes in an operational database, as DMS writes them to a bucket in Parquet.

Here: the database `source_db` (customers, addresses, loyalty accounts) from day to day, its log of
committed transactions, and the files of a full load and of change data capture. Not here: what wins
when both this database and others deliver a customer.

As a task with `PreserveTransactions`, a `TimestampColumnName`, `IncludeOpForFullLoad` and the header
`AR_H_CHANGE_SEQ` writes them: `Op` is I, U or D; `change_seq` orders changes by their commit and is
missing in a full load; `commit_ts` is text. Rows of a file are in the order of their statements,
which is not that of their commits. An update of a primary key is a delete and an insert at one
position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.standins.data import customers
from lakehouse.standins.data.customers import Customers
from lakehouse.standins.data.faults import Fault, missing
from lakehouse.standins.data.plan import HOUR_US, Plan
from lakehouse.standins.data.record import Tally

CUSTOMERS, ADDRESSES, LOYALTY = "customer_changes", "addresses", "loyalty_accounts"
EVERY = 5
"""Every so manieth customer of the first day is in this database too."""
OWN = 7_000_000_000
"""Keys from here on are of customers that only this database has."""
TIERS = ("BRONZE", "BRONZE", "BRONZE", "SILVER", "SILVER", "GOLD", "PLATINUM")
CITIES = ("Vienna", "Lyon", "Leeds", "Denver", "Osaka", "Porto Alegre", "Montréal", "Turin")
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the database writes UTC without a zone

HEAD = [("Op", pa.string()), ("change_seq", pa.string()), ("commit_ts", pa.string())]
COLUMNS: dict[str, list[tuple[str, pa.DataType]]] = {
    CUSTOMERS: [(f.name, f.type) for f in customers.SCHEMA if f.name != "updated_at"],
    ADDRESSES: [
        ("address_id", pa.int64()),
        ("customer_id", pa.int64()),
        ("street", pa.string()),
        ("city", pa.string()),
        ("postal_code", pa.string()),
        ("is_default", pa.bool_()),
    ],
    LOYALTY: [
        ("loyalty_id", pa.int64()),
        ("customer_id", pa.int64()),
        ("tier", pa.string()),
        ("points", pa.int64()),
    ],
}
KEYS = {CUSTOMERS: "customer_id", ADDRESSES: "address_id", LOYALTY: "loyalty_id"}
BAD_OP = Fault("wrong_value", "Op", "X", ("op_accepted_values",))
FAULTS: dict[str, tuple[Fault, ...]] = {
    CUSTOMERS: (missing("commit_ts", "updated_at"), BAD_OP, missing("name")),
    ADDRESSES: (
        BAD_OP,
        missing("customer_id"),
        Fault("wrong_type", "commit_ts", "soon", ("updated_at_type", "updated_at_not_null")),
    ),
    LOYALTY: (
        Fault("wrong_value", "tier", "COPPER", ("tier_accepted_values",)),
        missing("commit_ts", "valid_from"),
        BAD_OP,
    ),
}


@dataclass(frozen=True)
class Change:
    """A row of a file; `seq` is its place among all changes, 0 in a full load."""

    op: str
    seq: int
    commit_us: int
    row: dict[str, Any]

    def written(self) -> dict[str, Any]:
        at = EPOCH + timedelta(microseconds=self.commit_us)
        position = f"{at:%Y%m%d%H%M%S}{at.microsecond // 10_000:02d}{self.seq:019d}"
        return {
            "Op": self.op,
            "change_seq": position if self.seq else None,
            "commit_ts": f"{at:%Y-%m-%d %H:%M:%S.%f}",
            **self.row,
        }

    @property
    def order(self) -> int:
        """Of two changes of a key the greater wins; of two at one position the one that stays."""
        at = EPOCH + timedelta(microseconds=self.commit_us)
        position = int(f"{at:%Y%m%d%H%M%S}{at.microsecond // 10_000:02d}{self.seq:019d}")
        return 2 * position + (self.op != "D")


Files = dict[str, pa.Table]


def _beaten_at_once(changes: list[Change]) -> list[Change]:
    """Changes of a row that the same transaction changes again."""
    last: dict[tuple[Any, int], int] = {}
    for c in changes:
        key = c.row["loyalty_id"], c.commit_us
        last[key] = max(c.seq, last.get(key, 0))
    return [c for c in changes if c.seq < last[c.row["loyalty_id"], c.commit_us]]


@dataclass
class SourceDb:
    """Plays the days in order; `deliver(dataset, index)` gives the files that arrive on a day."""

    plan: Plan
    customers: Customers
    _rows: dict[str, dict[int, dict[str, Any]]] = field(init=False)
    _seq: int = field(init=False, default=0)
    _next: int = field(init=False, default=0)
    _log: dict[str, list[Change]] = field(init=False, default_factory=dict)
    _held: list[Change] = field(init=False, default_factory=list)
    _late: list[Change] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._rows = {name: {} for name in COLUMNS}

    def play(self, index: int) -> None:
        """Lets a day pass, after that of the customers. Days are played in order."""
        if index != self._next:
            raise ValueError(f"day {index} was asked for after day {self._next - 1}")
        self._log = {name: [] for name in COLUMNS}
        if index == 0:
            self._load()
        self._transactions(index)
        self._late, self._held = self._held, self._to_hold_back()
        self._next += 1

    def deliver(self, dataset: str, index: int) -> tuple[Files, Tally]:
        """The day's files, after `play`."""
        tally = Tally(dataset, self.plan.partition(index))
        log = self._log[dataset]
        loaded = [c for c in log if not c.seq]
        changed = self._in_order_of_statements(dataset, [c for c in log if c.seq], index)
        if dataset == ADDRESSES:
            changed = [*(c for c in changed if c not in self._held), *self._late]
            tally.plant("older_after_newer", len(self._late))
        beaten = _beaten_at_once(changed) if dataset == LOYALTY else []
        tally.filtered = len(beaten)
        for change in (c for c in (*loaded, *changed) if c not in beaten):
            tally.repeat(self._key(dataset, change), change.order)
        if dataset == CUSTOMERS:
            self._repeat_warehouse(changed, tally)
        # What arrives in the later file: a task that was restarted wrote some changes again.
        half = len(changed) // 2
        again = [c for c in changed[:half] if c not in beaten][-1:] if self.plan.faults else []
        for change in again:
            tally.repeat(self._key(dataset, change), change.order, 2)
        tally.plant("duplicate", len(again))
        spoiled = self._spoiled(dataset, index, tally) if self.plan.faults else []
        day = self.plan.partition(index).replace("-", "")
        parts = {
            f"{day}-100000000.parquet": [c.written() for c in changed[:half]],
            f"{day}-220000000.parquet": [c.written() for c in (*again, *changed[half:])] + spoiled,
        }
        if loaded:
            parts["LOAD00000001.parquet"] = [c.written() for c in loaded]
        tally.read = sum(len(rows) for rows in parts.values())
        schema = pa.schema([*HEAD, *COLUMNS[dataset]])
        return {n: pa.Table.from_pylist(rows, schema) for n, rows in parts.items() if rows}, tally

    def _key(self, dataset: str, change: Change) -> str:
        key = str(change.row[KEYS[dataset]])
        # Of customers and accounts every version stays.
        return key if dataset == ADDRESSES else f"{key}|{change.commit_us}"

    # -- the database ------------------------------------------------------------------------

    def _load(self) -> None:
        """All rows at the moment of the full load, two hours into the first day."""
        at = self.plan.midnight(0) + 2 * HOUR_US
        members = self.customers.settled()
        members = members[members % EVERY == 0]
        for row in self.customers.rows_at(members).to_pylist():
            self._rows[CUSTOMERS][row["customer_id"]] = row
        for id_ in (members + 1).tolist():
            for n in (0, 1):
                self._rows[ADDRESSES][10 * id_ + n] = self._address(10 * id_ + n, id_, 0)
            self._rows[LOYALTY][500_000 + id_] = self._account(500_000 + id_, id_, 0)
        for name, rows in self._rows.items():
            self._log[name] += [Change("I", 0, at, dict(row)) for row in rows.values()]

    def _transactions(self, index: int) -> None:
        """The day's transactions, from 04:00 on."""
        known = [k for k in sorted(self._rows[CUSTOMERS]) if k < OWN]
        draw = self.plan.draw(CUSTOMERS, "who", index)
        count = max(12, len(known) // 10)
        chosen = [known[i] for i in draw.first(np.array(known), count).tolist()]
        moved = chosen[: count // 2]
        # A change that the warehouse takes from here has the moment of its commit there too.
        taken = {
            k: at for k, at in self.customers.changed_today.items() if k in self._rows[CUSTOMERS]
        }
        begin = self.plan.midnight(index) + 4 * HOUR_US
        work: list[tuple[int, Callable[[int, int, int], None], int]] = [
            *((begin + n * 21_000_000, self._customer_changes, k) for n, k in enumerate(moved)),
            *((begin + n * 17_000_000, self._address_changes, k) for n, k in enumerate(chosen)),
            *((begin + n * 13_000_000, self._account_changes, k) for n, k in enumerate(chosen)),
            (begin, self._own_customer, OWN + index * 10),
            *((at, self._customer_changes, k) for k, at in taken.items() if k not in moved),
        ]
        for at, act, key in sorted(work, key=lambda w: w[0]):
            act(key, at, index)

    def _commit(
        self, name: str, op: str, row: dict[str, Any], at: int, *, with_last: bool = False
    ) -> None:
        self._seq += not with_last
        self._log[name].append(Change(op, self._seq, at, dict(row)))
        if op == "D":
            del self._rows[name][row[KEYS[name]]]
        else:
            self._rows[name][row[KEYS[name]]] = dict(row)

    def _rename(self, name: str, old: dict[str, Any], new: dict[str, Any], at: int) -> None:
        """An update of the primary key: a delete and an insert at one position."""
        self._commit(name, "D", old, at)
        self._commit(name, "I", new, at, with_last=True)

    def _customer_changes(self, id_: int, at: int, index: int) -> None:
        """Two updates in one transaction: the second is the one that counts."""
        row = self._rows[CUSTOMERS][id_]
        self._commit(CUSTOMERS, "U", row | {"phone": f"99-{index:03d}-000-{id_ % 10_000:04d}"}, at)
        row = self._rows[CUSTOMERS][id_]
        mailbox = f"customer{id_}.d{index}@example.org"
        self._commit(CUSTOMERS, "U", row | {"email": mailbox}, at)

    def _address_changes(self, id_: int, at: int, index: int) -> None:
        """The first address is changed; the second gets another key, goes, or comes back."""
        first, second = 10 * id_, 10 * id_ + 1
        self._commit(ADDRESSES, "U", self._address(first, id_, index), at)
        there, moved = self._rows[ADDRESSES].get(second), self._rows[ADDRESSES].get(second + 1)
        if there is not None and id_ % 2:
            self._rename(ADDRESSES, there, there | {"address_id": second + 1}, at)
        elif there is not None:
            self._commit(ADDRESSES, "D", there, at)
        elif moved is not None:
            self._rename(ADDRESSES, moved, moved | {"address_id": second}, at)
        else:
            self._commit(ADDRESSES, "I", self._address(second, id_, index), at)

    def _account_changes(self, id_: int, at: int, index: int) -> None:
        account = self._rows[LOYALTY].get(500_000 + id_)
        if account is None:
            self._commit(LOYALTY, "I", self._account(500_000 + id_, id_, index), at)
        elif (id_ + index) % 7 == 0:
            self._commit(LOYALTY, "D", account, at)
        else:
            self._commit(LOYALTY, "U", account | {"points": account["points"] + 10}, at)
            row = self._account(500_000 + id_, id_, index) | {"points": account["points"] + 250}
            self._commit(LOYALTY, "U", row, at)

    def _own_customer(self, id_: int, at: int, index: int) -> None:
        """A customer registers here; the one of the day before gets another key, the one of the day
        before that leaves."""
        model = self.customers.rows_at(np.array([index % self.customers.count])).to_pylist()[0]
        name = f"Customer#{id_}"
        self._commit(CUSTOMERS, "I", model | {"customer_id": id_, "name": name}, at)
        before = self._rows[CUSTOMERS].get(id_ - 10)
        if before is not None:
            self._rename(CUSTOMERS, before, before | {"customer_id": id_ - 9}, at)
        leaving = self._rows[CUSTOMERS].get(id_ - 19)
        if leaving is not None:
            self._commit(CUSTOMERS, "D", leaving, at)

    def _address(self, key: int, customer: int, index: int) -> dict[str, Any]:
        n = int(self.plan.draw(ADDRESSES, index).below(np.array([key]), 9_000)[0])
        return {
            "address_id": key,
            "customer_id": customer,
            "street": f"{n % 200 + 1} {customers.STREETS[n // 200 % len(customers.STREETS)]} Lane",
            "city": CITIES[n % len(CITIES)],
            "postal_code": f"{10_000 + n}",
            "is_default": key % 10 == 0,
        }

    def _account(self, key: int, customer: int, index: int) -> dict[str, Any]:
        n = int(self.plan.draw(LOYALTY, index).below(np.array([key]), 7_000)[0])
        return {
            "loyalty_id": key,
            "customer_id": customer,
            "tier": TIERS[n % len(TIERS)],
            "points": n % 1_000,
        }

    # -- the files ---------------------------------------------------------------------------

    def _in_order_of_statements(
        self, dataset: str, changes: list[Change], index: int
    ) -> list[Change]:
        """Statements of transactions that run side by side stand between each other's."""
        near = self.plan.draw(dataset, "statements", index)
        at = np.arange(len(changes)) + 3 * near.unit(np.arange(len(changes)))
        return [changes[i] for i in np.argsort(at, kind="stable").tolist()]

    def _to_hold_back(self) -> list[Change]:
        """The changes of one transaction that arrive a day late, when newer ones of the same keys may
        be there."""
        changes = [c for c in self._log[ADDRESSES] if c.seq]
        if not self.plan.faults or not changes:
            return []
        held = changes[len(changes) // 3].commit_us
        return [c for c in changes if c.commit_us == held]

    def _repeat_warehouse(self, changed: list[Change], tally: Tally) -> None:
        """The versions that the warehouse delivers too, of the same moment: they lose."""
        delivered = self.customers.changed_today
        for change in changed:
            id_ = change.row["customer_id"]
            if delivered.get(id_) == change.commit_us:
                tally.follows(self._key(CUSTOMERS, change), tally.partition, change.commit_us)

    def _spoiled(self, dataset: str, index: int, tally: Tally) -> list[dict[str, Any]]:
        """One record that is wrong, of a row that did not change: every day another fault."""
        fault = FAULTS[dataset][index % len(FAULTS[dataset])]
        touched = {c.row[KEYS[dataset]] for c in self._log[dataset]} if index else set()
        row = next(r for k, r in self._rows[dataset].items() if k not in touched)
        at = self.plan.midnight(index) + 21 * HOUR_US
        record = Change("U", 9_000_000 + index, at, row).written()
        fault.count(tally, 1)
        record[fault.column] = fault.value
        return [record]
