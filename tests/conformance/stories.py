"""Short histories of a table, batch by batch, one or more per publish mode.

Belongs here: contracts, transforms, what each batch delivers. Does not belong here: which engine
runs it, or what is asserted of it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
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

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Batch:
    """What the upstream table holds when the batch runs, and the partitions that run."""

    upstream: Mapping[str, Rows]
    partitions: tuple[str, ...]


@dataclass(frozen=True)
class Story:
    """`table` is run once per batch over `source`."""

    source: str
    table: str
    documents: tuple[tuple[dict, str], ...]
    batches: tuple[Batch, ...]

    def define(self, lake: TinyLake) -> None:
        for document, transform in self.documents:
            lake.define(document, transform)


# -- a feed of changes, with every column type -------------------------------------------------

TYPES = {
    "id": "bigint", "part": "string", "seen_at": "timestamp", "gone": "boolean", "amount": "decimal(18,2)",  # noqa: E501
    "rate": "decimal(20,10)", "day": "date", "note": "string", "n": "int", "tags": "array<string>",
}  # fmt: skip
LONG = "x" * 100  # no bounds of such strings are kept in the log


def change(id_: int | None, hour: float, part: str | None = "é", **more: Any) -> dict[str, Any]:
    at = dt.datetime(2026, 10, 5, tzinfo=dt.UTC) + dt.timedelta(hours=hour, microseconds=1)
    return {
        "id": id_, "part": part, "seen_at": at, "gone": False, "amount": Decimal("10.05"),
        "rate": Decimal("0.0000000001"), "day": dt.date(2026, 10, 5), "note": "a@b.c", "n": 1,
        "tags": ["a", None, ""],
    } | more  # fmt: skip


NULLS = {
    "gone": None,
    "amount": None,
    "rate": None,
    "day": None,
    "note": None,
    "n": None,
    "tags": None,
}
FEED = {
    MONDAY: [
        change(1, 8),
        change(1, 9, note="newer"),
        change(1, 9, note="newer"),
        change(1, 9, "e\u0301", note="another key, though it looks the same"),
        change(2, 9, **NULLS),
        change(3, 9, note=LONG, day=dt.date(1969, 12, 31), rate=Decimal("9999999999.9999999999")),
        change(4, 9, amount=Decimal("-0.01"), note='bad "one"\n🦊'),
        change(4, 9, amount=Decimal("-0.01"), note='bad "one"\n🦊'),
        change(None, 9, tags=[None]),
        change(5, -500_000.5, tags=[]),
        change(6, 9, note="not an address"),
    ],
    TUESDAY: [
        change(1, 10, note="updated"),
        change(2, 10, gone=True),
        change(3, 8, note="stale"),
        change(7, 10, "🦊", n=2**31 - 1),
        change(8, 10, "", gone=True),
        change(9, 11, note="repeated"),
        change(9, 10, note="repeated"),
        change(6, 9, note="not an address"),
        change(10, 10, amount=Decimal("-1.00")),
    ],
    WEDNESDAY: [
        change(1, 9.5, note="late"),
        change(2, 9.5, note="late, and deleted since"),
        change(8, 12, "", note="back again"),
        change(7, 10, "🦊", n=-(2**31)),
        change(5, -500_001, note="older than the oldest"),
    ],
}
MENDED = {
    **FEED,
    MONDAY: [r | {"amount": Decimal("0.01")} if r["id"] == 4 else r for r in FEED[MONDAY]],
}


def _feed_contract() -> tuple[dict, str]:
    return bronze("feed", "parquet", *(column(n, t) for n, t in TYPES.items())), ""


def _table(
    name: str, mode: str, *keys: str, layout: str | None, **publish: str
) -> tuple[dict, str]:
    rules = {
        "seen_at": [rule("age", severity="warn", max_future_days=1, max_past_days=3653)],
        "day": [rule("age", severity="warn", max_past_days=3653)],
        "amount": [rule("range", min=0)],
        "note": [rule("pattern", pattern=r"^[^@\s]+@[^@\s]+$", severity="warn")],
    }
    columns = [
        column(n, t, *rules.get(n, ()), key=keys.index(n) + 1 if n in keys else 0)
        for n, t in TYPES.items()
    ]
    columns[2]["required"] = True
    if mode == "scd2":
        columns += [column("valid_to", "timestamp"), column("is_current", "boolean")]
    custom = {"physicalPartition": layout} if layout else {}
    gates = {"max_quarantine_rate": 1.0}
    document = contract(
        f"silver.{name}", columns, inputs=[{"table": "bronze.feed"}],
        publish={"mode": mode, **publish}, gates=gates, **custom,
    )  # fmt: skip
    return document, copied(*TYPES, table="feed")


def _each_day(feed: Mapping[str, Rows]) -> tuple[Batch, ...]:
    return tuple(Batch(feed, (day,)) for day in feed)


def _keyed(name: str, mode: str, *keys: str, layout: str | None = "none") -> Story:
    table = _table(name, mode, *keys, layout=layout, sequence="seen_at", delete_column="gone")
    batches = (*_each_day(FEED), Batch(MENDED, (MONDAY,)))
    return Story("bronze.feed", f"silver.{name}", (_feed_contract(), table), batches)


def _slices() -> Story:
    """Monday and Tuesday lie in one file; of it, Tuesday is replaced, then emptied."""
    table = _table("slices", "replace_partition", layout="none")
    fewer = {**FEED, TUESDAY: FEED[TUESDAY][:2]}
    none = {**FEED, TUESDAY: []}
    batches = (
        Batch(FEED, (MONDAY, TUESDAY)),
        Batch(fewer, (TUESDAY,)),
        Batch(none, (TUESDAY, WEDNESDAY)),
    )
    return Story("bronze.feed", "silver.slices", (_feed_contract(), table), batches)


def _of_keys() -> Story:
    """Rows that are turned away are found again, whole, by a key of odd values."""
    upstream = _table("latest", "upsert", "id", "part", layout="none", sequence="seen_at")
    keys = {"id": 1, "part": 2}
    columns = [column(n, t, required=n == "seen_at", key=keys.get(n, 0)) for n, t in TYPES.items()]
    columns[4]["quality"] = [rule("range", min=100)]
    document = contract(
        "gold.checked", columns, inputs=[{"table": "silver.latest"}], physicalPartition="none",
        publish={"mode": "upsert", "sequence": "seen_at"}, gates={"max_quarantine_rate": 1.0},
    )  # fmt: skip
    known = {
        MONDAY: [change(1, 8), change(1, 9, "e\u0301"), change(2, 9, 'a "b"\\', note='"c"\n🦊')],
        TUESDAY: [change(3, 9, "🦊", **NULLS), change(4, 9, "", amount=Decimal("100.00"))],
    }
    documents = (_feed_contract(), upstream, (document, copied(*TYPES, table="latest")))
    batches = (Batch(known, (MONDAY,)), Batch(known, (MONDAY, TUESDAY)))
    return Story("silver.latest", "gold.checked", documents, batches)


# -- aggregates of touched slices, and snapshots -----------------------------------------------


def _fact(day: int, hour: int, n: int) -> dict[str, Any]:
    at = dt.datetime(2026, 10, day, hour, tzinfo=dt.UTC)
    return {"hour": at, "day": at.date(), "who": f"é{n % 2}", "n": Decimal(n) / 100}


FACTS = {
    MONDAY: [_fact(1, 8, 5), _fact(1, 8, 2), _fact(1, 9, 3), _fact(2, 8, 7)],
    TUESDAY: [_fact(1, 9, 4), _fact(3, 8, 1), _fact(3, 9, 1)],
    WEDNESDAY: [_fact(2, 8, -7), _fact(1, 8, 6)],
}


def _facts() -> tuple[tuple[dict, str], ...]:
    types = {"hour": "timestamp", "day": "date", "who": "string", "n": "decimal(6,2)"}
    columns = [column(n, t, required=n != "n") for n, t in types.items()]
    raw = bronze("raw", "parquet", column("id", "bigint"))
    return (raw, ""), (contract("silver.facts", columns, inputs=[{"table": "bronze.raw"}]), "")


def _sums(name: str, by: str, type_: str, layout: str) -> Story:
    document = contract(
        f"gold.{name}",
        [column(by, type_, key=1), column("who", key=2), column("total", "decimal(18,2)"),
         column("mean", "decimal(6,2)")],
        inputs=[{"table": "silver.facts", "read": "touched", "by": by}],
        publish={"mode": "replace_partition", "column": by},
        physicalPartition=layout,
        grain="aggregate",
    )  # fmt: skip
    transform = f"""
        from pyspark.sql import functions as F
        from spark_jobs.columns import quotient

        def transform(facts):
            return facts.groupBy("{by}", "who").agg(
                F.max("_partition").alias("_partition"),
                F.count("*").cast("bigint").alias("_rows"),
                F.sum("n").cast("decimal(18,2)").alias("total"),
                quotient(F.sum("n"), F.count("*"), "decimal(6,2)").alias("mean"),
            )
    """
    batches = (Batch(FACTS, (MONDAY, TUESDAY)), Batch(FACTS, (WEDNESDAY,)))
    return Story("silver.facts", f"gold.{name}", (*_facts(), (document, transform)), batches)


def _snapshot() -> Story:
    document = contract(
        "gold.current",
        [column("hour", "timestamp", key=1), column("n", "decimal(6,2)", rule("range", min=0))],
        inputs=[{"table": "silver.facts", "read": "lookup"}],
        publish={"mode": "snapshot"},
        partitioning=None,
        physicalPartition="none",
        gates={"max_quarantine_rate": 1.0},
    )
    fewer = {MONDAY: FACTS[MONDAY][:2]}
    batches = (Batch(FACTS, ()), Batch(fewer, ()))
    transform = copied("hour", "n", table="facts")
    return Story("silver.facts", "gold.current", (*_facts(), (document, transform)), batches)


STORIES = {
    "upsert": _keyed("latest", "upsert", "id", "part"),
    "upsert, a folder per day": _keyed("spread", "upsert", "id", "part", layout=None),
    "scd2": _keyed("history", "scd2", "id", "part", "seen_at"),
    "replace_partition": _slices(),
    "rows of a keyed table": _of_keys(),
    "replace_partition by hour": _sums("hourly", "hour", "timestamp", "none"),
    "replace_partition by day, a folder each": _sums("daily", "day", "date", "day"),
    "snapshot": _snapshot(),
}
