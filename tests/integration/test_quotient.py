"""Quotients of the data plane on the embedded engine are those of exact decimal arithmetic.

Here: values. That the engines agree on them is in the conformance tests.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, localcontext

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F

from spark_jobs.columns import quotient
from spark_jobs.engines.session import Engine


def numbers(digits: int, scale: int) -> st.SearchStrategy[Decimal]:
    """Decimals of a type, the small ones among them: their quotients lie halfway more often."""
    units = st.integers(-(10**digits) + 1, 10**digits - 1) | st.integers(-999, 999)
    return units.map(lambda n: Decimal(n).scaleb(-scale))


def exact(dividend: Decimal, divisor: Decimal, digits: int, scale: int) -> Decimal | None:
    with localcontext(prec=80):
        found = (dividend / divisor).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)
    return found if abs(found) < Decimal(10) ** (digits - scale) else None


CASES = {
    "a mean amount": ((28, 2), st.integers(1, 10**9) | st.integers(1, 40), pa.int64(), (18, 2)),
    "a rate": ((18, 6), numbers(18, 6).filter(bool), pa.decimal128(18, 6), (20, 10)),
    "a mean temperature": ((16, 2), st.integers(1, 5000), pa.int64(), (6, 2)),
}


@pytest.mark.parametrize("case", CASES)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_quotient_is_that_of_exact_arithmetic(sail: Engine, case: str, data: st.DataObject):
    of, divisors, divisor_type, to = CASES[case]
    pairs = data.draw(st.lists(st.tuples(numbers(*of), divisors), min_size=1, max_size=200))
    rows = pa.table(
        {
            "a": pa.array([a for a, _ in pairs], pa.decimal128(*of)),
            "b": pa.array([b for _, b in pairs], divisor_type),
        }
    )
    frame = sail.spark.createDataFrame(rows).select(
        F.col("a").cast(f"decimal({of[0]},{of[1]})").alias("a"), "b"
    )
    type_ = f"decimal({to[0]},{to[1]})"
    found = frame.select(quotient(F.col("a"), F.col("b"), type_).alias("q")).toArrow()
    expected = [exact(a, Decimal(b), *to) for a, b in pairs]
    assert found.column("q").to_pylist() == expected


def test_a_half_goes_away_from_zero_however_large_the_number(sail: Engine):
    amounts = [Decimal("9007199254740993.01"), Decimal("-0.01"), Decimal("0.01")]
    rows = pa.table({"a": pa.array(amounts, pa.decimal128(28, 2))})
    halves = sail.spark.createDataFrame(rows).select(
        quotient(F.col("a").cast("decimal(28,2)"), F.lit(2), "decimal(18,2)").alias("q")
    )
    assert halves.toArrow().column("q").to_pylist() == [
        Decimal("4503599627370496.51"), Decimal("-0.01"), Decimal("0.01"),
    ]  # fmt: skip
