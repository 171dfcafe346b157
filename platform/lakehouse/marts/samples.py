"""Rows that a failed dbt test found, as far as they may be shown.

Belongs here: asking the warehouse for them once more, and masking what no class lets be shown. Does not
belong here: the test's verdict, which is dbt's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lakehouse.governance.masking import MASK
from lakehouse.marts.builds import opened
from lakehouse.settings.model import Settings
from lakehouse.settings.warehouse import RedshiftWarehouse
from lakehouse.warehouse.login import connected
from spark_jobs.contract.model import SHOWN_CLASSES

ROWS = 5
# What dbt's generic tests call the tested column, and their counts.
_TESTED = ("unique_field", "value_field", "from_field")
_COUNTS = ("n_records",)


def failing_rows(
    settings: Settings, manifest: Mapping[str, Any], folder: Path
) -> dict[str, list[dict[str, str]]]:
    """A few masked rows of each test that failed in a run of dbt, by the test's name."""
    results = folder / "run_results.json"
    if not results.exists():
        return {}
    failed = {
        r["unique_id"]: r["compiled_code"]
        for r in json.loads(results.read_bytes())["results"]
        if r["unique_id"].startswith("test.") and r["status"] in ("fail", "warn")
    }
    found: dict[str, list[dict[str, str]]] = {}
    try:
        answers = list(_ask(settings, failed)) if failed else []
    except Exception:  # of any driver: the verdict stands without a sample
        return found
    for unique_id, columns, rows in answers:
        test = manifest["nodes"][unique_id]
        shown = [_may_show(manifest, test, c) for c in columns]
        found[test["name"]] = [
            {
                c: str(v) if may or v is None else MASK
                for c, v, may in zip(columns, row, shown, strict=True)
            }
            for row in rows
        ]
    return found


def _ask(
    settings: Settings, queries: Mapping[str, str]
) -> Iterator[tuple[str, list[str], Sequence[Sequence[Any]]]]:
    """Columns and the first rows of each query. A query that fails now has no sample."""
    limited = {i: f"select * from (\n{q}\n) as failing limit {ROWS}" for i, q in queries.items()}
    warehouse = settings.warehouse
    if isinstance(warehouse, RedshiftWarehouse):
        with connected(warehouse) as connection:
            cursor = connection.cursor()
            for unique_id, sql in limited.items():
                cursor.execute(sql)
                yield unique_id, [c[0] for c in cursor.description], cursor.fetchall()
    else:
        with opened(settings.warehouse_path, read_only=True) as connection:
            for unique_id, sql in limited.items():
                cursor = connection.execute(sql)
                yield unique_id, [c[0] for c in cursor.description or ()], cursor.fetchall()


def _may_show(manifest: Mapping[str, Any], test: Mapping[str, Any], column: str) -> bool:
    """Whether the values of a column of a test's rows may be shown: counts, and columns of the model
    that the test is of whose class says so. What nobody has described may not."""
    if column in _COUNTS:
        return True
    name = test.get("column_name") if column in _TESTED else column
    parents = [test.get("attached_node"), *test["depends_on"]["nodes"]]
    described = [
        node["columns"][name]
        for p in parents
        if p and (node := manifest["nodes"].get(p)) and name in node["columns"]
    ]
    classes = [c["config"]["meta"].get("classification", "internal") for c in described]
    return bool(classes) and all(c in SHOWN_CLASSES for c in classes)
