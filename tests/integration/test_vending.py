"""A lake whose credentials Unity Catalog vends: every log, listing and landing file is reached by a key
of its own zone, and by nothing else.

Here: the embedded engine, with a key of its own as a job's session has one, on a store that looks who
asks. Not here: jobs (test_databricks_runner.py).
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.standins.servers.aws import REGION, Aws
from lakehouse.standins.servers.databricks.catalog import ExternalLocation
from lakehouse.standins.servers.databricks.server import Workspace, workspace
from spark_jobs.engines import variables
from spark_jobs.engines.session import Engine
from spark_jobs.errors import EngineUnavailable, StorageError
from spark_jobs.lake import commits, making, vending
from spark_jobs.lake.ledger import history
from spark_jobs.lake.storage import ZONES, Lake, Storage
from spark_jobs.report import RunSpec, TableReport
from tests import workspace as workspaces
from tests.documents import PROJECT
from tests.guarded_store import Guard, guarded
from tests.lakes import MONDAY, TinyLake, bronze, column

SESSION = "ASIASESSION"
TABLE = "bronze.shops"


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    with workspace(tmp_path / "workspace", (), {}) as found:
        for name, value in workspaces.environment(found).items():
            monkeypatch.setenv(name, value)
        found.catalog.external = [ExternalLocation(z, f"s3://governed/{z}") for z in ZONES]
        monkeypatch.setattr(vending, "_kept", {})
        monkeypatch.setattr(vending, "_brought", {})
        yield found


@pytest.fixture
def guard(aws: Aws, catalog: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guard]:
    aws.forget()
    aws.create_buckets("governed")
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with guarded(aws.url, catalog.catalog.vended, SESSION) as found:
        yield found


def options(guard: Guard) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": guard.url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": REGION,
        "vended_by": "unity_catalog",
        "max_retries": "1",
    }


@pytest.fixture
def lake(tmp_path: Path, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> TinyLake:
    made = TinyLake(tmp_path, zones={z: f"s3://governed/{z}" for z in ZONES})
    made.define(bronze("shops", "json", column("id"), gates={"max_quarantine_rate": 1.0}))
    landing = f"{made.zones['landing']}/shops/{MONDAY}/shops.json"
    Storage(options(guard)).write(landing, [b'{"id": 1}\n{"id": 2}\n', b"broken\n"])
    return made


def run(lake: TinyLake, guard: Guard) -> TableReport:
    """In a process of its own, as Sail keeps the first key that a process shows it."""
    spec = RunSpec(
        table=TABLE,
        partitions=[MONDAY],
        contracts=str(lake.contracts),
        zones=lake.zones,
        storage_options=options(guard),
        engine="sail",
        cores=2,
        run_id="vended",
    )
    # The engine's, which nothing else is to take.
    keys = {"AWS_ACCESS_KEY_ID": SESSION, "AWS_SECRET_ACCESS_KEY": "session"}
    done = subprocess.run(
        [sys.executable, "-m", "spark_jobs", "run", "--spec", spec.model_dump_json()],
        env={**os.environ, **keys},
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr[-3000:]
    return TableReport.model_validate_json(done.stdout)


def test_a_table_is_published_by_keys_of_its_zones_and_the_engine_keeps_to_data_files(
    lake: TinyLake, guard: Guard, catalog: Workspace
) -> None:
    before = len(catalog.catalog.vended)
    report = run(lake, guard)
    asked = [(v.url, v.operation) for v in list(catalog.catalog.vended.values())[before:]]
    assert not report.failed, report.failed[0].error
    assert report.counts.inserted == 2 and report.counts.quarantined == 1
    rows = history(Lake(lake.zones, Storage(options(guard))), TABLE)
    assert [r.inserted for r in rows] == [2]
    by_session = [path for key, _, path in guard.asked if key == SESSION]
    assert not [p for p in by_session if "/landing/" in p or "/ledger/" in p]
    assert {key for key, *_ in guard.asked} <= {SESSION, *catalog.catalog.vended}
    # One request of its process to the catalogue for each zone and use, and no more.
    assert len(asked) == len(set(asked)) <= 2 * len(ZONES)


def test_an_engine_that_would_go_on_with_another_key_does_not_start(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variables, "_first_key", [])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAFIRST")
    store = Storage(options(guard))
    for _ in range(2):
        Engine.start("sail", cores=2, store=store).stop()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SESSION)
    with pytest.raises(EngineUnavailable, match="Start a new process") as refused:
        Engine.start("sail", cores=2, store=store)
    assert "AKIA" not in str(refused.value) and SESSION not in str(refused.value)


def test_a_worker_reads_landing_by_what_was_sent_with_the_code_and_cannot_write(
    lake: TinyLake, guard: Guard, catalog: Workspace
) -> None:
    storage = Storage(options(guard))
    folder = f"{lake.zones['landing']}/shops/{MONDAY}"
    assert [f.name for f in storage.files(folder)] == ["shops.json"]
    sent = pickle.dumps(storage)
    assert read_by_a_worker(sent, folder) == ["3", "denied"]
    assert b"vended" not in repr(storage).encode() or "ASIA" not in repr(storage)


def test_a_worker_that_is_used_again_reads_by_what_was_sent_last(
    lake: TinyLake, guard: Guard, catalog: Workspace
) -> None:
    """Spark keeps a worker for the next task, which may come when the keys of the first have ended."""
    storage, folder = Storage(options(guard)), f"{lake.zones['landing']}/shops/{MONDAY}"
    storage.files(folder)
    first = pickle.dumps(storage)
    guard.end_all()
    vending._kept.clear()
    storage.files(folder)
    assert read_by_a_worker(first + pickle.dumps(storage), folder) == ["3", "denied"]


def read_by_a_worker(sent: bytes, folder: str) -> list[str]:
    """What a process says that has no key, and no way to the catalogue, but what it is sent."""
    worker = """
import pickle, sys
from spark_jobs.errors import StorageError
while sys.stdin.buffer.peek(1):
    storage = pickle.load(sys.stdin.buffer)
folder = sys.argv[1]
fs, path = storage.filesystem(folder + "/shops.json")
print(fs.open_input_stream(path).read().count(b"\\n"))
try:
    storage.write(folder + "/other.json", [b"x"])
except StorageError as error:
    print("denied" if "access is denied" in str(error) else error)
"""
    done = subprocess.run(
        [sys.executable, "-c", worker, folder],
        input=sent,
        capture_output=True,
        env={k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DATABRICKS_"))},
    )
    assert done.stdout, done.stderr.decode()[-2000:]
    return done.stdout.decode().split()


def test_what_is_about_to_end_is_asked_for_again(
    lake: TinyLake, guard: Guard, catalog: Workspace
) -> None:
    storage, folder = Storage(options(guard)), lake.zones["landing"]
    storage.files(folder)
    storage.files(folder)
    before = len(catalog.catalog.vended)
    catalog.catalog.seconds = 60
    vending._kept.clear()
    storage.files(folder)
    storage.files(folder)
    assert len(catalog.catalog.vended) == before + 2


def test_a_location_that_the_catalogue_does_not_know_is_refused_with_what_to_do(
    lake: TinyLake, guard: Guard, catalog: Workspace
) -> None:
    catalog.catalog.external = catalog.catalog.external[1:]
    vending._kept.clear()
    with pytest.raises(
        StorageError, match=r"s3://governed/landing: .*external location"
    ) as refused:
        Storage(options(guard)).files(f"{lake.zones['landing']}/shops")
    assert refused.value.permanent


@pytest.mark.parametrize("privilege", ["EXTERNAL USE LOCATION", "READ FILES", "WRITE FILES"])
def test_a_grant_that_is_missing_is_named_with_the_statement_that_gives_it(
    lake: TinyLake, guard: Guard, catalog: Workspace, privilege: str
) -> None:
    catalog.catalog.external[0].grants.remove(privilege)
    vending._kept.clear()
    granted = f"GRANT {privilege} ON EXTERNAL LOCATION `landing` TO whoever runs this."
    with pytest.raises(StorageError, match=f"s3://governed/landing: .*{granted}$") as refused:
        Storage(options(guard)).files(f"{lake.zones['landing']}/shops")
    assert refused.value.permanent


def test_what_is_open_outlives_the_credentials_that_it_was_opened_with(
    lake: TinyLake, guard: Guard, catalog: Workspace
) -> None:
    catalog.catalog.seconds = 60
    vending._kept.clear()
    uri, storage = Lake(lake.zones).table(TABLE), Storage(options(guard))
    table = making.create_table(
        uri, [("id", "bigint")], (), name=TABLE, description="", storage=storage
    )
    for version in (1, 2):
        guard.end_all()
        assert commits.commit(table, storage, [], [], {"batch_id": str(version)}) == version
    assert table.version() == 2 and guard.denied == []


def test_no_key_is_in_what_a_person_could_see(guard: Guard, lake: TinyLake) -> None:
    storage = Storage(options(guard))
    storage.files(lake.zones["landing"])
    (kept, *_) = vending._kept.values()
    for value in kept.options.values():
        assert value not in repr(storage) and value not in repr(kept)


@pytest.mark.parametrize(
    ("uri", "zone"),
    [
        ("s3://bucket/silver/orders/_delta_log", "s3://bucket/silver"),
        ("s3://bucket/lake/gold/sales", "s3://bucket/lake/gold"),
        ("s3://bucket/elsewhere/x/", "s3://bucket/elsewhere/x"),
        ("s3://silver/orders", "s3://silver/orders"),
    ],
)
def test_a_zone_is_asked_for_as_a_whole(uri: str, zone: str) -> None:
    assert vending.zone_of(uri) == zone
