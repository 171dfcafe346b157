"""Columns of any name that a source may give: bronze keeps it, and a rule of silver finds its value.

Here: names within the lake. Not here: names that a draft makes of them (tests/unit/test_draft.py).
"""

from __future__ import annotations

import csv
import io
import re

import pyarrow as pa
import pytest

from tests.lakes import MONDAY, TinyLake, bronze, column, contract, only

NAMES = ["Order Id", "Größe (cm)", "a-b", "a,b", "x=y", "order", "SELECT", "100%", "it's", 'say "hi"',
         "a;b", "{z}", "#", "a\\b", "1st", "e:f", "$x", "a[0]", "a<b>", "日本"]  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_value_that_its_type_lost_is_found_under_any_name(lake: TinyLake, kind: str) -> None:
    lake.define(bronze("feed", kind, *(column(n) for n in ("id", *NAMES))))
    typed = [column(f"n{i}", "bigint", of=f"bronze.feed.{n}") for i, n in enumerate(NAMES)]
    terms = ", ".join(f"number({n!r}, 'bigint').alias('n{i}')" for i, n in enumerate(NAMES))
    lake.define(
        contract("silver.feed", [column("id", key=1), *typed], inputs=[{"table": "bronze.feed"}],
                 gates={"max_quarantine_rate": 1.0}),
        f"""
        from spark_jobs.columns import LINEAGE, number

        def transform(feed):
            return feed.select(*LINEAGE, "id", {terms})
        """,
    )  # fmt: skip
    rows = [["1"] + ["7"] * len(NAMES), ["2"] + ["none"] * len(NAMES)]
    if kind == "csv":
        text = io.StringIO()
        csv.writer(text).writerows([["id", *NAMES], *rows])
        lake.land("feed", MONDAY, "f.csv", text.getvalue())
    else:
        columns = map(list, zip(*rows, strict=True))
        table = pa.table(dict(zip(["id", *NAMES], columns, strict=True)))
        lake.land("feed", MONDAY, "f.parquet", table)
    assert only(lake.run("bronze.feed", MONDAY)).counts.published == 2
    assert only(lake.run("silver.feed", MONDAY)).counts.published == 1
    (left,) = lake.quarantined("silver.feed")
    assert set(left["rules"]) == {f"n{i}_type" for i in range(len(NAMES))}


def test_a_value_of_another_type_leaves_bronze_under_any_name(lake: TinyLake) -> None:
    names = [n for n in NAMES if n not in ("a,b", "a;b", "e:f", "$x", "#", "{z}")]  # signs only
    names = [n for n in names if n not in ("a\\b", "a<b>")]
    lake.define(bronze("feed", "parquet", *(column(n, "bigint") for n in names)))
    table = pa.table({n: ["7", "none"] for n in names})
    lake.land("feed", MONDAY, "f.parquet", table)
    report = only(lake.run("bronze.feed", MONDAY))
    checks = {c.name for c in report.checks if c.failing_rows == 1}
    wanted = {c.type_check for c in lake.parsed()["bronze.feed"].columns}
    assert wanted <= checks and all(re.fullmatch("[A-Za-z0-9_]+", n) for n in wanted)
    (left,) = lake.quarantined("bronze.feed")
    assert set(left["rules"]) == wanted
