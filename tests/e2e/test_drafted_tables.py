"""A table from a delivered file: drafted, checked, tested and published, without a line by hand.

Here: `lakehouse contract new` in a copy of the project, with files as sources deliver them. Not here:
what is proposed of which values (tests/unit/test_draft.py).
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from spark_jobs.contract.reader import load_contracts
from tests.e2e.conftest import ProjectCopy, copy_project

pytestmark = pytest.mark.slow

DAY = "2026-10-06"
ROWS = 40
STATES = ("OPEN", "PAID", "SENT")
SECRET = "ada.lovelace"


def changed(i: int) -> dt.datetime:
    return dt.datetime(2026, 10, 6, 8, 0, i, tzinfo=dt.UTC)


def shops() -> bytes:
    out = io.StringIO()
    write = csv.writer(out)
    write.writerow(["shop_id", "opened_on", "country", "email", "revenue", "open", "updated_at"])
    for i in range(ROWS):
        write.writerow([
            i + 1, f"2020-01-{i % 28 + 1:02}", ("DE", "FR")[i % 2], f"{SECRET}{i}@example.com",
            f"{i}.25", ("true", "false")[i % 2], changed(i).isoformat(),
        ])  # fmt: skip
    return out.getvalue().encode()


def tickets() -> bytes:
    lines = [
        {"id": f"T-{i}", "state": STATES[i % 3], "hours": i / 4, "tags": ["a", "b"],
         "closed": i % 2 == 0, "changed": changed(i).isoformat()}
        | ({"note": "late"} if i % 5 == 0 else {})
        for i in range(ROWS)
    ]  # fmt: skip
    return "\n".join(map(json.dumps, lines)).encode()


def meters() -> bytes:
    table = pa.table(
        {
            "Meter Id": pa.array(range(ROWS), pa.int64()),
            "Reading": pa.array([i * 1.5 for i in range(ROWS)], pa.float64()),
            "price": pa.array([Decimal(f"{i}.123") for i in range(ROWS)], pa.decimal128(9, 3)),
            "taken": pa.array([dt.date(2026, 10, 1)] * ROWS),
            "updated": pa.array([changed(i) for i in range(ROWS)], pa.timestamp("us", "UTC")),
            "zone": pa.array([f"0{i}" for i in range(ROWS)]).dictionary_encode(),
            "tags": pa.array([["x"]] * ROWS, pa.list_(pa.string())),
            "raw": pa.array([b"\xff"] * ROWS),
        }
    )
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


NASTY = ["Order Id", "SELECT", "order", "from", "PLZ", "Größe (cm)", "E-Mail", "Phone Number", "1st",
         "Rate 100%", "it's \"it\"", "a.b", "_hidden", "Day", "Mixed Day", "Empty", "LastModified",
         "a" * 70, "b" * 95, "Comment"]  # fmt: skip


def nasty() -> bytes:
    out = io.StringIO()
    write = csv.writer(out, delimiter=";")
    write.writerow(NASTY)
    days = ("2026-10-01", "1.10.2026", "10/01/2026", "20261001")
    for i in range(ROWS):
        write.writerow([
            i, STATES[i % 3].lower(), "null" if i % 2 else "x", "N/A" if i == 3 else i, f"{i:05}",
            f"{i}.5", f"{SECRET}@example.com", f"4917{i:06}", "yes", f"{i + 1}.5E-3", "ü", "dot",
            "hidden", f" 2026-10-{i % 30 + 1:02} ", days[i % 4], "", f"2026-10-06 08:00:{i:02}",
            f"{i}e2", "", f"of {i};\nsecond line" if i == 7 else "",
        ])  # fmt: skip
    return out.getvalue().encode("utf-16")


FILES = {
    "shops.csv": shops,
    "tickets.jsonl": tickets,
    "meters.parquet": meters,
    "Nasty Orders-2026-10-06.CSV": nasty,
}
TABLES = ("shops", "tickets", "meters", "nasty_orders")


class Drafted:
    """A copy of the project in which a table was made of each file, and published."""

    def __init__(self, project: ProjectCopy, folder: Path) -> None:
        self.project, self.said = project, {}
        for file, content in FILES.items():
            (folder / file).write_bytes(content())
        for file in FILES:
            self.said[file] = project.run(f'lakehouse contract new --from-file "{folder / file}"')
        self.checked = project.run(
            "lakehouse check; ruff check . ; ruff format --check . ; python -m lakehouse.marts.sources"
        )
        self.tested = project.run(
            f"pytest -q {' '.join(f'tests/unit/test_{t}.py' for t in TABLES)}"
        )
        for table, file in zip(TABLES, FILES, strict=True):
            landing = project.lake / "landing" / table / DAY
            landing.mkdir(parents=True)
            shutil.copy(folder / file, landing)
        tables = ",".join(f"{layer}.{t}" for layer in ("bronze", "silver") for t in TABLES)
        self.backfilled = project.run(
            f"lakehouse backfill --from {DAY} --to {DAY} --tables {tables}"
        )
        self.contracts = load_contracts(project.root / "contracts")

    def rows(self, table: str) -> list[dict[str, Any]]:
        return (
            DeltaTable(str(self.project.lake / table.replace(".", "/")))
            .to_pyarrow_table()
            .to_pylist()
        )

    def types(self, name: str) -> dict[str, str]:
        return {c.name: c.type for c in self.contracts[f"silver.{name}"].columns}


@pytest.fixture(scope="module")
def drafted(tmp_path_factory: pytest.TempPathFactory) -> Drafted:
    """The tables need no others, so that the copy has a lake of theirs alone."""
    root = tmp_path_factory.mktemp("drafted")
    return Drafted(copy_project(root / "lakehouse"), root)


def test_what_is_drafted_is_valid_and_its_tests_pass(drafted: Drafted) -> None:
    contracts = len(list((drafted.project.root / "contracts").glob("*/*.yaml")))
    assert f"{contracts} contracts" in drafted.checked
    assert "All checks passed" in drafted.checked
    assert "11 passed" in drafted.tested, "two of Parquet, where nothing is text to lose"


@pytest.mark.parametrize("name", TABLES)
def test_every_delivered_row_is_published(drafted: Drafted, name: str) -> None:
    assert len(drafted.rows(f"bronze.{name}")) == ROWS
    assert len(drafted.rows(f"silver.{name}")) == ROWS, drafted.backfilled


def test_csv_gets_types_a_key_and_a_sequence(drafted: Drafted) -> None:
    assert drafted.types("shops") == {
        "shop_id": "bigint", "opened_on": "date", "country": "string", "email": "string",
        "revenue": "decimal(12,2)", "open": "boolean", "updated_at": "timestamp",
    }  # fmt: skip
    contract = drafted.contracts["silver.shops"]
    assert contract.key == ("shop_id",)
    assert (contract.publish.mode, contract.publish.sequence) == ("upsert", "updated_at")
    (first,) = [r for r in drafted.rows("silver.shops") if r["shop_id"] == 8]
    assert (first["revenue"], first["open"]) == (Decimal("7.25"), False)
    assert (first["opened_on"], first["updated_at"]) == (dt.date(2020, 1, 8), changed(7))


def test_only_what_has_a_class_is_shown(drafted: Drafted) -> None:
    for layer in ("bronze", "silver"):
        contract = drafted.contracts[f"{layer}.shops"]
        assert contract.concealed == {"_rescued", *contract.column}
        assert [c.name for c in contract.columns if c.pii] == ["email"]


def test_json_lines_with_keys_that_are_not_always_there(drafted: Drafted) -> None:
    contract = drafted.contracts["silver.tickets"]
    assert drafted.types("tickets") == {
        "id": "string", "state": "string", "hours": "decimal(12,2)", "tags": "string",
        "closed": "boolean", "changed": "timestamp", "note": "string",
    }  # fmt: skip
    assert [c.name for c in contract.columns if not c.required] == ["note"]
    (codes,) = [r for r in contract.rules if r.kind == "accepted_values"]
    assert (codes.column, codes.severity, codes.spec.values) == ("state", "warn", STATES)


def test_parquet_keeps_the_types_that_it_has(drafted: Drafted) -> None:
    bronze = {c.name: c.type for c in drafted.contracts["bronze.meters"].columns}
    assert bronze == {
        "Meter Id": "bigint", "Reading": "decimal(12,2)", "price": "decimal(9,3)", "taken": "date",
        "updated": "timestamp", "zone": "string", "tags": "array<string>",
    }  # fmt: skip
    row = next(r for r in drafted.rows("silver.meters") if r["meter_id"] == 3)
    assert (row["reading"], row["zone"], row["tags"]) == (Decimal("4.50"), "03", ["x"])
    assert "raw" in drafted.said["meters.parquet"], "what is left to _rescued is said"


def test_a_nasty_file_loses_nothing(drafted: Drafted) -> None:
    types = drafted.types("nasty_orders")
    assert types == {
        "order_id": "bigint", "select": "string", "order": "string", "from": "string", "plz": "string",
        "grosse_cm": "decimal(12,2)", "e_mail": "string", "phone_number": "string", "n_1st": "string",
        "rate_100_percent": "decimal(12,4)", "it_s_it": "string", "day": "date", "mixed_day": "string",
        "empty": "string", "last_modified": "timestamp", "a" * 40: "decimal(12,2)", "b" * 40: "string",
        "comment": "string",
    }  # fmt: skip
    source = drafted.contracts["bronze.nasty_orders"].source
    assert source is not None
    assert (source.delimiter, source.encoding, source.quote) == (";", "utf-16", '"')
    row = next(r for r in drafted.rows("silver.nasty_orders") if r["order_id"] == 7)
    assert (row["plz"], row["rate_100_percent"]) == ("00007", Decimal("0.0085"))
    assert (row["mixed_day"], row["day"]) == ("20261001", dt.date(2026, 10, 8))
    assert (row["a" * 40], row["comment"]) == (Decimal(700), "of 7;\nsecond line")
    (delivered,) = [r for r in drafted.rows("bronze.nasty_orders") if r["Order Id"] == "7"]
    assert json.loads(delivered["_rescued"]) == {"a.b": "dot", "_hidden": "hidden"}


def test_no_value_of_a_row_is_shown_or_written(drafted: Drafted) -> None:
    written = "".join(
        path.read_text()
        for name in TABLES
        for path in drafted.project.root.rglob(f"*{name}.*")
        if path.suffix in (".py", ".yaml")
    )
    assert "class: pii" not in written and "classification: pii" in written
    for text in (written, *drafted.said.values()):
        assert SECRET not in text and "second line" not in text and "4917" not in text


def test_the_rules_of_a_draft_are_tested_with_those_of_all_tables(drafted: Drafted) -> None:
    chosen = " or ".join(f"silver.{t}" for t in TABLES)
    said = drafted.project.run(
        f"pytest -q tests/unit/test_rules.py tests/unit/test_marts.py"
        f" -k '{chosen} or are_what_the_contracts_say'"
    )
    assert f"{len(TABLES) + 1} passed" in said


def test_a_draft_overwrites_nothing(drafted: Drafted, tmp_path: Path) -> None:
    (tmp_path / "shops.csv").write_bytes(shops())
    before = {p: p.stat().st_mtime_ns for p in drafted.project.root.rglob("*shops*")}
    said = drafted.project.run(f"lakehouse contract new --from-file {tmp_path}/shops.csv", 2)
    assert "contracts/bronze/shops.yaml is there already" in said
    assert {p: p.stat().st_mtime_ns for p in drafted.project.root.rglob("*shops*")} == before
