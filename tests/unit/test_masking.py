"""What is shown of rows outside of their table: values of columns that are known to be harmless.

Not here: that the platform masks wherever it shows something (tests/integration/test_canaries.py).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lakehouse.governance.masking import MASK, Masking
from spark_jobs.contract.reader import load_contracts
from tests.lakes import bronze, column, contract

INTERNAL = {"classification": "internal"}
PII = {"classification": "pii"}


@pytest.fixture
def masking(tmp_path: Path) -> Masking:
    people = bronze("people", "json", *(column(n) | INTERNAL for n in ("id", "email", "note")))
    columns = [
        column("id", "bigint", key=1, of="bronze.people.id") | INTERNAL,
        column("mail", of="bronze.people.email") | PII,
        column("unsaid"),
        column("secret") | {"classification": "confidential"},
        column("seen", "array<string>") | INTERNAL,
    ]
    silver = contract("silver.people", columns, inputs=[{"table": "bronze.people"}])
    for document in (people, silver):
        path = tmp_path / f"{document['id'].replace('.', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(document))
    contracts = load_contracts(tmp_path)
    return Masking.of(contracts["silver.people"], contracts)


def shown(masking: Masking, **record: object) -> dict:
    return json.loads(masking.record(json.dumps(record)))


def test_a_value_of_a_harmless_column_is_shown(masking: Masking) -> None:
    assert shown(masking, id="7", note="n") == {"id": "7", "note": "n"}


@pytest.mark.parametrize("name", ["mail", "email", "EMAIL", "eMail", "unsaid", "secret"])
def test_a_column_is_masked_unless_its_class_says_that_it_may_be_shown(
    masking: Masking, name: str
) -> None:
    assert shown(masking, **{name: "v"}) == {name: MASK}


@pytest.mark.parametrize("name", ["unheard_of", "_rescued", "_record"])
def test_a_name_that_no_contract_knows_is_masked(masking: Masking, name: str) -> None:
    assert shown(masking, **{name: "v"}) == {name: MASK}


def test_an_object_within_a_harmless_column_is_masked(masking: Masking) -> None:
    assert shown(masking, note={"email": "v"}, seen=["a"]) == {"note": MASK, "seen": ["a"]}


def test_text_that_is_no_record_is_withheld(masking: Masking) -> None:
    assert "lovelace" not in masking.record('{"id": 1, ada@lovelace.org')
    assert "lovelace" not in masking.record('["ada@lovelace.org"]')


def test_the_detail_of_a_check_of_a_masked_column_is_withheld(masking: Masking) -> None:
    assert masking.text("mail_type", "ada@lovelace.org") == MASK
    assert masking.text("unsaid_type", "ada@lovelace.org") == MASK
    assert masking.text("row_count", "3 rows") == "3 rows"
