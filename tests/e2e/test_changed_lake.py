"""The sample lake after corrections, withdrawals, late rates, another function and a new rule, run in
pieces, against one that was built once from the final files and code.

Here: the command line end to end, every table, quarantine and mart. Not here: random histories of a
tiny lake (tests/integration/test_final_inputs.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import DeltaTable

from spark_jobs.batch import quarantine
from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contracts
from spark_jobs.lake.storage import Lake

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[2]
PARTS = ("contracts", "dbt_project", "platform", "spark_jobs", "pyproject.toml")
DAYS = ("2026-10-05", "2026-10-06", "2026-10-07")
CLERKS = 'F.upper("clerk").alias("clerk"),'


@dataclass(frozen=True)
class Project:
    """A copy of the project, whose code can change, and the lakes that it runs."""

    folder: Path

    @classmethod
    def copied(cls, folder: Path) -> Project:
        unwanted = shutil.ignore_patterns("__pycache__", "target", "logs", "*.egg-info")
        for part in PARTS:
            source = PROJECT / part
            copy = shutil.copytree if source.is_dir() else shutil.copy
            more = {"ignore": unwanted} if source.is_dir() else {}
            copy(source, folder / part, **more)
        for path in (folder / "contracts").rglob("*.yaml"):  # what is tried here rejects many rows
            document = yaml.safe_load(path.read_text())
            custom = {p["property"]: p for p in document["customProperties"]}
            gates = custom.get("gates", {"property": "gates", "value": {}})
            gates["value"] |= {"max_quarantine_rate": 1.0, "min_rows": 0}
            if "gates" not in custom:
                document["customProperties"].append(gates)
            path.write_text(yaml.safe_dump(document, sort_keys=False))
        return cls(folder)

    def lakehouse(self, home: Path, *arguments: str) -> None:
        paths = os.pathsep.join([str(self.folder / "platform"), str(self.folder)])
        environment = {
            **os.environ,
            "LAKEHOUSE_HOME": str(home),
            "LAKEHOUSE_ENV": "local",
            "PYTHONPATH": paths,
        }
        script = str(Path(sys.executable).with_name("lakehouse"))
        done = subprocess.run(
            [sys.executable, script, *arguments],
            cwd=self.folder, env=environment, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def backfill(self, home: Path, first: str, last: str, *more: str, tables: str = "") -> None:
        names = tables or ",".join(all_tables(self))
        self.lakehouse(home, "backfill", "--from", first, "--to", last, "--tables", names, *more)

    def bound(self, table: str, column: str, most: float) -> None:
        """Rejects what is above `most`: the first rule of the column is a range."""
        path = self.folder / "contracts" / f"{table}.yaml"
        document = yaml.safe_load(path.read_text())
        (found,) = [c for c in document["schema"][0]["properties"] if c["name"] == column]
        found["quality"][0]["implementation"]["max"] = most
        path.write_text(yaml.safe_dump(document, sort_keys=False))

    def replace(self, path: str, old: str, new: str) -> None:
        text = (self.folder / path).read_text()
        assert old in text
        (self.folder / path).write_text(text.replace(old, new))


def all_tables(project: Project) -> dict[str, Contract]:
    """All but those by the hour and what is made of them, which have nothing to do with orders and
    take long."""
    contracts = load_contracts(project.folder / "contracts")
    hours = {t for t, c in contracts.items() if c.partitioning == "hourly"}
    return {
        t: c
        for t, c in contracts.items()
        if t not in hours and hours.isdisjoint(i.table for i in c.inputs)
    }


def contents(home: Path, contracts: dict[str, Contract]) -> dict[str, list[str]]:
    """Everything that a reader of the lake or of the warehouse can see."""
    lake, out = Lake.at(str(home / "lake")), {}
    for table, c in contracts.items():
        names = [column.name for column in c.columns]
        if c.grain == "row" and c.partitioning:
            names.append("_partition")
        rows = DeltaTable(lake.table(table)).to_pyarrow_table(columns=names).to_pylist()
        out[table] = sorted(map(repr, rows))
        kept = quarantine.rows(lake, table)
        out[f"quarantine of {table}"] = sorted(
            repr((r["partition"], r["rules"], r["record"])) for r in kept
        )
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as connection:
        marts = connection.execute(
            "select table_schema || '.' || table_name from information_schema.tables"
            " where table_type = 'BASE TABLE' and table_schema <> 'lakehouse'"
        ).fetchall()
        for (mart,) in marts:
            rows = connection.execute(f"select * from {mart}").fetchall()
            out[mart] = sorted(map(repr, rows))
    return out


def unlike(ours: dict[str, list[str]], theirs: dict[str, list[str]]) -> dict[str, Any]:
    """Per table, how many rows are missing and too many, and one of each."""
    out = {}
    for name in sorted(ours.keys() | theirs.keys()):
        found, expected = ours.get(name, []), theirs.get(name, [])
        if found != expected:
            less, more = set(expected) - set(found), set(found) - set(expected)
            out[name] = (len(less), len(more), sorted(less)[:1], sorted(more)[:1])
    return out


def rewritten(path: Path, change: Any) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def dearer(orders: pa.Table) -> pa.Table:
    """Every fifth order has another total, at the time that it had before."""
    at = orders.column_names.index("total_price")
    prices = orders["total_price"].to_pylist()
    prices = [p + 7 if i % 5 == 0 and p is not None else p for i, p in enumerate(prices)]
    field = orders.field(at)
    return orders.set_column(at, field, pa.array(prices, field.type))


def test_a_lake_that_everything_happened_to_equals_one_that_was_built_once(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    project = Project.copied(tmp_path / "project")
    home, once = tmp_path / "home", tmp_path / "once"
    project.lakehouse(home, "deliver", "--scale", "0.001", "--days", str(len(DAYS)))
    landing = home / "lake" / "landing"

    late = landing / "fx_rates" / DAYS[1] / "fx_rates.csv"
    whole = late.read_text()
    late.write_text("".join(whole.splitlines(keepends=True)[:12]))
    project.backfill(home, DAYS[1], DAYS[2])
    project.backfill(home, DAYS[0], DAYS[0])
    project.lakehouse(home, "materialize", "marts")
    before = contents(home, all_tables(project))

    late.write_text(whole)
    first = landing / "fx_rates" / DAYS[0] / "fx_rates.csv"
    first.write_text(first.read_text().replace(",EUR,USD,1.", ",EUR,USD,2."))
    rewritten(landing / "orders" / DAYS[0] / "orders.parquet", dearer)
    rewritten(landing / "orders" / DAYS[1] / "orders.parquet", lambda t: t.slice(9))
    rewritten(landing / "customers" / DAYS[1] / "customers.parquet", lambda t: t.slice(3))
    project.replace("spark_jobs/tables/silver/orders.py", '"clerk",', CLERKS)
    totals = pq.read_table(landing / "orders" / DAYS[2] / "orders.parquet")["total_price"]
    highest = sorted(p for p in totals.to_pylist() if p is not None)
    project.bound("silver/orders", "total_amount", float(highest[-9]))
    project.backfill(home, DAYS[1], DAYS[2], tables="bronze.orders,silver.orders,silver.fx_rates")
    project.lakehouse(home, "materialize", "marts")
    project.backfill(home, DAYS[0], DAYS[2])
    project.lakehouse(home, "materialize", "marts")

    shutil.copytree(landing, once / "lake" / "landing")
    project.backfill(once, DAYS[0], DAYS[2])
    project.lakehouse(once, "materialize", "marts")
    expected = contents(once, all_tables(project))
    assert expected.keys() == before.keys()
    changed = unlike(before, expected).keys()
    assert {"silver.orders", "gold.fact_sales", "quarantine of silver.orders"} <= changed
    assert any("." in t and not t.startswith(("silver", "gold", "quarantine")) for t in changed)
    assert unlike(contents(home, all_tables(project)), expected) == {}
