"""A second opinion on the answer sheet: every count once more, from the delivered files alone.

Here: readers with the standard library, and counting in SQL. Not here: what makes a row wrong
(`recount_rules.py`). Nothing is imported from the platform: neither the delivery's bookkeeping nor
the code under its test.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from recount_rules import FEEDS, REFERENCES, TABLES, Table


def read(landing: Path, dataset: str) -> tuple[list[dict], Counter[str], Counter[str]]:
    """All readable records as text with `_partition`; records and unreadable ones per partition."""
    rows: list[dict] = []
    seen: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    for file in sorted(landing.glob(f"{dataset}/*/[!.]*")):
        partition = file.parent.name
        kind = file.suffixes[0]
        for record in {".jsonl": _json, ".csv": _csv, ".parquet": _parquet}[kind](file):
            seen[partition] += 1
            if record is None:
                bad[partition] += 1
            else:
                text = {k: None if v is None else str(v) for k, v in record.items()}
                rows.append(text | {"_partition": partition})
    return rows, seen, bad


def _text(file: Path) -> TextIO:
    opened = gzip.open if file.suffix == ".gz" else open
    return opened(file, "rt", encoding="utf-8-sig", newline="")


def _json(file: Path) -> list[dict | None]:
    def parsed(line: str) -> dict | None:
        try:
            return json.loads(line)
        except ValueError:
            return None

    with _text(file) as lines:
        return [parsed(line) for line in lines.read().split("\n") if line]


def _csv(file: Path) -> list[dict | None]:
    delimiter = ";" if file.parts[-3] == "inventory" else ","
    with _text(file) as lines:
        header, *records = csv.reader(lines, delimiter=delimiter)
    return [
        {k: v or None for k, v in zip(header, r, strict=True)} if len(r) == len(header) else None
        for r in records
    ]


def _parquet(file: Path) -> list[dict | None]:
    table = pq.read_table(file)
    untyped = [
        f.name for f in table.schema if f.name == "total_price" and pa.types.is_string(f.type)
    ]

    def readable(record: dict) -> bool:
        return all(
            record[c] is None or record[c].replace(".", "").lstrip("-").isdigit() for c in untyped
        )

    return [record if readable(record) else None for record in table.to_pylist()]


@dataclass(frozen=True)
class Recount:
    """Counts per run in the sheet's form, the final rows, and valid rows that came too early.

    A row comes too early if what it refers to is delivered later: its outcome would then depend on
    the order in which partitions are processed.
    """

    runs: list[dict]
    final: dict[str, int]
    too_early: dict[str, int]


def recount(landing: Path, runs: Sequence[Sequence[str]]) -> Recount:
    """Count what one run per group of days, one after the other, must report."""
    db = duckdb.connect()
    cells: list[dict] = [{} for _ in runs]
    final: dict[str, int] = {}
    readable: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for dataset, table in TABLES.items():
        rows, seen, bad = read(landing, dataset)
        names = sorted({name for row in rows for name in row})
        raw = pa.table({n: pa.array([row.get(n) for row in rows], pa.string()) for n in names})
        db.register("arrow_rows", raw)
        db.execute(f"create table raw_{dataset} as from arrow_rows")
        db.unregister("arrow_rows")
        _judge(db, dataset, table)
        final[f"bronze.{dataset}"] = len(rows)
        of = FEEDS.get(dataset, dataset)
        if of != dataset:
            _unite(db, of, dataset)
        readable[of].update(seen)
        readable[of].subtract(bad)
        for number, days in enumerate(runs):
            cells[number][f"bronze.{dataset}"] = {
                p: _cell(seen[p], {"quarantined": bad[p]}, _bronze_rule(dataset, bad[p]))
                for p in seen
                if p[:10] in days
            }
    for name, counted in readable.items():
        table = TABLES[name]
        final[f"silver.{name}"] = _one(
            db, f"select count(*) from (select distinct {table.key} from valid_{name})"
        )
        for number, days in enumerate(runs):
            wanted = [p for p in counted if p[:10] in days]
            earlier = [p for p in counted if any(p[:10] in run for run in runs[:number])]
            silver = _outcomes(db, name, table, wanted, earlier)
            cells[number][f"silver.{name}"] = {p: _cell(counted[p], *silver[p]) for p in wanted}
    final["gold.dim_customer"] = final["silver.customers"] + 1
    final["gold.dim_product"] = final["silver.products"] + 1
    final["gold.fact_sales"] = final["silver.line_items"]
    final["gold.fact_inventory"] = final["silver.inventory"]
    final["gold.product_costs"] = _one(
        db, "select count(*) from (select distinct product_id, valid_from from valid_price_lists)"
    )
    for name, dataset, by in (
        ("headcount", "employees", "department"),
        ("lead_conversion", "leads", "lead_source"),
    ):
        of = TABLES[dataset]
        final[f"gold.{name}"] = _one(
            db,
            f"""select count(distinct {by}) from (from valid_{dataset} qualify row_number() over
            (partition by {of.key} order by {of.sequence} desc) = 1)""",
        )
    final["gold.fact_behavior"] = (
        final["silver.customer_behavior"]
        + final["silver.customer_events"]
        + final["silver.orders_events"]
    )
    final["gold.sensor_status_hourly"] = _one(
        db,
        """select count(*) from
        (select distinct sensor_id, date_trunc('hour', reading_ts) from valid_sensor_readings)""",
    )
    final["gold.sensor_status_daily"] = _one(
        db,
        """select count(*) from
        (select distinct sensor_id, reading_ts::date from valid_sensor_readings)""",
    )
    early = {
        f"{child}.{column}": _one(
            db,
            f"""select count(*) from valid_{child} c join
            (select {column}, min(_partition) first from valid_{parent} group by 1) p
            using ({column})
            where c._partition < p.first""",
        )
        for child, parent, column in REFERENCES
    }
    return Recount(cells, final, early)


def _judge(db: duckdb.DuckDBPyConnection, dataset: str, table: Table) -> None:
    """Type all rows and evaluate all rules; `valid_<dataset>` keeps what breaks no error rule."""
    typed = ", ".join(f"{sql} as {name}" for name, sql in table.columns.items())
    rules = table.errors | table.warnings
    flags = ", ".join(f'coalesce({sql}, false) as "{rule}"' for rule, sql in rules.items())
    # Two steps, so that rules see the typed columns before the text ones (`r`) of the same name.
    db.execute(
        f"""create table judged_{dataset} as
        select t.* exclude (r), r._partition, r,
            coalesce({table.filtered}, false) as filtered, {flags}
        from (select {typed}, r from raw_{dataset} r) t"""
    )
    broken = " or ".join(f'"{rule}"' for rule in table.errors)
    db.execute(f"alter table judged_{dataset} add column valid boolean")
    db.execute(f"update judged_{dataset} set valid = not filtered and not ({broken})")
    db.execute(f"create table valid_{dataset} as from judged_{dataset} where valid")


def _unite(db: duckdb.DuckDBPyConnection, table: str, dataset: str) -> None:
    """Adds judged rows of a dataset to those of the table that they are part of."""
    for kind in ("judged", "valid"):
        db.execute(
            f"""create or replace table {kind}_{table} as
            select * exclude (r) from {kind}_{table}
            union all by name select * exclude (r) from {kind}_{dataset}"""
        )


def _outcomes(
    db: duckdb.DuckDBPyConnection, dataset: str, table: Table, wanted: list[str], earlier: list[str]
) -> dict[str, tuple[dict[str, int], dict[str, int]]]:
    """Per partition: rows by outcome, and rows by broken rule."""
    keys = table.key.split(", ")
    same = " and ".join(f"b.{k} = n.{k}" for k in keys)
    found = db.execute(
        f"""with n as (
            select *, row_number() over
                (partition by {table.key} order by {table.sequence} desc) as place
            from judged_{dataset} where valid and list_contains($wanted, _partition)
        ), b as (
            select {table.key}, max({table.sequence}) as sequence from judged_{dataset}
            where valid and list_contains($earlier, _partition) group by {table.key}
        )
        select n._partition, case when place > 1 or n.{table.sequence} < b.sequence then 'duplicate'
            when n.{table.sequence} = b.sequence then 'unchanged' else 'published' end, count(*)
        from n left join b on {same} group by all
        union all
        select _partition, case when filtered then 'filtered' else 'quarantined' end, count(*)
        from judged_{dataset} where not valid and list_contains($wanted, _partition)
        group by all""",
        {"wanted": wanted, "earlier": earlier},
    ).fetchall()
    outcomes: dict[str, tuple[dict[str, int], dict[str, int]]] = {p: ({}, {}) for p in wanted}
    for partition, outcome, count in found:
        outcomes[partition][0][outcome] = count
    parts = [TABLES[d] for d in TABLES if FEEDS.get(d, d) == dataset]
    rules = list(dict.fromkeys(rule for t in parts for rule in t.errors | t.warnings))
    sums = ", ".join(f'sum("{rule}"::int)' for rule in rules)
    for partition, *counts in db.execute(
        f"select _partition, {sums} from judged_{dataset} where not filtered group by 1"
    ).fetchall():
        if partition in outcomes:
            outcomes[partition][1].update(
                {r: int(n) for r, n in zip(rules, counts, strict=True) if n}
            )
    return outcomes


def _bronze_rule(dataset: str, bad: int) -> dict[str, int]:
    return {"total_price_type" if dataset == "orders" else "parsable": bad} if bad else {}


def _cell(read_rows: int, outcomes: dict[str, int], rules: dict[str, int]) -> dict:
    cell = dict.fromkeys(("unchanged", "duplicate", "quarantined", "filtered"), 0) | outcomes
    cell.setdefault("published", read_rows - sum(cell.values()))
    return {"read": read_rows, **cell, "rules": rules}


def _one(db: duckdb.DuckDBPyConnection, sql: str) -> int:
    return db.execute(sql).fetchone()[0]
