"""The lake is what its inputs and its code say: whatever happened on the way, it equals one that was
built once from what they came to.

Here: random deliveries, corrections, withdrawals, late lookups and references, other functions and
rules, runs in any order and split; every table and quarantine. Not here: each kind of change as an
example (test_recomputed_rows.py), or marts (tests/e2e/test_changed_lake.py).

LAKEHOUSE_EXAMPLES draws more examples.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

import pytest
from deltalake import write_deltalake
from hypothesis import assume, given, note
from hypothesis import strategies as st

from spark_jobs.recompute import reconciled
from tests.integration.changing_lake import DAYS, TABLES, ChangingLake, at, unlike
from tests.integration.test_publish_properties import examples

pytestmark = pytest.mark.slow

MANY = int(os.environ.get("LAKEHOUSE_EXAMPLES", "8"))
TIMES = st.integers(0, 2).map(at)
FEED = st.fixed_dictionaries(
    {
        "id": st.integers(1, 3),
        "at": TIMES,
        "gone": st.sampled_from([False, False, False, True]),
        "ref": st.sampled_from(["r", "s"]),
        "ccy": st.sampled_from(["EUR", "JPY"]),
        "amount": st.sampled_from([1, 2, 3, 8]),
    }
)
RATES = st.fixed_dictionaries(
    {"ccy": st.sampled_from(["EUR", "JPY"]), "at": TIMES, "rate": st.sampled_from([0, 1, 5, 7])}
)
REFS = st.fixed_dictionaries(
    {"ref": st.sampled_from(["r", "s"]), "at": TIMES, "gone": st.sampled_from([False, False, True])}
)
DELIVERIES = st.one_of(
    st.tuples(st.just("deliver"), st.just(table), st.sampled_from(DAYS), rows)
    for table, rows in (
        ("bronze.feed", st.lists(FEED, max_size=4)),
        ("bronze.rates", st.lists(RATES, max_size=2)),
        ("bronze.refs", st.lists(REFS, max_size=2)),
    )
)
CHANGES = st.one_of(
    st.tuples(st.just("change"), st.just("factor"), st.sampled_from([1, 2])),
    st.tuples(st.just("change"), st.just("left_out"), st.sampled_from(["-", "s"])),
    st.tuples(st.just("change"), st.just("most_amount"), st.sampled_from([2, 9])),
    st.tuples(st.just("change"), st.just("most_value"), st.sampled_from([9, 50])),
    st.tuples(st.just("change"), st.just("most_total"), st.sampled_from([9, 500])),
)
RUNS = st.tuples(
    st.just("run"),
    st.lists(st.sampled_from(TABLES), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from(DAYS), min_size=1, max_size=3, unique=True),
    st.booleans(),
)


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """A first delivery of everything and a first run, then whatever may happen."""
    first = [
        ("deliver", "bronze.feed", day, draw(st.lists(FEED, min_size=1, max_size=3)))
        for day in DAYS
    ]
    lookups = [
        ("deliver", table, DAYS[0], draw(st.lists(rows, min_size=1, max_size=3)))
        for table, rows in (("bronze.rates", RATES), ("bronze.refs", REFS))
    ]
    steps = draw(st.lists(st.one_of(DELIVERIES, DELIVERIES, CHANGES, RUNS), min_size=3, max_size=8))
    return [*first, *lookups, ("run", TABLES, DAYS, False), *steps]


def after(changing: ChangingLake, story: list[tuple[Any, ...]]) -> ChangingLake:
    for kind, *what in story:
        if kind == "deliver":
            changing.deliver(*what)
        elif kind == "change":
            changing.change(*what)
        else:
            tables, days, force = what
            for table in tables:
                changing.run(table, days, force=force)
    return changing


@examples(MANY)
@given(story=stories())
def test_a_lake_equals_one_that_was_built_once_from_its_final_inputs_and_code(lake, story):
    changing = after(ChangingLake.new(lake), story)
    changing.settle()
    found = unlike(changing.lake, changing.built_once())
    for step in story:
        note(str(step))
    assert not found, "\n".join(found)
    for table in TABLES:
        contracts = changing.lake.parsed()
        assert reconciled(lake.engine, contracts, contracts[table], changing.lake.lake) == []


ALTERED = {"silver.rates": "rate", "silver.refs": "gone", "silver.latest": "amount",
           "silver.history": "amount", "gold.facts": "value", "gold.daily": "total"}  # fmt: skip


@examples(max(4, MANY // 2))
@given(
    story=stories(),
    table=st.sampled_from(TABLES),
    hand=st.sampled_from(["altered", "taken away", "doubled"]),
)
def test_a_row_that_is_changed_by_hand_is_found(lake, story, table, hand):
    changing = after(ChangingLake.new(lake), story)
    changing.settle()
    tiny = changing.lake
    c, delta = tiny.parsed()[table], tiny.delta(table)
    rows = delta.to_pyarrow_table()
    assume(rows.num_rows)
    if hand == "doubled":
        write_deltalake(delta, rows.slice(0, 1), mode="append")
    else:
        name = ALTERED[table]
        other = f"not coalesce({name}, false)" if name == "gone" else f"{name} + 1"
        first = rows[c.key[0]][0].as_py()
        one = f"{c.key[0]} = {first}" if isinstance(first, int) else f"{c.key[0]} = '{first}'"
        if hand == "altered":
            delta.update(predicate=one, updates={name: other})
        else:
            delta.delete(one)
    assert reconciled(lake.engine, tiny.parsed(), c, tiny.lake) != []


def test_a_record_that_lost_within_its_day_may_win_when_what_it_looked_up_changes(lake):
    changing = ChangingLake.new(lake)
    row = {"id": 1, "at": at(0), "gone": False, "ref": "r"}
    changing.deliver("bronze.refs", DAYS[0], [{"ref": "r", "at": at(0), "gone": False}])
    two = [row | {"ccy": "EUR", "amount": 1}, row | {"ccy": "JPY", "amount": 2}]
    changing.deliver("bronze.feed", DAYS[1], two)
    winners = set()
    for eur, jpy in itertools.product(range(1, 5), (1, 2)):
        rates = [{"ccy": "EUR", "at": at(0), "rate": eur}, {"ccy": "JPY", "at": at(0), "rate": jpy}]
        changing.deliver("bronze.rates", DAYS[0], rates)
        changing.settle()
        winners.add(changing.lake.rows("silver.latest", "ccy")[0])
        assert unlike(changing.lake, changing.built_once()) == []
    assert winners == {"EUR", "JPY"}
