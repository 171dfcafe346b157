"""Every expression of the data plane on edge values: one answer on both engines, row by row.

Here: columns and frames. Not here: tables and their publishing (test_publish.py), readers of landing
files (test_readers.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from spark_jobs.columns import (
    as_number,
    boolean,
    day,
    has_zone,
    hour,
    instant,
    number,
    quotient,
    surrogate_key,
    text,
    without_exponent,
)
from spark_jobs.contract.rules import portable
from spark_jobs.lake.delta import arrow_type
from spark_jobs.tables.silver.orders import in_usd
from tests.conformance import edge_values

pytestmark = pytest.mark.jvm
DECIMALS = ("decimal(5,2)", "decimal(6,2)", "decimal(15,2)", "decimal(18,2)", "decimal(18,6)",
            "decimal(20,10)", "decimal(38,10)")  # fmt: skip
PATTERNS = (r"^[^@\s]+@[^@\s]+\.[^@\s]+$", "^[A-Z]{3}$", r"^\d+$", r"^\w+$", "^.$", "a.b", r"\s",
            r"^\S+$", r"[^\w]", r"\D", "(?i)^usd$", r"^\$1$", "[$.]")  # fmt: skip


def texts() -> dict[str, Any]:
    from pyspark.sql import functions as F

    v = F.col("value")
    nothing = F.lit(None).cast("string")
    known = F.filter(F.array(F.when(v == "a", "x"), v), lambda name: name.isNotNull())
    return {
        "text": text("value"),
        "boolean": boolean("value"),
        "lower": F.lower(text("value")),
        "upper": F.upper(text("value")),
        "length": F.length(v),
        "substring": F.substring(v, 1, 10),
        "or a default": F.coalesce(text("value"), F.lit("UNKNOWN")),
        "blank": F.trim(F.coalesce(v, F.lit(""))) != "",
        "equal": v == "é",
        "one of": v.isin("a", "É", "N", "🦊"),
        "not one of": ~v.isin("a", "É"),
        "between": v.between("2026-10-05", "a"),
        "hash": F.xxhash64(v),
        "hash of two": F.xxhash64(v, nothing, F.length(v)),
        "identity": F.sha2(F.concat_ws("|", F.lit("t"), v, nothing, v), 256),
        "record": F.to_json(F.struct(v.alias("a b"), nothing.alias("none"), v.alias("ü"))),
        "rescued": F.to_json(F.struct(v.alias("_x"))),
        "rules": F.when(v.isNotNull(), known),
        "how many rules": F.size(F.coalesce(known, F.array())),
        "has rule": F.coalesce(F.array_contains(known, "a"), F.lit(False)),
        "has zone": has_zone("value"),
        "array": F.to_json(F.transform(F.array(v, nothing), lambda x: x.cast("string"))),
        **{f"matches {p}": v.rlike(portable(p)) for p in PATTERNS},
    }


def numbers() -> dict[str, Any]:
    from pyspark.sql import functions as F

    return {
        **{t: number("value", t) for t in ("int", "bigint", *DECIMALS)},
        "without exponent": without_exponent(F.col("value")),
    }


def days() -> dict[str, Any]:
    from pyspark.sql import functions as F

    d = day("value")
    partition = F.lit("2026-10-05T13")
    return {
        "day": d,
        **parts_of_day(d),
        "day of a partition": F.to_date(F.substring(partition, 1, 10)),
        "start of a partition": F.substring(partition, 1, 10).cast("timestamp"),
    }


def times() -> dict[str, Any]:
    from pyspark.sql import functions as F

    t = instant("value")
    return {
        "instant": t,
        "zone": has_zone("value"),
        "hour": hour(t),
        "date": F.to_date(t),
        "written": t.cast("string"),
        "since": t >= F.lit("2026-10-05").cast("timestamp"),
        **parts_of_day(F.to_date(t)),
    }


def parts_of_day(d: Any) -> dict[str, Any]:
    from pyspark.sql import functions as F

    return {
        "date_sk": F.year(d) * 10000 + F.month(d) * 100 + F.dayofmonth(d),
        "quarter": F.quarter(d),
        "day of week": (F.dayofweek(d) + 5) % 7 + 1,
        "name of day": F.date_format(d, "EEEE"),
        "name of month": F.date_format(d, "MMMM"),
        "end of month": d == F.last_day(d),
        "start": d.cast("timestamp"),
        "one of days": d.isin(F.lit("2026-10-05").cast("date"), F.lit("1969-12-31").cast("date")),
        "between days": d.between(
            F.lit("1969-12-31").cast("date"), F.lit("2026-10-05").cast("date")
        ),
        "next": F.when(F.year(d) < 9999, F.date_add(d, 5)),
    }


def typed() -> dict[str, Any]:
    from pyspark.sql import functions as F

    names = edge_values.typed().column_names
    scalars = [n for n in names if n not in ("an_array", "some_times")]
    narrow = [n for n in names if not n.startswith(("a_decimal_20", "a_decimal_38"))]
    decimals = [n for n in names if "decimal" in n]
    return {
        **{f"hash of {n}": F.xxhash64(F.col(n)) for n in narrow},
        "hash of nulls": F.xxhash64(*[F.col(n).isNull() for n in narrow]),
        "surrogate key": surrogate_key("a_bigint", "a_timestamp", "a_string"),
        **{f"{n} written": F.col(n).cast("string") for n in scalars},
        "record": F.to_json(F.struct(*[F.col(n).cast("string").alias(n) for n in scalars])),
        **{f"{n} as a price": as_number(F.col(n).cast("string"), "decimal(6,2)") for n in decimals},
        **{
            f"{n} in range": F.col(n) <= F.lit(Decimal("999.99"))
            for n in (*decimals, "an_int", "a_bigint")
        },
        **{f"{n} above": F.col(n) > F.lit(Decimal("0")) for n in (*decimals, "an_int", "a_bigint")},
        "large bound": F.col("a_bigint") <= F.lit(Decimal(str(1e16))),
        "one of numbers": F.col("a_bigint").isin(0, -1, 2**63 - 1),
        "a sum of hashes": F.col("a_bigint") == F.xxhash64("a_string"),
        "whole": F.col("a_decimal_15_2").try_cast("int"),
        "truth": ~F.coalesce(F.col("a_boolean"), F.lit(True)),
        "hour": hour(F.col("a_timestamp")),
        **{f"{name} of a date": c for name, c in parts_of_day(F.col("a_date")).items()},
    }


def money() -> dict[str, Any]:
    from pyspark.sql import functions as F

    amount, rate, n = F.col("amount"), F.col("rate"), F.col("n")
    return {
        "in dollars": in_usd(amount.cast("decimal(18,2)"), rate),
        "after discount": (amount * (F.lit(1) - F.col("discount"))).try_cast("decimal(18,2)"),
        "wider": amount.cast("decimal(18,2)"),
        "mean": quotient(amount.cast("decimal(28,2)"), n, "decimal(18,2)"),
        "rate": quotient(rate.cast("decimal(18,6)"), F.when(rate != 0, rate), "decimal(20,10)"),
        "degrees": quotient(F.col("discount").cast("decimal(16,2)"), n, "decimal(6,2)"),
    }


AMOUNTS = ("0.00", "0.01", "-0.01", "0.05", "0.50", "1.00", "33.33", "35.23", "-17.61", "40553.77",
           "99999.99", "9999999999.99", "-9999999999.99")  # fmt: skip
RATES = ("1", "0.0000000001", "0.4999999999", "0.4950000000", "0.0064000005", "1.1700000000",
         "0.0087539062", "128", "1.1205", "999.9999999999", "0")  # fmt: skip


def _money() -> pa.Table:
    cases = [(a, r, n) for a in AMOUNTS for r in RATES for n in (1, 2, 3, 7)]
    discounts = ("0.00", "0.04", "0.05", "1.00", "0.33", "-17.61")
    return pa.table(
        {
            "amount": _decimals([a for a, _, _ in cases], "decimal(15,2)"),
            "rate": _decimals([r for _, r, _ in cases], "decimal(20,10)"),
            "n": pa.array([n for _, _, n in cases], pa.int64()),
            "discount": _decimals([discounts[i % 6] for i in range(len(cases))], "decimal(15,2)"),
        }
    )


def _decimals(values: list[str], type_: str) -> pa.Array:
    return pa.array([Decimal(v) for v in values], arrow_type(type_))


GROUPS: dict[str, tuple[Callable[[], pa.Table], Callable[[], dict[str, Any]]]] = {
    "texts": (lambda: edge_values.one_column(edge_values.TEXTS), texts),
    "numbers": (lambda: edge_values.one_column(edge_values.NUMBERS), numbers),
    "days": (lambda: edge_values.one_column(edge_values.DAYS), days),
    "times": (lambda: edge_values.one_column(edge_values.TIMES), times),
    "typed": (edge_values.typed, typed),
    "money": (_money, money),
}


@pytest.mark.parametrize("group", GROUPS)
def test_expressions_have_one_answer(group, sail, compiled, tmp_path):
    values, expressions = GROUPS[group]
    rows = values()
    path = edge_values.write(tmp_path, group, rows)
    columns = expressions()
    answers = {}
    for engine in (sail, compiled):
        read = engine.spark.read.parquet(path)
        named = {f"x{i}": c for i, c in enumerate(columns.values())}
        made = read.select("row", *[c.alias(n) for n, c in named.items()])
        table = made.orderBy("row").toArrow()
        types = [t for n, t in made.dtypes if n != "row"]
        answers[engine.name] = dict(
            zip(
                columns,
                zip(types, (table.column(n).to_pylist() for n in named), strict=True),
                strict=True,
            )
        )
    wrong = []
    for name, (type_, found) in answers["sail"].items():
        reference_type, reference = answers["spark"][name]
        if type_ != reference_type:
            wrong.append(f"{name}: {type_} on sail, {reference_type} on spark")
        for row, ours, theirs in zip(rows.to_pylist(), found, reference, strict=True):
            if repr(ours) != repr(theirs):
                wrong.append(f"{name} of {row}: {ours!r} on sail, {theirs!r} on spark")
    assert not wrong, f"{len(wrong)} answers differ:\n" + "\n".join(wrong[:30])
    assert all(any(v is not None for v in found) for _, found in answers["sail"].values())


# -- what the answers are, where both engines had to be led to them -----------------------------


@functools.cache
def _answer(sail: Any, value: str, make: Callable[[], Any]) -> Any:
    frame = sail.spark.createDataFrame(pa.table({"value": [value]}))
    return frame.select(make().alias("x")).toArrow().column(0).to_pylist()[0]


@pytest.mark.parametrize(
    ("value", "type_", "expected"),
    [
        ("1.39E8", "decimal(18,2)", "139000000.00"),
        ("15e-1", "decimal(18,2)", "1.50"),
        ("1e-40", "decimal(18,2)", "0.00"),
        ("1.005", "decimal(18,2)", "1.01"),
        ("-0.005", "decimal(18,2)", "-0.01"),
        ("٣", "decimal(18,2)", None),
        ("\u00a01", "decimal(18,2)", None),
        ("NaN", "decimal(18,2)", None),
        ("1e400", "decimal(38,10)", None),
    ],
)
def test_numbers_are_read_exactly(sail, value, type_, expected):
    found = _answer(sail, value, lambda: number("value", type_))
    assert (None if found is None else str(found)) == expected
