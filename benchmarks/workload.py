"""The work that every contender does: which files it reads and which tables it leaves.

Belongs here: the delivery, its days, the tables, and the constants of their rules. Does not belong
here: how any contender does the work, or how it is measured.

The work is the commerce part of the lake, fourteen days in one go: Parquet and CSV files from
landing to bronze, silver and gold, with each bad row in quarantine under the names of the rules
that it breaks.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from spark_jobs.contract.model import Contract

PROJECT = Path(__file__).parents[1]
CONTRACTS = PROJECT / "contracts"

DATASETS = ("fx_rates", "customers", "products", "orders", "line_items")
SILVER = tuple(f"silver.{name}" for name in DATASETS)
GOLD = ("gold.dim_customer", "gold.dim_product", "gold.fact_sales", "gold.product_perf_daily")
TABLES = (*(f"bronze.{name}" for name in DATASETS), *SILVER, *GOLD)
# What the platform reads as well: changes of an operational database. They are delivered empty, since
# the work is without one; what follows from them is in nobody's tables.
CAPTURED = ("customer_changes", "loyalty_accounts")
BESIDE = (*(f"bronze.{name}" for name in CAPTURED), "silver.loyalty_accounts")
OF_CAPTURED = ("op", "is_deleted", "position", "loyalty_tier")

START = dt.date(2026, 10, 5)
LONG_START = dt.date(2026, 5, 25)
DAYS = 14

# What the contracts of silver demand. Contenders without contracts have it from here.
CURRENCIES = (
    "USD", "JPY", "BGN", "CYP", "CZK", "DKK", "EEK", "GBP", "HUF", "LTL", "LVL", "MTL", "PLN",
    "ROL", "RON", "SEK", "SIT", "SKK", "CHF", "ISK", "NOK", "HRK", "RUB", "TRL", "TRY", "AUD",
    "BRL", "CAD", "CNY", "HKD", "IDR", "ILS", "INR", "KRW", "MXN", "MYR", "NZD", "PHP", "SGD",
    "THB", "ZAR", "EUR",
)  # fmt: skip
MAJOR_CURRENCIES = ("USD", "EUR", "GBP", "JPY", "CHF", "CAD", "AUD", "NZD")
SEGMENTS = ("AUTOMOBILE", "BUILDING", "FURNITURE", "HOUSEHOLD", "MACHINERY")
EMAIL = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
CARRY_DAYS = 5
MAX_QUARANTINE_RATE = {"bronze": 0.05, "silver": 0.1, "gold": 0.01}

# The columns of bronze, as delivered. Text sources are all text.
DELIVERED: dict[str, dict[str, pa.DataType]] = {
    "fx_rates": dict.fromkeys(("as_of_date", "base_currency", "ccy", "rate"), pa.string()),
}


@dataclass(frozen=True)
class Delivery:
    """Landing files: `landing/<dataset>/<day>/<file>` for `days` days from `start`."""

    folder: Path
    start: dt.date
    days: int

    @property
    def landing(self) -> Path:
        return self.folder / "landing"

    def partitions(self, first: int = 0, end: int | None = None) -> list[str]:
        days = range(first, self.days if end is None else end)
        return [(self.start + dt.timedelta(i)).isoformat() for i in days]

    def bytes_of(self, partition: str) -> int:
        """The size of one day's files."""
        files = (self.landing / name / partition for name in DATASETS)
        return sum(f.stat().st_size for folder in files for f in folder.glob("*"))


def deliver(work: Path, scale: float, start: dt.date = START, days: int = DAYS) -> Delivery:
    """The delivery at a scale of TPC-H, made once and kept below `work`.

    Its rows have the faults of the sample delivery. What is wrong with whole files (a column more
    or less or of another type, CSV records of another width) is repaired, since a one-off script
    that copes with it would be no one-off script any more.
    """
    from lakehouse.standins.data.delivery import deliver as deliver_samples

    delivery = Delivery(work / f"scale-{scale:g}-{start}-{days}", start, days)
    done = delivery.folder / "delivery.json"
    if done.exists():
        return delivery
    raw = delivery.folder / "raw"
    for folder in (raw, delivery.landing):
        shutil.rmtree(folder, ignore_errors=True)
    answers = raw / "answers.json"
    deliver_samples(raw / "landing", answers, scale=scale, start=start, days=days)
    for name in DATASETS:
        for file in sorted((raw / "landing" / name).rglob("*.*")):
            target = delivery.landing / file.relative_to(raw / "landing")
            target.parent.mkdir(parents=True, exist_ok=True)
            _repair(name, file, target)
    for name in CAPTURED:
        for day in delivery.partitions():
            (delivery.landing / name / day).mkdir(parents=True)
            nothing = _physical_schema(name).empty_table()
            pq.write_table(nothing, delivery.landing / name / day / "nothing.parquet")
    shutil.rmtree(raw)
    done.write_text(json.dumps({"scale": scale, "start": str(start), "days": days}))
    return delivery


def _repair(dataset: str, file: Path, target: Path) -> None:
    if file.suffix == ".csv":
        width = len(DELIVERED[dataset])
        lines = file.read_text("utf-8-sig").splitlines(keepends=True)
        target.write_text("".join(line for line in lines if line.count(",") == width - 1))
        return
    schema = _physical_schema(dataset)
    if pq.read_schema(file).remove_metadata().equals(schema):
        shutil.copyfile(file, target)
        return
    table = pq.read_table(file)
    repaired = []
    for field in schema:
        if field.name not in table.column_names:
            repaired.append(pa.nulls(len(table), field.type))
            continue
        column = table.column(field.name)
        if pa.types.is_string(column.type) and pa.types.is_decimal(field.type):
            number = pc.match_substring_regex(column, r"^-?[0-9]+(\.[0-9]+)?$")
            column = pc.if_else(number, column, pa.scalar(None, pa.string()))
        repaired.append(column.cast(field.type))
    pq.write_table(pa.table(repaired, schema=schema), target)


def _physical_schema(dataset: str) -> pa.Schema:
    from spark_jobs.lake.delta import arrow_type

    return pa.schema([(n, arrow_type(t)) for n, t in columns(f"bronze.{dataset}")])


def columns(table: str) -> list[tuple[str, str]]:
    """Names and types of a table's columns, as its contract has them."""
    return [(c.name, c.type) for c in _contracts()[table].columns]


def contracts() -> dict[str, Contract]:
    """The project's contracts; tables of captured changes may be empty."""
    found = dict(_contracts())
    for table in BESIDE:
        gates = found[table].gates.model_copy(update={"min_rows": 0})
        found[table] = replace(found[table], gates=gates)
    return found


@cache
def _contracts() -> dict[str, Contract]:
    from spark_jobs.contract.reader import load_contracts

    return load_contracts(str(CONTRACTS))
