"""Accounts, contacts, opportunities and leads, as a Salesforce-shaped source delivers them in JSON
lines.

Here: which record arrives or changes when, the planted faults, and which records follow a lost
account into quarantine. Not here: the records' contents (`crm_records.py`).

Records are numbered: account j belongs to one TPC-H customer and has the contacts and the
opportunities 2j and 2j + 1. Leads belong to nobody. Everything about a record follows from its
number and the day.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, gcd
from typing import Any

import numpy as np

from lakehouse.standins.data import crm_records, faults, files
from lakehouse.standins.data.customers import Customers
from lakehouse.standins.data.faults import Fault, Planted, missing
from lakehouse.standins.data.plan import CYCLE, Plan
from lakehouse.standins.data.record import Tally

ACCOUNTS, CONTACTS, OPPORTUNITIES = "accounts", "contacts", "opportunities"
LEADS = "leads"
ALONE = (ACCOUNTS, LEADS)
"""What is counted by itself, as many of each."""
SHARE_OF_CUSTOMERS, ON_FIRST_DAY = 0.20, 0.70
CHANGED_A_DAY = {ACCOUNTS: 0.15, CONTACTS: 0.08, OPPORTUNITIES: 0.15, LEADS: 0.15}
WRONG, WARNED, AGAIN = 0.012, 0.004, 0.004

CUT_SHORT = Fault("unparsable", "", None, ("parsable",), "unreadable")
NO_MODSTAMP = missing("SystemModstamp", "system_modstamp")
NO_ACCOUNT = Fault(
    "orphan", "AccountId", crm_records.account_id(faults.NEVER_DELIVERED), ("account_id_reference",)
)
FAULTS: dict[str, tuple[Fault, ...]] = {
    ACCOUNTS: (
        CUT_SHORT,
        missing("Name", "name"),
        Fault("wrong_type", "AnnualRevenue", "about 5M", ("annual_revenue_type",)),
        missing("Id", "account_id"),
        Fault("wrong_type", "Customer_Id__c", "see notes", ("customer_id_type",)),
        NO_MODSTAMP,
    ),
    CONTACTS: (
        CUT_SHORT,
        NO_ACCOUNT,
        missing("AccountId", "account_id"),
        missing("Id", "contact_id"),
        NO_MODSTAMP,
    ),
    OPPORTUNITIES: (
        Fault("wrong_type", "Amount", "TBD", ("amount_type",)),
        CUT_SHORT,
        Fault("negative", "Amount", -2500.0, ("amount_range",)),
        Fault("wrong_type", "CloseDate", "end of quarter", ("close_date_type",)),
        NO_ACCOUNT,
        Fault("out_of_range", "Probability", 150, ("probability_range",)),
        missing("Id", "opportunity_id"),
        missing("AccountId", "account_id"),
        NO_MODSTAMP,
    ),
    LEADS: (
        missing("Company", "company"),
        CUT_SHORT,
        missing("Id", "lead_id"),
        NO_MODSTAMP,
        missing("Status", "status"),
    ),
}
WARNINGS: dict[str, Fault] = {
    ACCOUNTS: Fault(
        "orphan", "Customer_Id__c", faults.NEVER_DELIVERED + 3, ("customer_id_reference",), "warn"
    ),
    CONTACTS: Fault("bad_email", "Email", "name(at)example.com", ("email_pattern",), "warn"),
    OPPORTUNITIES: Fault("wrong_value", "StageName", "Hopeful", ("stage_accepted_values",), "warn"),
    LEADS: Fault("bad_email", "Email", "lead at example", ("email_pattern",), "warn"),
}


@dataclass
class Crm:
    plan: Plan
    customers: Customers
    _first_faults: dict[str, Planted] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        everyone = self.customers.count
        self._on_first_day = max(2, round(everyone * SHARE_OF_CUSTOMERS * ON_FIRST_DAY))
        rest = everyone * SHARE_OF_CUSTOMERS * (1 - ON_FIRST_DAY)
        self._new_a_day = max(1, ceil(rest / (CYCLE - 1)))
        # A step without a common factor visits every customer once before any a second time.
        step = int(everyone * 0.618) | 1
        while gcd(step, everyone) > 1:
            step += 2
        self._step = step
        self.lost_accounts = np.zeros(self._on_first_day, bool)
        for dataset in FAULTS:
            numbers = self._arriving(dataset, 0)
            planted = self._plant(dataset, numbers, ~self._orphaned(dataset, numbers), 0)
            self._first_faults[dataset] = planted
            if dataset == ACCOUNTS:
                self.lost_accounts = faults.rows_of(
                    planted, len(numbers), "quarantine", "unreadable"
                )

    def customer_of(self, accounts: np.ndarray) -> np.ndarray:
        return accounts * self._step % self.customers.count + 1

    def deliver(self, dataset: str, index: int) -> tuple[bytes, Tally]:
        """The day's lines: new records, changed ones, exact copies, and spoiled versions."""
        tally = Tally(dataset, self.plan.partition(index))
        new, changed = self._arriving(dataset, index), self._changing(dataset, index)
        created = self._created(dataset, new, index)
        records = self._records(dataset, new, created, created)
        modified = self.plan.moments(changed, f"{dataset}:{index}", index)
        records += self._records(
            dataset, changed, self._created_before(dataset, changed, index), modified
        )
        numbers, moments = np.concatenate([new, changed]), np.concatenate([created, modified])
        self._count_versions(dataset, changed, modified, index, tally)
        orphaned = self._orphaned(dataset, numbers)
        tally.quarantine(int(orphaned.sum()), ["account_id_reference"])
        planted = self._first_faults[dataset] if index == 0 else []
        if self.plan.faults:
            busy = orphaned | faults.rows_of(
                planted, len(numbers), "quarantine", "unreadable", "warn"
            )
            records += self._copies(dataset, records, numbers, moments, busy, tally, index)
            if index:
                extra, planted = self._spoiled(dataset, numbers, index, len(records))
                records += extra
        if dataset == ACCOUNTS:
            self._count_unknown_customers(records, planted, tally)
            if self.plan.faults and faults.falls_on(index, faults.ACCOUNTS_EXTRA_FIELD):
                tally.drift = {"extra": ["Rating"]}
                for record in records:
                    record["Rating"] = "Hot" if record["AnnualRevenue"] > 20_000_000 else "Warm"
        cut = faults.spoil_records(records, planted)
        for fault, at in planted:
            fault.count(tally, len(at))
        tally.read = len(records)
        return files.json_lines(records, cut), tally

    def _accounts_by(self, index: int) -> int:
        """How many accounts have arrived by the end of the day."""
        return self._on_first_day + self._new_a_day * index if index >= 0 else 0

    def _account_day(self, accounts: np.ndarray) -> np.ndarray:
        later = 1 + (accounts - self._on_first_day) // self._new_a_day
        return np.where(accounts < self._on_first_day, 0, later)

    def _day_of(self, dataset: str, numbers: np.ndarray) -> np.ndarray:
        """The day of first arrival. Every second opportunity comes days after its account."""
        if dataset in ALONE:
            return self._account_day(numbers)
        days = self._account_day(numbers // 2)
        if dataset == OPPORTUNITIES:
            days = days + (numbers % 2) * (
                1 + self.plan.draw("opportunity lag").below(numbers, CYCLE - 1)
            )
        return days

    def _arrived_by(self, dataset: str, index: int) -> np.ndarray:
        accounts = self._accounts_by(index)
        numbers = np.arange(accounts if dataset in ALONE else 2 * accounts)
        return numbers[self._day_of(dataset, numbers) <= index]

    def _arriving(self, dataset: str, index: int) -> np.ndarray:
        numbers = self._arrived_by(dataset, index)
        return numbers[self._day_of(dataset, numbers) == index]

    def _changing(self, dataset: str, index: int) -> np.ndarray:
        """Records delivered before, intact then, that change today."""
        if index == 0:
            return np.empty(0, np.int64)
        numbers = self._intact(dataset, self._arrived_by(dataset, index - 1))
        return numbers[
            self.plan.draw(dataset, "changes", index).unit(numbers) < CHANGED_A_DAY[dataset]
        ]

    def _intact(self, dataset: str, numbers: np.ndarray) -> np.ndarray:
        """Without the records that first arrived spoiled, and those of lost accounts."""
        spoiled = [self._arriving(dataset, 0)[at] for _, at in self._first_faults[dataset]]
        keep = ~self._orphaned(dataset, numbers)
        return numbers[keep & ~np.isin(numbers, np.concatenate([*spoiled, np.empty(0, np.int64)]))]

    def _orphaned(self, dataset: str, numbers: np.ndarray) -> np.ndarray:
        """Mask of the records whose account was lost on the first day."""
        if dataset in ALONE:
            return np.zeros(len(numbers), bool)
        accounts = numbers // 2
        inside = accounts < len(self.lost_accounts)
        return inside & self.lost_accounts[np.where(inside, accounts, 0)]

    def _created(self, dataset: str, numbers: np.ndarray, index: int) -> np.ndarray:
        if index == 0:
            return self.plan.history(numbers, dataset)
        return self.plan.moments(numbers, f"{dataset}:new", index)

    def _created_before(self, dataset: str, numbers: np.ndarray, index: int) -> np.ndarray:
        days = self._day_of(dataset, numbers)
        created = self.plan.history(numbers, dataset)
        for day in range(1, index):
            there = days == day
            created[there] = self._created(dataset, numbers[there], day)
        return created

    def _count_versions(
        self, dataset: str, changed: np.ndarray, modified: np.ndarray, index: int, tally: Tally
    ) -> None:
        created, days = (
            self._created_before(dataset, changed, index),
            self._day_of(dataset, changed),
        )
        for number, moment, first, day in zip(
            changed.tolist(), modified.tolist(), created.tolist(), days.tolist(), strict=True
        ):
            key = crm_records.record_id(dataset, number)
            tally.repeat(key, moment)
            tally.follows(key, self.plan.partition(day), first)

    def _records(
        self, dataset: str, numbers: np.ndarray, created: np.ndarray, modified: np.ndarray
    ) -> list[dict[str, Any]]:
        draw = self.plan.draw(dataset, "content")
        if dataset == ACCOUNTS:
            return crm_records.accounts(numbers, self.customer_of(numbers), created, modified, draw)
        if dataset == CONTACTS:
            return crm_records.contacts(numbers, created, modified, draw)
        if dataset == LEADS:
            return crm_records.leads(numbers, created, modified, draw)
        return crm_records.opportunities(numbers, created, modified, draw)

    def _plant(self, dataset: str, numbers: np.ndarray, usable: np.ndarray, index: int) -> Planted:
        if not self.plan.faults:
            return []
        wrong, warned = faults.how_many(len(numbers), WRONG), faults.how_many(len(numbers), WARNED)
        at = faults.shuffled(
            self.plan.draw(dataset, "faults", index), numbers, usable, wrong + warned
        )
        kinds = FAULTS[dataset]
        return [
            *faults.distribute(at[:wrong], kinds, wrong, index),
            (WARNINGS[dataset], at[wrong:]),
        ]

    def _spoiled(
        self, dataset: str, today: np.ndarray, index: int, offset: int
    ) -> tuple[list[dict[str, Any]], Planted]:
        """Spoiled versions of records that did not change today, to come after `offset` others."""
        numbers = self._intact(dataset, self._arrived_by(dataset, index - 1))
        numbers = numbers[~np.isin(numbers, today)]
        wrong = min(faults.how_many(len(today), WRONG), len(numbers))
        at = self.plan.draw(dataset, "faults", index).first(numbers, wrong)
        numbers = numbers[at]
        moments = self.plan.moments(numbers, f"{dataset}:bad:{index}", index)
        records = self._records(
            dataset, numbers, self._created_before(dataset, numbers, index), moments
        )
        return records, faults.distribute(offset + np.arange(wrong), FAULTS[dataset], wrong, index)

    def _copies(
        self,
        dataset: str,
        records: list[dict[str, Any]],
        numbers: np.ndarray,
        moments: np.ndarray,
        busy: np.ndarray,
        tally: Tally,
        index: int,
    ) -> list[dict[str, Any]]:
        wanted = faults.how_many(len(numbers), AGAIN)
        again = faults.shuffled(self.plan.draw(dataset, "again", index), numbers, ~busy, wanted)
        for at in again:
            tally.repeat(crm_records.record_id(dataset, int(numbers[at])), moments[at], 2)
        tally.plant("duplicate", len(again))
        return [dict(records[at]) for at in again]

    def _count_unknown_customers(
        self, records: list[dict[str, Any]], planted: Planted, tally: Tally
    ) -> None:
        """Accounts of quarantined customers, unless their customer id is itself spoiled."""
        unknown = self.customers.is_unusable(
            np.array([r["Customer_Id__c"] for r in records], np.int64)
        )
        for fault, at in planted:
            if fault.column == "Customer_Id__c" or fault.effect == "unreadable":
                unknown[at] = False
        tally.breaks(int(unknown.sum()), ["customer_id_reference"])
