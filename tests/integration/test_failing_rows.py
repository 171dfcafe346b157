"""Expressions of a transform or a rule that fail on some rows: their partition fails, by name, and no
other.

Here: what is published and said. Not here: rows that break a rule (test_rules.py).
"""

from __future__ import annotations

import pytest

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

SECRET = "secret-4711"


def lake_with(lake: TinyLake, expression: str) -> TinyLake:
    lake.define(bronze("feed", "json", column("id", required=True), column("amount")))
    columns = [column("id", required=True, of="bronze.feed.id"), column("n", "int", logic="amount")]
    document = contract("silver.feed", columns, inputs=[{"table": "bronze.feed"}])
    lake.define(document, copied("id", table="feed", extra=f"({expression}).alias('n')"))
    for day, amount in ((MONDAY, "1"), (TUESDAY, SECRET), (WEDNESDAY, "3")):
        lake.land("feed", day, "f.json", f'{{"id":"{day}","amount":"{amount}"}}\n')
    assert not lake.run("bronze.feed", MONDAY, TUESDAY, WEDNESDAY).failed
    return lake


def settled(lake: TinyLake) -> str:
    report = lake.run("silver.feed", MONDAY, TUESDAY, WEDNESDAY)
    assert [p.partition for p in report.failed] == [TUESDAY]
    assert sorted(lake.rows("silver.feed", "n")) == [1, 3], "the other days are published"
    rows = {r.partition: r.status for r in lake.ledger("silver.feed")}
    assert rows == {MONDAY: "published", TUESDAY: "failed", WEDNESDAY: "published"}
    assert SECRET not in str(lake.ledger("silver.feed")) + report.model_dump_json()
    return report.failed[0].error


YEAR = "F.year(F.col('amount').cast('date'))"


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("F.col('amount').cast('int')", "a value cannot be cast to Int"),
        (
            f"F.when(F.length('amount') > 1, {YEAR}).otherwise(F.col('amount').try_cast('int'))",
            "a value cannot be cast to DATE",
        ),
    ],
)
def test_a_cast_that_fails_in_a_transform_fails_its_day_and_no_other(lake, expression, said):
    error = settled(lake_with(lake, expression))
    assert error.startswith("spark_jobs/tables/silver/feed.py: transform: silver.feed 2026-10-06: ")
    assert said in error and " in column n, on the sail engine." in error


def test_a_single_partition_that_fails_has_its_ledger_row(lake):
    lake_with(lake, "F.col('amount').cast('int')")
    report = lake.run("silver.feed", TUESDAY)
    assert [p.partition for p in report.failed] == [TUESDAY]
    assert [r.status for r in lake.ledger("silver.feed")] == ["failed"]


RULES = {
    "cast": ("cast(amount as int) < 9", SECRET, "a value cannot be cast to Int"),
    "overflow": (
        "cast(try_cast(amount as decimal(38, 0)) * try_cast(amount as decimal(38, 0))"
        " * try_cast(amount as decimal(38, 0)) as decimal(38, 0)) < 100",
        "98765432109876543210",
        "a number beyond its type",
    ),
    "division": (
        "1 / (try_cast(amount as int) - 4711) < 9", "4711", "a division by zero"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("below", ["n", None])
def test_a_rule_that_fails_on_a_row_fails_its_day_and_names_rule_and_contract(lake, kind, below):
    expression, amount, said = RULES[kind]
    failing = rule("expression", name="is_small", expression=expression)
    lake.define(bronze("feed", "json", column("id", required=True), column("amount")))
    columns = [
        column("id", required=True, of="bronze.feed.id"),
        column("amount", "string", *([failing] if below else []), of="bronze.feed.amount"),
    ]
    rules = [] if below else [failing]
    document = contract("silver.feed", columns, rules=rules, inputs=[{"table": "bronze.feed"}])
    lake.define(document, copied("id", "amount", table="feed"))
    for day, value in ((MONDAY, "1"), (TUESDAY, amount), (WEDNESDAY, "3")):
        lake.land("feed", day, "f.json", f'{{"id":"{day}","amount":"{value}"}}\n')
    assert not lake.run("bronze.feed", MONDAY, TUESDAY, WEDNESDAY).failed
    report = lake.run("silver.feed", MONDAY, TUESDAY, WEDNESDAY)
    assert [p.partition for p in report.failed] == [TUESDAY]
    assert lake.rows("silver.feed", "amount") == ["1", "3"], "the other days are published"
    error = report.failed[0].error
    path = lake.contracts / "silver" / "feed.yaml"
    lines = [line.strip() for line in path.read_text().splitlines()]
    place, _, rest = error.partition(": rule is_small: silver.feed 2026-10-06: ")
    file, _, number = place.rpartition(":")
    assert file == str(path), error
    assert lines[int(number) - 1 :][:4][0::3] == ["- type: custom", "name: is_small"], number
    assert rest.startswith(said) and (" in column amount, on" in rest) == bool(below)
    assert amount not in str(lake.ledger("silver.feed")) + report.model_dump_json()
