"""What DMS is told follows from the contracts, and is what its API takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.validate import validate_parameters
from click.testing import CliRunner

from lakehouse.cli import main
from lakehouse.sources.dms import files
from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contract, load_contracts
from spark_jobs.errors import InputError
from tests.documents import PROJECT


@pytest.fixture(scope="module")
def contracts() -> dict[str, Contract]:
    return load_contracts(PROJECT / "contracts")


def test_each_table_of_a_contract_is_selected_once_numbered_and_named_as_its_dataset(
    contracts: dict[str, Contract],
) -> None:
    rules = files(contracts)["table-mappings.json"]["rules"]
    places = [tuple(r["object-locator"].values()) for r in rules if r["rule-type"] == "selection"]
    names = ("addresses", "customers", "loyalty_accounts")
    assert sorted(places) == [("source_db", name) for name in names]
    assert [r["rule-id"] for r in rules] == [str(n) for n in range(1, len(rules) + 1)]
    assert len({r["rule-name"] for r in rules}) == len(rules)
    renamed = [r for r in rules if r["rule-action"] == "rename"]
    assert [(r["object-locator"]["table-name"], r["value"]) for r in renamed] == [
        ("customers", "customer_changes")
    ]
    added = [r for r in rules if r["rule-action"] == "add-column"]
    assert {(r["value"], r["expression"]) for r in added} == {("change_seq", "$AR_H_CHANGE_SEQ")}
    assert {r["object-locator"]["table-name"] for r in added} == {*names}


@pytest.mark.parametrize("format_", ["parquet", "csv"])
def test_the_settings_of_the_target_are_what_its_api_takes(
    contracts: dict[str, Contract], format_: str
) -> None:
    delivered = {
        name: replace(c, source=c.source.model_copy(update={"format": format_}))
        for name, c in contracts.items()
        if c.source and c.source.kind == "dms"
    }
    target: dict[str, Any] = files(delivered)["target-settings.json"]
    service = boto3.client("dms", region_name="eu-central-1").meta.service_model
    shape = service.shape_for("S3Settings")
    validate_parameters(target, shape)
    for name, value in target.items():
        choices = getattr(shape.members[name], "enum", [])
        assert not choices or value in choices, name
    assert target["TimestampColumnName"] in contracts["bronze.addresses"].column
    assert target["UseTaskStartTimeForFullLoadTimestamp"], (
        "else a load wins over what changes meanwhile"
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: change_seq", "name: other", "lacks change_seq"),
        ("dataset: addresses", "dataset: others", "source_db.addresses is delivered as addresses"),
    ],
)
def test_a_contract_that_dms_cannot_serve_is_an_error(
    contracts: dict[str, Contract], tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = (PROJECT / "contracts/bronze/addresses.yaml").read_text()
    path = tmp_path / "bronze/others.yaml"
    path.parent.mkdir()
    path.write_text(text.replace(old, new).replace("bronze.addresses", "bronze.others"))
    other = load_contract(path)
    with pytest.raises(InputError, match=said):
        files({**contracts, other.table: other})


def test_files_that_are_no_longer_what_the_contracts_say_fail_the_check(tmp_path: Path) -> None:
    def asked(*more: str) -> Any:
        return CliRunner().invoke(main, ["contract", "dms", "--to", str(tmp_path / "dms"), *more])

    assert asked("--check").exit_code != 0
    assert asked().exit_code == 0
    assert asked("--check").exit_code == 0
    path = tmp_path / "dms/table-mappings.json"
    rules = json.loads(path.read_text())
    path.write_text(json.dumps({"rules": rules["rules"][1:]}))
    found = asked("--check")
    assert found.exit_code != 0
    assert "table-mappings.json" in str(found.output) + str(found.exception)
