"""Contracts say nothing twice: which values follow by themselves, and where they stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from lakehouse.cli import check, main
from lakehouse.settings.load import load_settings
from spark_jobs.contract.model import Contract
from spark_jobs.contract.personal import looks_personal
from spark_jobs.contract.reader import load_contract, load_contracts
from spark_jobs.contract.repetition import repetitions

PROJECT = Path(__file__).parents[2]
CONCISE = """\
apiVersion: v3.1.0
kind: DataContract
id: silver.feed
version: 1.0.0
status: active
domain: testing
description:
  purpose: Rows
team:
  name: us
schema:
  - name: feed
    properties:
      - name: id
        physicalType: bigint
        required: true
        primaryKey: true
        description: Key
        quality:
          - type: custom
            engine: lakehouse
            severity: error
            implementation:
              rule: range
              min: 1
      - name: name
        physicalType: string
        classification: internal
        description: Name of a product
      - name: at
        physicalType: timestamp
        required: true
        description: Last change
customProperties:
  - property: classification
    value: internal
  - property: inputs
    value:
      - table: bronze.feed
  - property: publish
    value:
      mode: upsert
      sequence: at
  - property: partitioning
    value: daily
  - property: gates
    value:
      min_rows: 2
"""


def written(folder: Path, text: str, table: str = "silver/feed") -> Contract:
    path = folder / f"{table}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return load_contract(path)


def test_the_contracts_of_the_project_say_nothing_twice() -> None:
    assert [r for c in load_contracts(PROJECT / "contracts").values() for r in repetitions(c)] == []


def test_a_class_that_a_name_contradicts_is_worth_saying(tmp_path: Path) -> None:
    """The name of a product: without its own `internal` the contract is refused."""
    assert repetitions(written(tmp_path, CONCISE)) == []


def test_a_key_in_another_order_than_its_columns_says_so(tmp_path: Path) -> None:
    turned = CONCISE.replace("primaryKey: true", "primaryKey: true\n        primaryKeyPosition: 2")
    turned = turned.replace(
        "required: true\n        description: Last",
        "required: true\n        primaryKey: true\n        primaryKeyPosition: 1\n        description:",
    )
    contract = written(tmp_path, turned)
    assert contract.key == ("at", "id")
    assert repetitions(contract) == []


# The line that is added, behind which line, and what is said of it.
REPEATED = {
    "the name of the contract": ("name: feed", "id: silver.feed", "name is that of the id"),
    "the purpose": ("    description: Rows", "  - name: feed", "description is the contract's"),
    "the physical name": ("    physicalName: feed", "  - name: feed", "physicalName is the name"),
    "the logical type": (
        "        logicalType: integer", "        physicalType: bigint",
        "column id: logicalType integer follows from bigint",
    ),
    "a column's physical name": (
        "        physicalName: at", "      - name: at", "column at: physicalName is the name",
    ),
    "the class of the rest": (
        "        classification: internal", "      - name: at",
        "column at: classification internal is that of all columns that say nothing",
    ),
    "an optional column": (
        "        required: false", "      - name: name", "column name: required is false by default",
    ),
    "the place in a key of one column": (
        "        primaryKeyPosition: 1", "        primaryKey: true",
        "column id: its place in the key is that of its line",
    ),
    "the name of a rule": (
        "            name: id_range", "            severity: error",
        "rule id_range has this name by default",
    ),
    "an inclusive bound": (
        "              exclusive_min: false", "              min: 1",
        "rule id_range: exclusive_min is that by default",
    ),
    "the rows of an input": (
        "        read: changes", "      - table: bronze.feed",
        "input bronze.feed: read is that by default",
    ),
    "no delete column": (
        "      delete_column: null", "      mode: upsert", "publish: delete_column is that by",
    ),
    "a threshold of the layer": (
        "      max_quarantine_rate: 0.1", "      min_rows: 2",
        "gates: max_quarantine_rate: 0.1 is the silver default",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REPEATED)
def test_what_follows_by_itself_is_named_with_its_line(tmp_path: Path, case: str) -> None:
    line, behind, said = REPEATED[case]
    lines = CONCISE.splitlines()
    lines.insert(lines.index(behind) + 1, line)
    before = written(tmp_path / "before", CONCISE)
    contract = written(tmp_path / "after", "\n".join(lines))
    (found,) = repetitions(contract)
    assert found.startswith(f"{contract.path}:{lines.index(behind) + 2}: {said}"), found
    assert replace(contract, path="") == replace(before, path=""), "it says the same without"


PROPERTIES = {"grain": "row", "physicalPartition": "_arrival_date", "lookbackDays": 30}


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_property_with_its_default_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    text = f"{CONCISE}  - property: {name}\n    value: {PROPERTIES[name]}\n"
    contract = written(tmp_path, text)
    line = CONCISE.count("\n") + 1
    assert repetitions(contract) == [
        f"{contract.path}:{line}: {name}: {PROPERTIES[name]} is the default: leave it out"
    ]


SOURCE = {"delimiter": ",", "quote": '"', "header": True, "encoding": "utf-8", "multiline": []}


@pytest.mark.parametrize("key", [*SOURCE, "days"])
def test_a_source_that_is_as_usual_says_no_more(tmp_path: Path, key: str) -> None:
    document = yaml.safe_load((PROJECT / "contracts/bronze/fx_rates.yaml").read_text())
    (source,) = [p for p in document["customProperties"] if p["property"] == "source"]
    week = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    source["value"][key] = SOURCE.get(key, week)
    contract = written(tmp_path, yaml.safe_dump(document, sort_keys=False), "bronze/fx_rates")
    (found,) = repetitions(contract)
    assert f": source: {key} is that by default" in found


def edited(folder: Path, change: Callable[[str], str]) -> Path:
    """The project's contracts with one of them changed."""
    for path in (PROJECT / "contracts").glob("*/*.yaml"):
        copy = folder / "contracts" / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    path = folder / "contracts/silver/orders.yaml"
    path.write_text(change(path.read_text()))
    return path


def test_check_refuses_what_a_contract_says_twice_and_names_every_line(
    tmp_path: Path, monkeypatch: Any
) -> None:
    path = edited(
        tmp_path,
        lambda text: text.replace("        physicalType: date", "        physicalType: date\n"
                                  "        logicalType: date"),
    )  # fmt: skip
    settings = load_settings(home=tmp_path, project=PROJECT).model_copy(
        update={"project": tmp_path}
    )
    monkeypatch.setattr(check, "load_settings", lambda: settings)
    said = CliRunner().invoke(main, ["check"])
    assert said.exit_code == 2, said.output
    twice = [n for n, line in enumerate(path.read_text().splitlines(), 1) if "logicalType" in line]
    assert len(twice) == 2
    for line in twice:
        assert f"{path}:{line}: column " in said.output


PERSONAL = ["email", "E-Mail", "EMail", "contactEmail", "phone", "MobilePhone", "name", "LastName"]
PERSONAL += ["first_name", "billing_street", "BillingPostalCode", "date_of_birth", "birth_date"]
PERSONAL += ["customer name", "passport_number", "IBAN", "ip_address", "zip", "CardNumber"]
OTHERS = [
    "event_name",
    "month_name",
    "StageName",
    "line_number",
    "country",
    "customer_id",
    "status",
]
OTHERS += ["description", "emailed_on_count", "zipper", "brand_name", "number", "shipment"]


@pytest.mark.parametrize("name", PERSONAL)
def test_a_name_that_says_personal_data_is_noticed(name: str) -> None:
    assert looks_personal(name)


@pytest.mark.parametrize("name", OTHERS)
def test_a_name_that_says_none_is_left_alone(name: str) -> None:
    assert not looks_personal(name)
