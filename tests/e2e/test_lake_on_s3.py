"""The sample lake with each zone in a bucket of its own is the sample lake on this machine's disk: rows,
quarantine, ledger and marts.

Here: the whole command, by its settings, against a server that speaks S3. Not here: what happens when
that server is not well, or has several writers (tests/integration/test_shared_store.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from deltalake import DeltaTable

from lakehouse.settings.load import load_settings
from lakehouse.standins.servers.aws import CREDENTIALS, Aws, aws
from spark_jobs.contract.reader import load_contracts
from spark_jobs.lake.storage import Lake, Storage
from spark_jobs.report import ZONES
from tests.conformance.agreement import differences
from tests.documents import PROJECT
from tests.e2e.conftest import SAMPLE, ProjectCopy, copy_project
from tests.whole_lake import batches, marts, rows

pytestmark = pytest.mark.slow

TABLES = list(load_contracts(PROJECT / "contracts"))
# What a JVM runs: each layer, and every mode of publishing.
FEW = ("bronze.addresses", "silver.addresses", "bronze.loyalty_accounts", "silver.loyalty_accounts",
       "gold.dim_date")  # fmt: skip


@pytest.fixture(scope="module")
def store() -> Iterator[Aws]:
    with pytest.MonkeyPatch.context() as environment, aws() as server:
        for name, value in CREDENTIALS.items():
            environment.setenv(name, value)
        yield server


def project(store: Aws, engine: str, folder: Path) -> tuple[ProjectCopy, Lake]:
    """A project whose settings have a bucket for each zone, and its lake."""
    copy = copy_project(folder / "lakehouse")
    path = copy.root / "platform/lakehouse/settings/environments/local.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["engine"]["name"] = engine
    settings["lake"] = {
        "buckets": {zone: f"acme_{engine}_{zone}" for zone in ZONES},
        "storage_options": store.storage_options,
    }
    path.write_text(yaml.safe_dump(settings))
    store.create_buckets(*(f"acme-{engine}-{zone}" for zone in ZONES))
    zones = {zone: f"s3://acme-{engine}-{zone}/{zone}" for zone in ZONES}
    return copy, Lake(zones, Storage(store.storage_options))


@pytest.fixture(scope="module")
def there(store: Aws, tmp_path_factory: pytest.TempPathFactory) -> tuple[ProjectCopy, Lake]:
    """All of it, run once on the embedded engine."""
    copy, lake = project(store, "sail", tmp_path_factory.mktemp("sail"))
    copy.run(f"lakehouse run {' '.join(SAMPLE)}")
    return copy, lake


@pytest.fixture(scope="module")
def lake(there: tuple[ProjectCopy, Lake]) -> Lake:
    return there[1]


@pytest.fixture(scope="module")
def on_a_jvm(store: Aws, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    copy, lake = project(store, "spark", tmp_path_factory.mktemp("spark"))
    copy.run(f"lakehouse deliver {' '.join(SAMPLE)}")
    copy.run(f"lakehouse backfill --from 2026-10-05 --to 2026-10-07 --tables {','.join(FEW)}")
    return lake


@pytest.fixture(scope="module")
def here(small_lake: ProjectCopy) -> Lake:
    return Lake.at(str(small_lake.lake))


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_the_same_rows(lake: Lake, here: Lake, table: str) -> None:
    ours, theirs = rows(lake, lake.table(table)), rows(here, here.table(table))
    assert len(theirs) > 1
    assert not differences(on_s3=ours, on_disk=theirs)


def test_the_same_rows_left_for_the_same_reasons(lake: Lake, here: Lake) -> None:
    left = {}
    for table in TABLES:
        theirs = here.quarantine(table)
        if not DeltaTable.is_deltatable(theirs):
            assert not lake.storage.tree(lake.quarantine(table)), table
            continue
        left[table] = rows(here, theirs)
        assert not differences(on_s3=rows(lake, lake.quarantine(table)), on_disk=left[table])
    assert sum(map(len, left.values())) > 50


def test_the_ledger_says_the_same(lake: Lake, here: Lake) -> None:
    ours, theirs = batches(lake, TABLES), batches(here, TABLES)
    assert len(theirs) > 80
    assert not differences(on_s3=ours, on_disk=theirs)


def test_the_marts_have_the_same_rows(
    there: tuple[ProjectCopy, Lake], small_lake: ProjectCopy
) -> None:
    homes = (copy.root / ".lakehouse" for copy in (there[0], small_lake))
    ours, theirs = (marts(load_settings("local", home=home, project=PROJECT)) for home in homes)
    assert len(theirs) > 5 and all(theirs.values())
    assert ours == theirs


def test_running_again_commits_nothing(there: tuple[ProjectCopy, Lake]) -> None:
    copy, lake = there
    before = versions(lake)
    copy.run(f"lakehouse run {' '.join(SAMPLE)}")
    assert not json.loads((copy.root / ".lakehouse" / "summary.json").read_text())["changed"]
    assert versions(lake) == before


def versions(lake: Lake) -> dict[str, int]:
    uris = [*map(lake.table, TABLES), lake.ledger("batches")]
    return {u: DeltaTable(u, storage_options=lake.storage.delta_options(u)).version() for u in uris}


@pytest.mark.jvm
@pytest.mark.rehearsal
def test_spark_on_a_jvm_gives_the_same_tables_there(on_a_jvm: Lake, here: Lake) -> None:
    for table in FEW:
        ours, theirs = rows(on_a_jvm, on_a_jvm.table(table)), rows(here, here.table(table))
        assert len(theirs) > 1
        assert not differences(on_s3=ours, on_disk=theirs), table
    assert not differences(on_s3=batches(on_a_jvm, FEW), on_disk=batches(here, FEW))
