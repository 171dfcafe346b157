"""Uniqueness across days: which days fail does not depend on how they are batched.

Here: a batch of several days against the same days one after another. Not here: what counts as
shared (tests/unit/test_rules.py).
"""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest
from hypothesis import assume, given
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


def people(*rows: tuple[str, int, str, bool]) -> dict[str, list[dict[str, Any]]]:
    """(day, id, mail, fine); a day's later record of an id is the newer one."""
    out: dict[str, list[dict[str, Any]]] = {d: [] for d in DAYS}
    for i, (day, id_, mail, fine) in enumerate(rows):
        at = dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC) + dt.timedelta(seconds=i)
        out[day].append({"id": id_, "mail": mail, "fine": fine, "at": at})
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
    st.sampled_from(DAYS),
    st.integers(1, 4),
    st.sampled_from("abc"),
    st.sampled_from([True] * 5 + [False]),
)
# Every way to run three days in their order.
SPLITS = ([DAYS[:1], DAYS[1:2], DAYS[2:]], [DAYS[:2], DAYS[2:]], [DAYS[:1], DAYS[1:]])


@examples(12)
@given(
    rows=st.lists(ROWS, min_size=3, max_size=7),
    table=st.sampled_from(["silver.merged", "silver.daily"]),
    runs=st.sampled_from(SPLITS),
)
def test_days_that_clash_fail_alike_in_one_batch_and_one_after_another(
    mail_lake, rows, table, runs
):
    """Days may replace, swap and take over each other's values."""
    mail_lake.given("bronze.raw", people(*rows))
    together = outcome(mail_lake.beside(f"lake{next(_lakes)}"), table, DAYS)
    assert outcome(mail_lake.beside(f"lake{next(_lakes)}"), table, *runs) == together


@pytest.mark.parametrize("runs", SPLITS)
@pytest.mark.parametrize(
    ("rows", "failed"),
    [
        # Tuesday's record of 2 takes the place of Monday's, which shares its value with 1.
        ([(MONDAY, 1, "a"), (MONDAY, 2, "a"), (TUESDAY, 2, "c")], {MONDAY}),
        # A value is given up before it is taken.
        ([(MONDAY, 1, "a"), (TUESDAY, 1, "b"), (WEDNESDAY, 2, "a")], set()),
        # Two swap their values on one day, and on two.
        ([(MONDAY, 1, "a"), (MONDAY, 2, "b"), (TUESDAY, 1, "b"), (TUESDAY, 2, "a")], set()),
        (
            [(MONDAY, 1, "a"), (MONDAY, 2, "b"), (TUESDAY, 1, "b"), (WEDNESDAY, 2, "a")],
            {TUESDAY, WEDNESDAY},
        ),
        # What a day that fails would have replaced is there still.
        ([(MONDAY, 1, "a"), (TUESDAY, 1, "b"), (TUESDAY, 2, "b"), (WEDNESDAY, 3, "a")],
         {TUESDAY, WEDNESDAY}),
    ],
)  # fmt: skip
def test_a_day_is_held_against_the_table_as_it_was_on_that_day(mail_lake, rows, failed, runs):
    mail_lake.given("bronze.raw", people(*[(*row, True) for row in rows]))
    together = outcome(mail_lake.beside(f"lake{next(_lakes)}"), "silver.merged", DAYS)
    assert {d for d, (status, _) in together["days"].items() if status == "failed"} - {
        d for d in DAYS if not any(row[0] == d for row in rows)
    } == failed
    apart = outcome(mail_lake.beside(f"lake{next(_lakes)}"), "silver.merged", *runs)
    assert apart == together


@examples(6)
@given(
    histories=st.lists(
        st.tuples(
            st.lists(ROWS, max_size=5), st.lists(st.sampled_from(DAYS), min_size=1, unique=True)
        ),
        max_size=3,
    ),
    final=st.lists(ROWS, min_size=3, max_size=6),
)
def test_days_that_clash_no_more_are_published_whatever_went_before(mail_lake, histories, final):
    """Swapped and corrected values, in any order of days: run together until nothing changes."""
    lake = _of_its_own(mail_lake)
    for rows, days in histories:
        lake.given("bronze.raw", people(*rows))
        for day in days:
            lake.run("silver.merged", day)
    once = _of_its_own(mail_lake)
    for tiny in (lake, once):
        tiny.given("bronze.raw", people(*[(*row[:3], True) for row in final]))
    assume(not once.run("silver.merged", *DAYS).failed)
    for _ in DAYS:
        lake.run("silver.merged", *DAYS)
    names = ("id", "mail", "at", "_partition")
    assert lake.rows("silver.merged", *names) == once.rows("silver.merged", *names)


def _of_its_own(lake: TinyLake) -> TinyLake:
    name = f"lake{next(_lakes)}"
    return TinyLake(
        lake.root, lake.engine, zones={z: str(lake.root / name / z) for z in lake.zones},
        _parsed=lake.parsed(),
    )  # fmt: skip


def test_the_later_of_two_days_that_clash_fails_and_the_earlier_is_published(mail_lake):
    mail_lake.given("bronze.raw", people((MONDAY, 0, "a", True), (TUESDAY, 1, "a", True)))
    found = outcome(mail_lake, "silver.daily", (MONDAY, TUESDAY))
    assert found["days"] == {MONDAY: ("published", []), TUESDAY: ("failed", ["one_each"])}
    assert [r["id"] for r in found["rows"]] == [0]


def test_a_day_that_fails_for_its_own_reason_takes_no_value_from_another(mail_lake):
    rows = [(MONDAY, 0, "a", True), (MONDAY, 1, "b", False), (TUESDAY, 2, "a", True)]
    mail_lake.given("bronze.raw", people(*rows))
    found = outcome(mail_lake, "silver.daily", (MONDAY, TUESDAY))
    assert found["days"] == {MONDAY: ("failed", ["quarantine_rate"]), TUESDAY: ("published", [])}
