"""An extraction that is killed, or that races with another one: every record lands once all the same.

Here: processes that are killed at lines of their work all over it, against a server that speaks
Salesforce, up to silver. Not here: each step by itself (tests/unit/test_extraction.py), or streams
(test_kinesis.py).
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from lakehouse.settings.references import Secret
from lakehouse.settings.sources import SalesforceConnection
from lakehouse.sources import cursors, extract, files, salesforce
from lakehouse.sources.cursors import SqliteStore
from lakehouse.sources.extract import Dataset, Extracted
from lakehouse.standins.data.delivery import deliver
from lakehouse.standins.servers import salesforce as server
from lakehouse.standins.servers.salesforce import PASSWORD, TOKEN, USER, SalesforceService
from spark_jobs.contract.reader import load_contract, load_contracts
from spark_jobs.contract.source import Salesforce
from spark_jobs.engines.session import Engine
from spark_jobs.errors import ConflictError
from spark_jobs.lake import manifest
from spark_jobs.lake.storage import Storage
from spark_jobs.report import ZONES
from tests import processes
from tests.lakes import TinyLake

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
CONTRACT = PROJECT / "contracts/bronze/leads.yaml"
BRONZE, SILVER = "bronze.leads", "silver.leads"
MONDAY, TUESDAY = "2026-10-05", "2026-10-06"
LATER = datetime(2026, 11, 1, tzinfo=UTC)
POINTS = 20
WORK = {module.__file__ for module in (extract, files, cursors, manifest)}


class Lines:
    """Calls something at the line of this number of an extraction's own code; counts them."""

    def __init__(self, number: int, then: Callable[[], None]) -> None:
        self.number, self.then, self.seen = number, then, 0

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in WORK:
            return None
        if event == "line":
            self.seen += 1
            if self.seen == self.number:
                self.then()
        return self


def leads(url: str, root: Path) -> Dataset:
    connection = SalesforceConnection(
        username=Secret("SF_USER"),
        password=Secret("SF_PASSWORD"),
        security_token=Secret("SF_TOKEN"),
        endpoint=url,
    )
    contract = load_contract(CONTRACT)
    declared, columns = contract.delivered, tuple(c.name for c in contract.columns)
    assert isinstance(declared, Salesforce)
    of = salesforce.source(connection, declared, columns)
    return Dataset(of, declared, columns, Storage(), f"{root}/landing", timedelta(minutes=15))


def take(url: str, root: Path, day: str) -> Extracted:
    store = SqliteStore(root / "positions.sqlite")
    return extract.extract(leads(url, root), day, store, LATER)


def take_and_die(url: str, root: Path, day: str, line: int) -> None:
    """The process that is killed."""
    sys.settrace(Lines(line, processes.die))
    take(url, root, day)


def race(url: str, root: Path, name: str, gate: float) -> None:
    """One of two processes that begin at a time; leaves what became of it."""
    dataset, store = leads(url, root), SqliteStore(root / "positions.sqlite")
    time.sleep(max(0.0, gate - time.time()))
    try:
        done = extract.extract(dataset, TUESDAY, store, LATER)
        said = "landed" if done.landed else "was there"
    except ConflictError:
        said = "overtaken"
    (root / name).write_text(said)


@pytest.fixture(scope="module")
def service() -> Iterator[SalesforceService]:
    with server.serve() as running:
        yield running


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's records, as files."""
    root = tmp_path_factory.mktemp("given")
    deliver(root / "landing", root / "answers.json", scale=0.001, days=2, faults=False)
    return root


@pytest.fixture
def begun(
    service: SalesforceService, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A place where Monday has landed, and Tuesday's records are in the service."""
    for name, value in (("SF_USER", USER), ("SF_PASSWORD", PASSWORD), ("SF_TOKEN", TOKEN)):
        monkeypatch.setenv(name, value)
    service.forget()
    service.put("Lead", delivered(given, MONDAY))
    assert take(service.url, tmp_path / "begun", MONDAY).landed
    service.put("Lead", delivered(given, TUESDAY))
    return tmp_path / "begun"


def delivered(given: Path, day: str) -> list[dict[str, Any]]:
    text = (given / "landing" / "leads" / day / "leads.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def landed(url: str, root: Path, day: str) -> list[str]:
    """The Ids of the records that count, as often as they are there."""
    folder = leads(url, root).folder(day).uri
    found = manifest.read(Storage(), folder)
    lines = [
        (Path(folder) / f.name).read_text().splitlines() for f in (found.files if found else ())
    ]
    return sorted(json.loads(line)["Id"] for of in lines for line in of)


def test_kills_all_over_an_extraction_lose_and_double_nothing_up_to_silver(
    service: SalesforceService, begun: Path, given: Path, sail: Engine, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(begun, whole)
    lines = Lines(0, processes.die)
    sys.settrace(lines)
    try:
        take(service.url, whole, TUESDAY)
    finally:
        sys.settrace(None)
    assert lines.seen > 100
    expected = sorted(r["Id"] for r in delivered(given, TUESDAY))
    unfinished = 0
    for point in range(POINTS):
        root = tmp_path / str(point)
        shutil.copytree(begun, root)
        line = 1 + point * (lines.seen - 1) // (POINTS - 1)
        killed = processes.start(take_and_die, service.url, root, TUESDAY, line)
        assert processes.finish(killed) == -signal.SIGKILL, line
        unfinished += landed(service.url, root, TUESDAY) != expected
        take(service.url, root, TUESDAY)
        assert landed(service.url, root, TUESDAY) == expected, line
        assert landed(service.url, root, MONDAY) == landed(service.url, whole, MONDAY), line
    assert 0 < unfinished < POINTS
    oracle = silver(given, sail)
    assert len(oracle) > 20
    for point in (1, POINTS // 2, POINTS - 1):
        assert silver(tmp_path / str(point), sail) == oracle


def silver(root: Path, sail: Engine) -> list[dict[str, Any]]:
    """The table that comes of what has landed below a folder."""
    lake = TinyLake(root, sail, zones={zone: str(root / zone) for zone in ZONES})
    contracts = str(PROJECT / "contracts")
    lake._parsed = load_contracts(contracts)
    for table in (BRONZE, SILVER):
        lake.run(table, MONDAY, TUESDAY, contracts=contracts)
    rows = [{c: v for c, v in r.items() if not c.startswith("_")} for r in lake.rows(SILVER)]
    return sorted(rows, key=lambda row: row["lead_id"])


def test_of_extractions_that_race_one_counts(
    service: SalesforceService, begun: Path, given: Path, tmp_path: Path
) -> None:
    for turn in range(2):
        root = tmp_path / str(turn)
        shutil.copytree(begun, root)
        gate = time.time() + 2
        both = [processes.start(race, service.url, root, f"race-{n}", gate) for n in "ab"]
        for process in both:
            assert processes.finish(process) == 0
        became = sorted((root / f"race-{n}").read_text() for n in "ab")
        assert became in (["landed", "overtaken"], ["landed", "was there"]), became
        expected = sorted(r["Id"] for r in delivered(given, TUESDAY))
        assert landed(service.url, root, TUESDAY) == expected
