"""Uniqueness across days: which days fail does not depend on how they are batched.

Here: a batch of several days against the same days one after another. Not here: what counts as
shared (tests/unit/test_rules.py).
"""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.test_publish_properties import examples
from tests.lakes import (
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    TinyLake,
    bronze,
    column,
    contract,
    copied,
    failed_checks,
    rule,
)

DAYS = (MONDAY, TUESDAY, WEDNESDAY)
_lakes = itertools.count()


@pytest.fixture
def mail_lake(lake: TinyLake) -> TinyLake:
    """People whose address nobody else may have, merged by key and by day."""
    at = column("at", "timestamp", required=True)
    raw = [column("id", "bigint"), column("mail"), column("fine", "boolean"), at]
    lake.define(bronze("raw", "parquet", *raw))
    unique = [rule("unique", name="one_each", columns=["mail"])]
    fine = column("fine", "boolean", rule("expression", name="is_fine", expression="fine"))
    columns = [column("id", "bigint", key=1), column("mail"), fine, at]
    for table, publish in (
        ("silver.merged", {"mode": "upsert", "sequence": "at"}),
        ("silver.daily", {"mode": "replace_partition"}),
    ):
        lake.define(
            contract(
                table, columns, publish=publish, rules=unique, inputs=[{"table": "bronze.raw"}]
            ),
            copied("id", "mail", "fine", "at", table="raw"),
        )
    return lake


def people(*rows: tuple[str, str, bool]) -> dict[str, list[dict[str, Any]]]:
    out: dict[str, list[dict[str, Any]]] = {d: [] for d in DAYS}
    for i, (day, mail, fine) in enumerate(rows):
        at = dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC)
        out[day].append({"id": i, "mail": mail, "fine": fine, "at": at})
    return out


def outcome(tiny: TinyLake, table: str, *runs: tuple[str, ...]) -> dict[str, Any]:
    reports = [p for run in runs for p in tiny.run(table, *run).partitions]
    days = {
        p.partition: (p.status, sorted(failed_checks(p) & {"one_each", "quarantine_rate"}))
        for p in reports
    }
    broken = {
        (p.partition, c.failing_rows) for p in reports for c in p.checks if c.name == "one_each"
    }
    return {"days": days, "broken": sorted(broken), "rows": tiny.rows(table)}


ROWS = st.tuples(
    st.sampled_from(DAYS), st.sampled_from("abcd"), st.sampled_from([True] * 5 + [False])
)


@examples(12)
@given(
    rows=st.lists(ROWS, min_size=3, max_size=7),
    table=st.sampled_from(["silver.merged", "silver.daily"]),
    cut=st.integers(0, 1),
)
def test_days_that_clash_fail_alike_in_one_batch_and_one_after_another(mail_lake, rows, table, cut):
    mail_lake.given("bronze.raw", people(*rows))
    together = outcome(mail_lake.beside(f"lake{next(_lakes)}"), table, DAYS)
    lake = mail_lake.beside(f"lake{next(_lakes)}")
    runs = [DAYS[:1], DAYS[1:2], DAYS[2:]] if cut else [DAYS[:2], DAYS[2:]]
    assert outcome(lake, table, *runs) == together


def test_the_later_of_two_days_that_clash_fails_and_the_earlier_is_published(mail_lake):
    mail_lake.given("bronze.raw", people((MONDAY, "a", True), (TUESDAY, "a", True)))
    found = outcome(mail_lake, "silver.daily", (MONDAY, TUESDAY))
    assert found["days"] == {MONDAY: ("published", []), TUESDAY: ("failed", ["one_each"])}
    assert [r["id"] for r in found["rows"]] == [0]


def test_a_day_that_fails_for_its_own_reason_takes_no_value_from_another(mail_lake):
    mail_lake.given(
        "bronze.raw", people((MONDAY, "a", True), (MONDAY, "b", False), (TUESDAY, "a", True))
    )
    found = outcome(mail_lake, "silver.daily", (MONDAY, TUESDAY))
    assert found["days"] == {MONDAY: ("failed", ["quarantine_rate"]), TUESDAY: ("published", [])}
