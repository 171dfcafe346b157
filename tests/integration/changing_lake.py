"""A tiny lake that everything happens to: its inputs, its functions and its rules change.

Belongs here: the tables of that lake, what can happen to it, and a fresh lake built once from what
it came to. Does not belong here: what is drawn, and what has to hold (test_final_inputs.py).
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.lakes import (
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    TinyLake,
    bronze,
    column,
    contract,
    copied,
    rule,
)

DAYS = (MONDAY, TUESDAY, WEDNESDAY)
# Upstream first.
TABLES = ("silver.rates", "silver.refs", "silver.latest", "silver.history", "gold.facts",
          "gold.daily")  # fmt: skip
_lakes = itertools.count()
_OPEN = {"min_rows": 0, "max_quarantine_rate": 1.0}
_TIME = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)

_LATEST = """
    from pyspark.sql import functions as F
    from spark_jobs.columns import LINEAGE

    def transform(feed, rates):
        rate = rates.select(F.col("ccy").alias("_ccy"), "rate")
        joined = feed.join(rate, F.col("ccy") == F.col("_ccy"), "left")
        value = (F.col("amount") * F.col("rate") * {factor}).cast("bigint")
        return joined.select(
            *LINEAGE, "id", "at", "gone", "ref", "ccy", "amount", value.alias("value"))
"""
_FACTS = """
    from pyspark.sql import functions as F
    from spark_jobs.columns import LINEAGE

    def transform(latest):
        left_out = F.when(F.col("gone"), F.lit("deleted")).when(F.col("ref") == "{left_out}", "ref")
        day = F.to_date(F.col("at"))
        return latest.select(
            *LINEAGE, "id", "at", day.alias("day"), "value", left_out.alias("_filtered"))
"""
_DAILY = """
    from pyspark.sql import functions as F

    def transform(facts):
        return facts.groupBy("day").agg(
            F.max("_partition").alias("_partition"),
            F.count("*").cast("bigint").alias("_rows"),
            F.count("*").cast("bigint").alias("n"),
            F.sum("value").cast("bigint").alias("total"),
        )
"""


RATES = {"table": "silver.rates", "read": "lookup", "affects": "rates.ccy = latest.ccy"}


def at(hour: int) -> dt.datetime:
    """Three times, on two days."""
    return _TIME + dt.timedelta(hours=12 * hour)


@dataclass
class Code:
    """What of the project can change: a factor and a filter of functions, bounds of rules."""

    factor: int = 1
    left_out: str = "-"
    most_amount: int = 9
    most_value: int = 50
    most_total: int = 500


@dataclass
class ChangingLake:
    """`inputs` holds what was delivered last, by bronze table and day."""

    lake: TinyLake
    inputs: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    code: Code = field(default_factory=Code)

    @classmethod
    def new(cls, shared: TinyLake) -> ChangingLake:
        """A lake without rows, below the folder of `shared`, with its contracts and transforms."""
        out = cls(_zones_of_its_own(shared))
        out.inputs = {
            t: {d: [] for d in DAYS} for t in ("bronze.feed", "bronze.rates", "bronze.refs")
        }
        _define(out.lake, out.code)
        for table, days in out.inputs.items():
            out.lake.given(table, days)
        return out

    def deliver(self, table: str, day: str, rows: list[dict[str, Any]]) -> None:
        """A day as its source has it now: late, corrected, or with fewer rows."""
        self.inputs[table][day] = rows
        self.lake.given(table, self.inputs[table])

    def change(self, what: str, value: Any) -> None:
        """Another version of a function or a rule."""
        setattr(self.code, what, value)
        _define(self.lake, self.code)

    def run(self, table: str, days: Iterable[str], *, force: bool = False) -> None:
        report = self.lake.run(table, *days, force=force)
        for p in report.partitions:
            assert p.counts.read == p.counts.accounted
            assert p.status != "failed" or "has no published partition" in p.error, p.error

    def settle(self) -> None:
        """Runs whatever is stale."""
        for table in TABLES:
            self.run(table, DAYS)

    def built_once(self) -> TinyLake:
        """A fresh lake of the same inputs and code."""
        once = _zones_of_its_own(self.lake)
        for table, days in self.inputs.items():
            once.given(table, days)
        for table in TABLES:
            report = once.run(table, *DAYS)
            assert not report.failed, report.failed
        return once


def _zones_of_its_own(lake: TinyLake) -> TinyLake:
    name = f"changing{next(_lakes)}"
    zones = {z: str(lake.root / name / z) for z in lake.zones}
    return TinyLake(lake.root, lake.engine, zones=zones)


def _define(lake: TinyLake, code: Code) -> None:
    time = column("at", "timestamp", required=True)
    gone = column("gone", "boolean")
    many = {"physicalPartition": "none", "gates": _OPEN}

    def upsert(**more: str) -> dict[str, str]:
        return {"mode": "upsert", "sequence": "at", **more}

    feed = {"id": "bigint", "at": "timestamp", "gone": "boolean", "ref": "string", "ccy": "string",
            "amount": "bigint"}  # fmt: skip
    lake.define(bronze("feed", "parquet", *(column(n, t) for n, t in feed.items())))
    rates = {"ccy": "string", "at": "timestamp", "rate": "bigint"}
    lake.define(bronze("rates", "parquet", *(column(n, t) for n, t in rates.items())))
    refs = {"ref": "string", "at": "timestamp", "gone": "boolean"}
    lake.define(bronze("refs", "parquet", *(column(n, t) for n, t in refs.items())))
    lake.define(
        contract(
            "silver.rates",
            [column("ccy", key=1), time, column("rate", "bigint", rule("range", min=1))],
            publish=upsert(),
            inputs=[{"table": "bronze.rates"}],
            **many,
        ),
        copied(*rates, table="rates"),
    )
    lake.define(
        contract(
            "silver.refs",
            [column("ref", key=1), time, gone],
            publish=upsert(delete_column="gone"),
            inputs=[{"table": "bronze.refs"}],
            **many,
        ),
        copied(*refs, table="refs"),
    )
    amount = column("amount", "bigint", rule("range", max=code.most_amount))
    ref = column("ref", "string", rule("reference", table="silver.refs", column="ref"))
    value = column("value", "bigint", required=True)
    lake.define(
        contract(
            "silver.latest",
            [column("id", "bigint", key=1), time, gone, ref, column("ccy"), amount, value],
            publish=upsert(delete_column="gone"),
            inputs=[{"table": "bronze.feed"}, RATES],
            gates=_OPEN,
        ),
        _LATEST.format(factor=code.factor),
    )
    ends = [column("valid_to", "timestamp"), column("is_current", "boolean")]
    lake.define(
        contract(
            "silver.history",
            [
                column("id", "bigint", key=1),
                column("at", "timestamp", key=2),
                gone,
                amount,
                *ends,
            ],
            publish={"mode": "scd2", "sequence": "at", "delete_column": "gone"},
            inputs=[{"table": "bronze.feed"}],
            **many,
        ),
        copied("id", "at", "gone", "amount", table="feed"),
    )
    lake.define(
        contract(
            "gold.facts",
            [
                column("id", "bigint", key=1),
                time,
                column("day", "date", required=True),
                column("value", "bigint", rule("range", max=code.most_value)),
            ],
            publish=upsert(),
            inputs=[{"table": "silver.latest"}],
            **many,
        ),
        _FACTS.format(left_out=code.left_out),
    )
    lake.define(
        contract(
            "gold.daily",
            [
                column("day", "date", key=1),
                column("n", "bigint"),
                column("total", "bigint", rule("range", max=code.most_total)),
            ],
            inputs=[{"table": "gold.facts", "read": "touched", "by": "day"}],
            publish={"mode": "replace_partition", "column": "day"},
            physicalPartition="day",
            grain="aggregate",
            gates=_OPEN,
        ),
        _DAILY,
    )


def contents(lake: TinyLake, table: str) -> dict[str, list[str]]:
    """What a reader sees of a table and of its quarantine, a line per row."""
    c = lake.parsed()[table]
    names = [c.name for c in c.columns]
    # An aggregate's slice is of whatever window touched it last.
    of_window = c.grain == "row"
    rows = lake.rows(table, *names, *(["_partition"] if of_window else []))
    kept = [
        (r["partition"] if of_window else "", r["rules"], r["record"])
        for r in lake.quarantined(table)
    ]
    return {"rows": [str(r) for r in rows], "quarantine": sorted(map(str, kept))}


def unlike(lake: TinyLake, once: TinyLake) -> list[str]:
    """How a lake differs from one that was built once; `-` is missing, `+` is too much."""
    out = []
    for table in TABLES:
        ours, theirs = contents(lake, table), contents(once, table)
        for part, lines in theirs.items():
            out += [f"{table} {part} - {x}" for x in lines if x not in ours[part]]
            out += [f"{table} {part} + {x}" for x in ours[part] if x not in lines]
            if len(ours[part]) != len(lines):
                out.append(f"{table} {part}: {len(lines)} expected, {len(ours[part])} found")
    return out
