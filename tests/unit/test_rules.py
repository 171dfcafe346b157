"""Rules on rows, by mutation: spoil a row and its rule fires; leave it clean and none does.

Here: every kind of rule with its edges, and every rule of every contract of the project. Not here:
thresholds (test_gate.py), or what becomes of a row that breaks a rule (integration tests).
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from spark_jobs.batch import audit
from spark_jobs.batch.uniqueness import clashes
from spark_jobs.contract.model import Column, Contract, Rule
from spark_jobs.contract.reader import load_contract, load_contracts
from spark_jobs.contract.rules import RULES
from spark_jobs.errors import ContractError
from spark_jobs.lake import delta
from tests.lakes import MONDAY, TUESDAY, WEDNESDAY, column, contract, rule

PROJECT = Path(__file__).parents[2]
INPUT = "_input"


def frame(engine: Any, rows: list[dict], types: dict[str, str], inputs: dict[str, str]) -> Any:
    """Transformed rows, with the source record of each in the struct `_input`."""
    from pyspark.sql import functions as F

    fields = [(n, delta.arrow_type(t)) for n, t in (types | inputs).items()]
    made = engine.spark.createDataFrame(pa.Table.from_pylist(rows, pa.schema(fields)))
    record = F.struct(*[F.col(n).alias(n.removeprefix(INPUT)) for n in inputs])
    return made.select(*types, record.alias(INPUT)) if inputs else made.select(*types)


def fired(engine: Any, c: Contract, rows: list[dict], parents: dict[str, list]) -> list[set[str]]:
    """The names of the rules that each row breaks, errors and warnings. `parents` are the values
    of each referenced column."""
    types = {x.name: x.type for x in c.columns if x.name in rows[0]}
    source = {f"{INPUT}{r.spec.source.rpartition('.')[2]}" for r in c.rules if r.kind == "type"}
    rows = [{"_row": i, "_partition": MONDAY} | r for i, r in enumerate(rows)]
    given = {"_row": "int", "_partition": "string"}
    made = frame(engine, rows, given | types, dict.fromkeys(sorted(source), "string"))
    audited = audit.audited(
        c,
        made,
        made.schema,
        {r.name: keys(engine, c, r, parents) for r in c.rules if r.kind == "reference"},
    )
    found = audited.select("_row", "_violations", "_warnings").toArrow().to_pylist()
    found.sort(key=lambda r: r["_row"])
    assert [r["_row"] for r in found] == list(range(len(rows))), "the audit lost or made rows"
    return [{*(r["_violations"] or ()), *(r["_warnings"] or ())} for r in found]


def keys(engine: Any, c: Contract, rule: Rule, parents: dict[str, list]) -> Any:
    type_ = c.column[rule.column].type
    values = parents[f"{rule.spec.table}.{rule.spec.column}"]
    table = pa.table({"_key": pa.array(values, delta.arrow_type(type_))})
    return engine.spark.createDataFrame(table)


# -- every kind of rule ------------------------------------------------------------------------

EURO = Decimal("0.01")
DAY = dt.date.fromisoformat(MONDAY)


def midnight(day: dt.date, *, add: int = 0) -> dt.datetime:
    """Midnight, UTC, as a day begins, and so many microseconds."""
    start = dt.datetime.combine(day, dt.time(), dt.UTC)
    return start + dt.timedelta(microseconds=add)


def days(n: int) -> dt.date:
    """A day that is so far from the partition's."""
    return DAY + dt.timedelta(days=n)


KINDS: dict[str, tuple[str, dict, list, list]] = {
    # kind: type of the column, the rule, values that pass, values that break it
    "not_null": ("string", {}, ["a", "", " "], [None]),
    "accepted_values": ("string", {"values": ["A", "B"]}, ["A", "B", None], ["C", "a", "", "A "]),
    "accepted_values of numbers": ("int", {"values": [1, 2]}, [1, 2, None], [0, 3]),
    "range": (
        "decimal(9,2)", {"min": 0.1, "max": 100},
        [Decimal("0.10"), Decimal(100), None], [Decimal("0.09"), Decimal("100.01"), Decimal(-5)],
    ),
    "range above": ("decimal(9,2)", {"min": 0, "exclusive_min": True}, [EURO, None], [0, -EURO]),
    "range of integers": ("bigint", {"min": 1, "max": 10**15}, [1, 10**15, None], [0, 10**15 + 1]),
    "range below": ("int", {"max": 1e6}, [10**6, -(10**9), None], [10**6 + 1]),
    "pattern": ("string", {"pattern": "^[A-Z]{3}$"}, ["EUR", None], ["EU", "EURO", "eur", "xEURx"]),
    "length": ("string", {"min": 2, "max": 3}, ["ab", "abc", "äöü", None], ["a", "abcd", ""]),
    "length below": ("string", {"max": 1}, ["", "x", None], ["xx"]),
    "age": (
        "date", {"max_future_days": 1, "max_past_days": 3653},
        [DAY, days(1), days(-3653), None],
        [days(2), days(-3654), dt.date(1, 1, 1), dt.date(9999, 12, 31)],
    ),
    "age of the past": ("date", {"max_past_days": 0}, [DAY, days(9), None], [days(-1)]),
    "age of the future": ("date", {"max_future_days": 0}, [DAY, days(-9), None], [days(1)]),
    "age of a time": (
        "timestamp", {"max_future_days": 1, "max_past_days": 2},
        [midnight(days(2), add=-1), midnight(days(-2)), None],
        [midnight(days(2)), midnight(days(-2), add=-1), midnight(dt.date(9999, 12, 31))],
    ),
    "reference": ("bigint", {"table": "silver.parents", "column": "id"}, [1, 2, None], [3, 0]),
    "expression": ("bigint", {"expression": "x % 2 = 0"}, [2, 0, None], [1, -1]),
}  # fmt: skip
PARENTS = {"silver.parents.id": [1, 2]}


def one_rule(tmp_path: Path, kind: str, severity: str) -> Contract:
    type_, body, *_ = KINDS[kind]
    document = contract(
        "silver.feed",
        [column("x", type_, rule(kind.partition(" ")[0], severity=severity, name="mine", **body))],
    )
    return parsed(tmp_path, document)


def parsed(tmp_path: Path, document: dict) -> Contract:
    import yaml

    path = tmp_path / "silver" / "feed.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    return load_contract(path)


def test_the_examples_cover_every_rule_that_a_row_decides():
    assert {k.partition(" ")[0] for k in KINDS} == RULES.keys() - {"unique", "type"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("severity", ["error", "warn"])
def test_a_rule_fires_on_spoiled_values_and_on_no_other(sail, tmp_path, kind, severity):
    c = one_rule(tmp_path, kind, severity)
    _, _, good, bad = KINDS[kind]
    found = fired(sail, c, [{"x": v} for v in (*good, *bad)], PARENTS)
    assert found == [set()] * len(good) + [{"mine"}] * len(bad)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "not_null"])
def test_null_breaks_no_rule_but_not_null(kind):
    assert None in KINDS[kind][2], "the examples above say so"


def test_a_type_rule_fires_where_a_value_was_lost_in_the_cast(sail, tmp_path):
    document = contract(
        "silver.feed",
        [column("x", "bigint", of="bronze.feed.raw")],
        inputs=[{"table": "bronze.feed"}],
    )
    c = parsed(tmp_path, document)
    rows = [
        {"x": 7, "_inputraw": "7"},
        {"x": None, "_inputraw": None},
        {"x": None, "_inputraw": "  "},
        {"x": None, "_inputraw": "seven"},
    ]
    assert fired(sail, c, rows, {}) == [set(), set(), set(), {"x_type"}]


def test_an_age_is_counted_from_the_day_of_the_row_s_own_partition(sail, tmp_path):
    x = column("x", "date", rule("age", max_future_days=0, max_past_days=0))
    c = parsed(tmp_path, contract("silver.feed", [x], partitioning="hourly"))
    rows = [
        {"x": DAY, "_partition": f"{MONDAY}T00"},
        {"x": DAY, "_partition": f"{MONDAY}T23"},
        {"x": DAY, "_partition": f"{TUESDAY}T00"},
    ]
    assert fired(sail, c, rows, {}) == [set(), set(), {"x_age"}]


def test_a_row_names_every_rule_that_it_breaks(sail, tmp_path):
    two = column("x", "bigint", rule("range", min=0), rule("expression", expression="x % 2 = 0"),
                 rule("range", name="small", severity="warn", max=9))  # fmt: skip
    c = parsed(tmp_path, contract("silver.feed", [two, column("y", required=True)]))
    rows = [{"x": -1, "y": None}, {"x": 11, "y": "a"}, {"x": 2, "y": "a"}]
    assert fired(sail, c, rows, {}) == [
        {"x_range", "x_expression", "y_not_null"}, {"x_expression", "small"}, set(),
    ]  # fmt: skip


# -- uniqueness, which a whole table decides ---------------------------------------------------


def unique_contract(tmp_path: Path, **more: Any) -> Contract:
    columns = [column("id", "bigint", key=1), column("mail"), column("at", "timestamp"),
               column("gone", "boolean")]  # fmt: skip
    columns[2]["required"] = True
    return parsed(tmp_path, contract("silver.feed", columns, **more))


def shared(
    engine: Any, c: Contract, batch: list[tuple], published: list[tuple], closed: tuple = ()
) -> dict:
    """Rows that break the rule, by day, if the gates of `closed` days are. `batch` are (partition,
    outcome, id, mail), `published` (partition, id, mail, gone)."""
    staged = engine.spark.createDataFrame(
        [(*row, row[1] == "delete", "2026-10-09", 1) for row in batch],
        "_partition string, outcome string, id bigint, mail string, gone boolean, at string,"
        " _row_hash bigint",
    )
    before = engine.spark.createDataFrame(
        [(*row, "2026-10-01", 0) for row in published],
        "_partition string, id bigint, mail string, gone boolean, at string, _row_hash bigint",
    )
    days = sorted({row[0] for row in batch})
    (found,) = clashes(c, staged, before if published else None)
    broken = {d: found.broken(d, [p for p in days if p not in closed]) for d in days}
    return {d: n for d, n in broken.items() if n}


UPSERT = {"mode": "upsert", "sequence": "at", "delete_column": "gone"}
UNIQUE = [rule("unique", name="one_each", columns=["mail"])]


def test_two_rows_of_a_batch_with_one_value_break_a_unique_rule(sail, tmp_path):
    c = unique_contract(tmp_path, rules=UNIQUE)
    batch = [(MONDAY, "insert", 1, "a"), (MONDAY, "insert", 2, "b"), (TUESDAY, "insert", 3, "a")]
    assert shared(sail, c, batch, []) == {TUESDAY: 1}, "the earlier day was there first"
    assert shared(sail, c, batch[:2], []) == {}
    twice = [*batch[:2], (MONDAY, "insert", 3, "a")]
    assert shared(sail, c, twice, []) == {MONDAY: 2}


def test_a_row_counts_once_and_against_the_days_that_pass(sail, tmp_path):
    c = unique_contract(tmp_path, rules=UNIQUE)
    batch = [(day, "insert", i, m)
             for i, (day, m) in enumerate([(MONDAY, "a"), (TUESDAY, "a"), (TUESDAY, "b"),
                                           (WEDNESDAY, "a"), (WEDNESDAY, "b")])]  # fmt: skip
    assert shared(sail, c, batch, []) == {TUESDAY: 1, WEDNESDAY: 2}
    assert shared(sail, c, batch, [], closed=(TUESDAY,)) == {TUESDAY: 1, WEDNESDAY: 1}
    assert shared(sail, c, batch, [], closed=(MONDAY, TUESDAY)) == {}


def test_nulls_are_like_no_other(sail, tmp_path):
    c = unique_contract(tmp_path, rules=UNIQUE)
    assert shared(sail, c, [(MONDAY, "insert", 1, None), (MONDAY, "insert", 2, None)], []) == {}


def test_rows_that_leave_the_batch_break_no_unique_rule(sail, tmp_path):
    c = unique_contract(tmp_path, rules=UNIQUE, publish=UPSERT)
    leaving = [(MONDAY, o, i, "a") for i, o in enumerate(("delete", "duplicate", "quarantine"), 2)]
    assert shared(sail, c, [(MONDAY, "insert", 1, "a"), *leaving], []) == {}


def test_a_row_of_the_table_breaks_a_unique_rule_too(sail, tmp_path):
    c = unique_contract(tmp_path, rules=UNIQUE, publish=UPSERT)
    batch = [(TUESDAY, "insert", 2, "a")]
    assert shared(sail, c, batch, [(MONDAY, 1, "a", False)]) == {TUESDAY: 1}
    assert shared(sail, c, batch, [(MONDAY, 1, "a", True)]) == {}, "a deleted row holds no value"
    assert shared(sail, c, batch, [(MONDAY, 2, "a", None)]) == {}, "a row is not unlike itself"


def test_rows_may_swap_a_unique_value(sail, tmp_path):
    c = unique_contract(tmp_path, rules=UNIQUE, publish=UPSERT)
    batch = [(TUESDAY, "update", 1, "b"), (TUESDAY, "update", 2, "a")]
    assert shared(sail, c, batch, [(MONDAY, 1, "a", None), (MONDAY, 2, "b", None)]) == {}


def test_a_replaced_partition_is_not_compared_with_itself(sail, tmp_path):
    c = unique_contract(tmp_path, rules=UNIQUE)
    batch, before = [(MONDAY, "insert", 1, "a")], (MONDAY, 1, "a", None)
    assert shared(sail, c, batch, [before]) == {}
    assert shared(sail, c, batch, [before, (TUESDAY, 2, "a", None)]) == {MONDAY: 1}


# -- every rule of the project -----------------------------------------------------------------

CONTRACTS = load_contracts(PROJECT / "contracts")
SAMPLES = {
    "string": "a@b.co", "int": 1, "bigint": 1, "boolean": True,
    "date": dt.date(2026, 10, 5), "timestamp": dt.datetime(2026, 10, 5, 12, tzinfo=dt.UTC),
}  # fmt: skip
# What breaks an expression cannot be derived from it.
BREAKS = {
    ("silver.fx_rates", "rate_to_base_positive"): {"rate_to_base": Decimal(0)},
    ("silver.customer_behavior", "event_ts_zone"): {"event_ts_zoned": False},
}


def clean(c: Contract) -> dict[str, Any]:
    row = {x.name: _sample(c, x) for x in c.columns if x.name not in ("valid_to", "is_current")}
    source = [r.spec.source.rpartition(".")[2] for r in c.rules if r.kind == "type"]
    return row | {f"{INPUT}{n}": "1" for n in source}


def _sample(c: Contract, x: Column) -> Any:
    value = Decimal(1) if x.type.startswith("decimal") else SAMPLES.get(x.type, [])
    for r in c.rules:
        if r.column == x.name and r.kind == "accepted_values":
            value = r.spec.values[0]
    return value


def spoiled(c: Contract, rule: Rule) -> dict[str, Any]:
    """What to change in a clean row so that it breaks `rule`."""
    type_ = c.column[rule.column].type if rule.column else ""
    number = Decimal if type_.startswith("decimal") else int
    match rule.kind:
        case "not_null":
            return {rule.column: None}
        case "type":
            return {rule.column: None, f"{INPUT}{rule.spec.source.rpartition('.')[2]}": "n/a"}
        case "accepted_values":
            return {rule.column: "none of these" if type_ == "string" else -99}
        case "range" if rule.spec.min is not None:
            return {rule.column: number(int(rule.spec.min) - 1)}
        case "range":
            return {rule.column: number(int(rule.spec.max) + 1)}
        case "pattern":
            return {rule.column: "no match"}
        case "length":
            return {rule.column: "x" * (rule.spec.max + 1) if rule.spec.max else ""}
        case "age":
            past, future = rule.spec.max_past_days, rule.spec.max_future_days
            day = days(future + 1) if future is not None else days(-past - 1)
            return {rule.column: day if type_ == "date" else midnight(day)}
        case "reference":
            return {rule.column: "none of these" if type_ == "string" else -1}
        case "expression":
            return BREAKS[c.table, rule.name]
    raise AssertionError(f"no spoiler for {rule.kind}")


@pytest.mark.parametrize("table", [t for t, c in CONTRACTS.items() if c.rules])
def test_every_rule_of_the_contract_fires_on_a_row_that_breaks_it(sail, table):
    c = CONTRACTS[table]
    good = clean(c)
    rules = [r for r in c.rules if r.kind != "unique"]
    rows = [good, *({**good, **spoiled(c, r)} for r in rules)]
    parents = {f"{r.spec.table}.{r.spec.column}": [good[r.column]]
               for r in c.rules if r.kind == "reference"}  # fmt: skip
    first, *others = fired(sail, c, rows, parents)
    assert first == set(), "a clean row breaks nothing"
    missed = [r.name for r, names in zip(rules, others, strict=True) if r.name not in names]
    assert missed == []


# -- rules that the engine cannot evaluate -----------------------------------------------------


def test_an_expression_over_a_column_that_is_not_there_names_the_rule(sail, tmp_path):
    x = column("x", "bigint", rule("expression", expression="y > 0"))
    c = parsed(tmp_path, contract("silver.feed", [x]))
    with pytest.raises(ContractError, match=r"feed.yaml: rule x_expression cannot be evaluated: "):
        fired(sail, c, [{"x": 1}], {})
