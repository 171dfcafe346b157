"""Records that somebody deletes in Salesforce, and takes out of the recycle bin again.

Here: from the service to silver, by the project's own contracts and transforms. Not here: the protocol
(tests/unit/test_salesforce_source.py), or what marts make of it (test_marts_build.py).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakehouse.settings.references import Secret
from lakehouse.settings.sources import SalesforceConnection
from lakehouse.sources import salesforce
from lakehouse.sources.cursors import SqliteStore
from lakehouse.sources.extract import Dataset, extract
from lakehouse.standins.servers import salesforce as server
from lakehouse.standins.servers.salesforce import PASSWORD, TOKEN, USER, SalesforceService
from spark_jobs.contract.source import Salesforce
from tests.documents import PROJECT
from tests.lakes import MONDAY, TUESDAY, WEDNESDAY, TinyLake

LATER = datetime(2026, 11, 1, tzinfo=UTC)
OBJECTS = {
    "accounts": "Account",
    "contacts": "Contact",
    "leads": "Lead",
    "opportunities": "Opportunity",
}
ACCOUNT, GONE, KEPT = "001000000000000001", "003000000000000001", "003000000000000002"


@pytest.fixture
def crm(lake: TinyLake) -> TinyLake:
    """The project's own tables of Salesforce, without the customers that accounts name."""
    for layer in ("bronze", "silver"):
        (lake.contracts / layer).mkdir(parents=True)
        for name in OBJECTS:
            document = yaml.safe_load((PROJECT / f"contracts/{layer}/{name}.yaml").read_text())
            for column in document["schema"][0]["properties"]:
                if "silver.customers" in str(column.get("quality")):
                    del column["quality"]
            (lake.contracts / layer / f"{name}.yaml").write_text(yaml.safe_dump(document))
    return lake


def record(
    service: SalesforceService, kind: str, of: dict[str, Any], day: str, **more: Any
) -> None:
    stamp = f"{day}T10:00:00.000+0000"
    stamps = {"CreatedDate": stamp, "LastModifiedDate": stamp, "SystemModstamp": stamp}
    service.put(kind, [{**of, **stamps, **more}])


def fill(service: SalesforceService, lake: TinyLake, day: str, *, deleted: bool) -> None:
    """An account with two contacts of which one goes with it, an opportunity, a lead."""
    rows = {
        "accounts": [{"Id": ACCOUNT, "Name": "Alpine Foods"}],
        "contacts": [{"Id": GONE, "AccountId": ACCOUNT}],
        "opportunities": [{"Id": "006000000000000001", "AccountId": ACCOUNT}],
        "leads": [
            {"Id": "00Q000000000000001", "Company": "Delta Labs", "Status": "Open - Not Contacted"}
        ],
    }
    if day == MONDAY:
        rows["contacts"].append({"Id": KEPT, "AccountId": ACCOUNT})
    for name, given in rows.items():
        empty = dict.fromkeys(lake.parsed()[f"bronze.{name}"].column)
        for one in given:
            record(service, OBJECTS[name], {**empty, **one}, day, IsDeleted=deleted)


def take(service: SalesforceService, lake: TinyLake, cursors: SqliteStore, day: str) -> None:
    """Extracts a day, and makes its tables."""
    words = {"username": "SF_USER", "password": "SF_PASSWORD", "security_token": "SF_TOKEN"}
    connection = SalesforceConnection(
        **{k: Secret(v) for k, v in words.items()}, endpoint=service.url
    )
    for name in OBJECTS:
        contract = lake.parsed()[f"bronze.{name}"]
        declared, columns = contract.delivered, tuple(c.name for c in contract.columns)
        assert isinstance(declared, Salesforce)
        of = salesforce.source(connection, declared, columns)
        landing = Dataset(of, declared, columns, lake.lake.storage, lake.zones["landing"],
                          timedelta(minutes=15))  # fmt: skip
        extract(landing, day, cursors, LATER)
        for layer in ("bronze", "silver"):
            report = lake.run(f"{layer}.{name}", day)
            assert not report.failed and not report.counts.quarantined, report.failed


def living(lake: TinyLake) -> dict[str, set[str]]:
    keys = {"accounts": "account_id", "contacts": "contact_id", "leads": "lead_id",
            "opportunities": "opportunity_id"}  # fmt: skip
    return {
        name: {r[key] for r in lake.rows(f"silver.{name}") if not r["is_deleted"]}
        for name, key in keys.items()
    }


def test_what_is_deleted_in_salesforce_is_gone_from_silver_until_it_is_undeleted(
    crm: TinyLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("SF_USER", USER), ("SF_PASSWORD", PASSWORD), ("SF_TOKEN", TOKEN)):
        monkeypatch.setenv(name, value)
    cursors = SqliteStore(tmp_path / "positions.sqlite")
    with server.serve() as service:
        fill(service, crm, MONDAY, deleted=False)
        take(service, crm, cursors, MONDAY)
        there = living(crm)
        assert {n: len(ids) for n, ids in there.items()} == {
            "accounts": 1, "contacts": 2, "leads": 1, "opportunities": 1,
        }  # fmt: skip
        fill(service, crm, TUESDAY, deleted=True)
        take(service, crm, cursors, TUESDAY)
        assert living(crm) == {
            "accounts": set(),
            "contacts": {KEPT},
            "leads": set(),
            "opportunities": set(),
        }
        (row,) = [r for r in crm.ledger("silver.contacts") if r.partition == TUESDAY]
        assert row.deleted == 1, "and counted as what it is"
        fill(service, crm, WEDNESDAY, deleted=False)
        take(service, crm, cursors, WEDNESDAY)
        assert living(crm) == there
