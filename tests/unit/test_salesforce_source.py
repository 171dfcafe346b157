"""Salesforce: every changed record once, deleted ones too, by REST and by Bulk 2.0 alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from lakehouse.settings.references import Secret
from lakehouse.settings.sources import SalesforceConnection
from lakehouse.sources import salesforce
from lakehouse.sources.cursors import SqliteStore
from lakehouse.sources.extract import Dataset, extract
from lakehouse.sources.source import Meter
from lakehouse.standins.data.delivery import deliver
from lakehouse.standins.servers import salesforce as server
from lakehouse.standins.servers.salesforce import (
    APP_KEY,
    APP_SECRET,
    PASSWORD,
    TOKEN,
    USER,
    SalesforceService,
)
from spark_jobs.contract.reader import load_contract
from spark_jobs.contract.source import Salesforce
from spark_jobs.errors import InputError, StorageError
from spark_jobs.lake.storage import Storage

PROJECT = Path(__file__).parents[2]
FIELDS = ("Id", "Name", "Amount", "Closed", "SystemModstamp")
NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)
UNTIL = NOON + timedelta(days=1)


@pytest.fixture(scope="module")
def running() -> Iterator[SalesforceService]:
    with server.serve() as service:
        yield service


@pytest.fixture
def service(running: SalesforceService, monkeypatch: pytest.MonkeyPatch) -> SalesforceService:
    running.forget()
    for name, value in (("SF_USER", USER), ("SF_PASSWORD", PASSWORD), ("SF_TOKEN", TOKEN)):
        monkeypatch.setenv(name, value)
    running.put("Deal", (deal(n) for n in range(25)))
    return running


def deal(n: int, **changes: Any) -> dict[str, Any]:
    at = NOON + timedelta(minutes=n)
    return {
        "Id": f"006{n:015}",
        "Name": f'Deal {n}, the "first"\nof many',
        "Amount": n * 1.5 if n % 3 else None,
        "Closed": n % 2 == 0,
        "SystemModstamp": f"{at:%Y-%m-%dT%H:%M:%S}.000+0000",
        **changes,
    }


def records(service: SalesforceService, *more: str, **settings: Any) -> salesforce.Records:
    given = {"poll_seconds": 0.01, "attempts": 3, "endpoint": service.url, **settings}
    secrets = {"username": "SF_USER", "password": "SF_PASSWORD", "security_token": "SF_TOKEN"}
    connection = SalesforceConnection(**{k: Secret(v) for k, v in secrets.items()}, **given)
    declared = Salesforce(kind="salesforce", dataset="deals", format="json", object="Deal")
    return salesforce.source(connection, declared, (*FIELDS, *more))


def pulled(of: salesforce.Records, since: datetime | None = None) -> list[dict[str, Any]]:
    return [dict(r) for b in of.pull(since, UNTIL, Meter()) for r in b]  # type: ignore[union-attr]


def test_all_pages_are_read_in_the_order_of_change(service: SalesforceService) -> None:
    service.page = 10
    rows = pulled(records(service))
    assert [r["Id"] for r in rows] == [deal(n)["Id"] for n in range(25)]
    assert rows[3] == deal(3)
    assert sum("/query/" in r for r in service.requests) == 4, "a count, and three pages"


def test_what_changed_before_is_not_read(service: SalesforceService) -> None:
    assert len(pulled(records(service), NOON + timedelta(minutes=20))) == 5


def test_many_records_are_a_job_of_bulk_and_the_same_records(service: SalesforceService) -> None:
    service.page = 10
    rows = pulled(records(service, bulk_from=25))
    assert any("/jobs/query" in r for r in service.requests)
    assert sum(r.endswith("/results") for r in service.requests) == 3
    by_rest = pulled(records(service))
    for bulk, rest in zip(rows, by_rest, strict=True):
        as_text = {k: None if v is None else json.dumps(v) if isinstance(v, (bool, float)) else v
                   for k, v in rest.items()}  # fmt: skip
        assert bulk == as_text, "a bronze table reads both as text"


def test_deleted_records_come_where_a_contract_can_tell_them(service: SalesforceService) -> None:
    service.put("Deal", [deal(7, IsDeleted=True)])
    assert len(pulled(records(service))) == 24
    for more in ({}, {"bulk_from": 1}):
        rows = pulled(records(service, "IsDeleted", **more))
        assert [str(r["IsDeleted"]).lower() for r in rows].count("true") == 1 and len(rows) == 25


def test_a_session_that_expires_between_pages_is_renewed(service: SalesforceService) -> None:
    service.page, service.expire = 10, 2
    assert len(pulled(records(service))) == 25
    assert sum("Soap" in r for r in service.requests) == 3


def test_a_session_that_expires_under_a_job_of_bulk_is_tried_again_later(
    service: SalesforceService,
) -> None:
    of = records(service, bulk_from=1)
    pulling = of.pull(None, UNTIL, Meter())
    service.page = 10
    next(pulling)
    service.expire = 1
    with pytest.raises(StorageError) as caught:
        list(pulling)
    assert not caught.value.permanent


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_service_that_is_not_well_is_asked_again(service: SalesforceService, status: int) -> None:
    service.answers = [(status, "SERVER_UNAVAILABLE")]
    assert len(pulled(records(service))) == 25


def test_the_limit_of_a_day_is_an_error_that_says_so(service: SalesforceService) -> None:
    service.answers = [(403, "REQUEST_LIMIT_EXCEEDED")]
    with pytest.raises(InputError, match="Deal: the day's requests are used up"):
        pulled(records(service))


def test_a_refused_login_says_what_to_do_and_holds_no_secret(
    service: SalesforceService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SF_PASSWORD", "wrong and secret")
    with pytest.raises(InputError, match=r"the login is refused \(INVALID_LOGIN\)") as caught:
        records(service).check()
    assert "secret" not in str(caught.value).replace("security", "")


def by_app(service: SalesforceService, **settings: Any) -> salesforce.Records:
    connection = SalesforceConnection(endpoint=service.url, attempts=1, **settings)
    return replace(records(service), connection=connection)


def test_a_connected_app_logs_in_by_itself(
    service: SalesforceService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SF_KEY", APP_KEY)
    monkeypatch.setenv("SF_SECRET", APP_SECRET)
    app = {"consumer_key": Secret("SF_KEY"), "consumer_secret": Secret("SF_SECRET")}
    assert len(pulled(by_app(service, **app, domain="standin.my"))) == 25
    assert not any("Soap" in r for r in service.requests)
    monkeypatch.setenv("SF_SECRET", "of another app")
    with pytest.raises(InputError, match=r"refused \(invalid_client\)") as caught:
        by_app(service, **app, domain="standin.my").check()
    assert "another" not in str(caught.value)
    with pytest.raises(ValueError, match="own domain"):
        by_app(service, **app)


def test_a_connected_app_logs_in_for_a_user_with_its_private_key(
    service: SalesforceService, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    service.app_certificate = first.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    user = {"username": "SF_USER", "consumer_key": "SF_KEY", "private_key": "SF_PEM"}
    of = by_app(service, **{name: Secret(kept) for name, kept in user.items()})
    monkeypatch.setenv("SF_KEY", APP_KEY)
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    monkeypatch.setenv("SF_PEM", first.private_bytes(*form).decode())
    assert len(pulled(of)) == 25
    assert not any("Soap" in r for r in service.requests)
    monkeypatch.setenv("SF_PEM", second.private_bytes(*form).decode())
    with pytest.raises(InputError, match=r"refused \(invalid_grant\)"):
        of.check()


@pytest.mark.parametrize(
    "given", [(), ("username", "password"), ("username", "consumer_key", "consumer_secret")]
)
def test_a_login_that_is_half_of_one_is_refused(given: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="a login has exactly"):
        SalesforceConnection(**{name: Secret("SF_USER") for name in given})


def test_a_pull_leaves_others_their_requests(service: SalesforceService) -> None:
    service.remaining = 500
    assert len(pulled(records(service))) == 25
    service.remaining = 499
    with pytest.raises(InputError, match=r"Deal: 499 of the day's 15,000 requests are left"):
        pulled(records(service))
    assert "/limits/" in service.requests[-1], "and no record was asked for"


def test_a_field_that_is_not_there_names_the_object(service: SalesforceService) -> None:
    with pytest.raises(StorageError, match="salesforce Deal: status 400 MALFORMED_QUERY"):
        pulled(records(service, "Wrong__c"))


def test_the_crm_of_the_sample_lands_from_the_service_as_it_is_delivered(
    service: SalesforceService, tmp_path: Path
) -> None:
    deliver(tmp_path / "given", tmp_path / "answers.json", scale=0.001, days=2, faults=False)
    cursors = SqliteStore(tmp_path / "positions.sqlite")
    for name in ("accounts", "contacts", "opportunities"):
        contract = load_contract(PROJECT / f"contracts/bronze/{name}.yaml")
        declared = contract.delivered
        assert isinstance(declared, Salesforce)
        columns = tuple(c.name for c in contract.columns)
        of = replace(records(service), declared=declared, columns=columns)
        landing = Dataset(of, declared, columns, Storage(), str(tmp_path), timedelta(minutes=15))
        for day in (date(2026, 10, 5), date(2026, 10, 6)):
            (given,) = (tmp_path / "given" / name / day.isoformat()).iterdir()
            rows = [json.loads(line) for line in given.read_text().splitlines()]
            service.put(declared.object, rows)
            done = extract(landing, day.isoformat(), cursors, datetime(2026, 11, 1, tzinfo=UTC))
            (file,) = done.manifest.files
            text = (tmp_path / name / day.isoformat() / file.name).read_text()
            there = {
                r["Id"]: {c: r.get(c) for c in columns} for r in map(json.loads, text.splitlines())
            }
            newest = {r["Id"]: {c: r.get(c) for c in columns} for r in rows}
            assert there == newest, (name, day)
