"""Databricks without a job: settings, the store in a volume, and what the workspace refuses.

Not here: jobs (tests/integration/test_databricks_runner.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue
from databricks.sdk.service import compute, jobs

from lakehouse.artifacts.artifact import versions
from lakehouse.artifacts.build import pins
from lakehouse.artifacts.store import store_of
from lakehouse.artifacts.volume import VolumeStore
from lakehouse.engines.databricks import DatabricksRunner
from lakehouse.engines.runner import build_runners
from lakehouse.settings.artifacts import ArtifactSettings
from lakehouse.settings.databricks import Cluster, DatabricksJob, DatabricksSettings
from lakehouse.settings.load import load_settings
from lakehouse.settings.references import SettingsError
from lakehouse.standins.servers.databricks.server import Workspace, workspace
from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contracts
from spark_jobs.errors import StorageError
from tests import workspace as workspaces
from tests.documents import PROJECT
from tests.unit.test_emr import shipment


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace in which nothing runs."""
    with workspace(tmp_path_factory.mktemp("workspace"), (), {}) as found:
        yield found


@pytest.fixture
def there(running: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name, value in workspaces.environment(running).items():
        monkeypatch.setenv(name, value)
    return running


@pytest.fixture
def store(there: Workspace, tmp_path: Path) -> VolumeStore:
    folder = f"{there.volume}/{tmp_path.name}"
    settings = load_settings("local").model_copy(
        update={"artifacts": ArtifactSettings(location=folder)}
    )
    made = store_of(settings)
    assert isinstance(made, VolumeStore)
    return made


# -- the volume --------------------------------------------------------------------------------


def test_a_file_that_is_written_once_is_of_whoever_was_first(
    store: VolumeStore, there: Workspace
) -> None:
    there.faults.add("lose_reply", "fs/files")
    assert store.write_once("group.json", b"first"), "though the answer was lost"
    assert not store.write_once("group.json", b"second")
    assert store.read("group.json") == b"first"


def test_a_volume_keeps_files_by_name(store: VolumeStore, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 3_000_000)
    assert store.names("dist") == [] and store.read("dist/a/b") is None
    assert store.size("dist/a/b") is None
    store.write("dist/a/b", b"one")
    store.write("dist/a/b", b"other")
    store.write("dist/c", large)
    assert store.read("dist/a/b") == b"other"
    assert store.size("dist/c") == 3_000_000
    assert store.names("dist") == ["dist/a/b", "dist/c"]
    assert store.uri("dist/c").startswith("/Volumes/main/operations/lakehouse/")
    assert versions(store) == []


def test_a_workspace_that_is_not_well_is_asked_again(store: VolumeStore, there: Workspace) -> None:
    there.faults.add("throttle", "PUT .*fs/files")
    there.faults.add("lose_reply", "PUT .*fs/files")
    store.write("config/x", b"content")
    assert store.read("config/x") == b"content"
    assert there.faults.planned == []


def test_who_may_not_is_told_where_and_what_to_do(
    there: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", "another")
    settings = load_settings("local").model_copy(
        update={"artifacts": ArtifactSettings(location=there.volume)}
    )
    with pytest.raises(StorageError, match=r"current\.json: .*READ VOLUME") as refused:
        store_of(settings).read("current.json")
    assert refused.value.permanent and "another" not in str(refused.value)


# -- what the workspace takes ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"environment_key": "other"}, "a cluster or an environment"),
        ({"python_wheel_task": jobs.PythonWheelTask("p", "e", parameters=["x" * 10_000])}, "10000"),
        ({"libraries": [compute.Library(whl="/Volumes/x.whl")]}, "takes no libraries"),
    ],
)
def test_the_workspace_refuses_what_the_service_does(
    there: Workspace, changed: dict[str, Any], complaint: str
) -> None:
    task = {
        "task_key": "t",
        "environment_key": "e",
        "python_wheel_task": jobs.PythonWheelTask("spark_jobs", "spark-jobs"),
    }
    environment = jobs.JobEnvironment("e", compute.Environment(environment_version="4"))
    with pytest.raises(InvalidParameterValue, match=complaint):
        WorkspaceClient().jobs.submit(
            tasks=[jobs.SubmitTask(**task | changed)], environments=[environment]
        )


# -- settings ----------------------------------------------------------------------------------


def test_a_table_may_differ_from_the_rest() -> None:
    cluster = {"policy": "ABC", "workers": 4}
    tables = {"gold.fact_sales": {"compute": "cluster", "cluster": cluster}}
    settings = DatabricksSettings(timeout_minutes=30, tables=tables)
    assert settings.job("gold.fact_sales") == DatabricksJob(
        compute="cluster", cluster=Cluster(**cluster), timeout_minutes=30
    )
    assert settings.job("silver.orders").compute == "serverless"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"compute": "cluster"}, "say which under cluster"),
        ({"cluster": {"policy": "A", "runtime": "16.4.x-scala2.13"}}, "one of Spark 3"),
        ({"cluster": {"policy": "A", "runtime": "latest"}}, "runtime"),
        ({"host": "https://user:secret@host"}, "host"),
        ({"token": "dapi0123"}, "token"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        DatabricksSettings(**given)


def test_tables_on_databricks_need_a_volume_and_settings() -> None:
    settings = load_settings("local")
    contracts = {"x": _on_databricks()}
    with pytest.raises(SettingsError, match=r"databricks: missing.*artifacts\.location: must be"):
        build_runners(settings, contracts)
    ready = workspaces.settings_for(settings, "/Volumes/main/operations/lakehouse")
    assert set(build_runners(ready, contracts)) == {"databricks"}


@pytest.mark.parametrize(
    ("partitions", "name"),
    [
        ([], "gold.fact_sales"),  # of a table that has none, such as a calendar
        (["2026-10-05"], "gold.fact_sales 2026-10-05"),
        (["2026-10-05", "2026-10-06", "2026-10-07"], "gold.fact_sales 2026-10-05..2026-10-07"),
    ],
)
def test_a_job_is_named_by_its_table_and_its_partitions(partitions: list[str], name: str) -> None:
    given = shipment()
    spec = given.spec.model_copy(update={"partitions": partitions})
    settings = DatabricksSettings()
    runner = DatabricksRunner(settings, lambda: None, lambda: None, {}, frozenset())  # type: ignore[arg-type,return-value]
    made = runner._submission(
        settings.job(spec.table).model_copy(update={"compute": "cluster"}),
        dataclasses.replace(given, spec=spec),
    )
    assert made["run_name"] == name and made["idempotency_token"] == given.attempt.token


def _on_databricks() -> Contract:
    contract = load_contracts(PROJECT / "contracts")["bronze.orders"]
    return dataclasses.replace(contract, runner="databricks")


def test_requirements_are_what_the_lock_pins_without_its_sums() -> None:
    lock = (PROJECT / "requirements-jobs.lock").read_text()
    found = pins(lock)
    assert any(p.startswith("pyarrow==") for p in found) and "--hash" not in " ".join(found)
    assert len(found) == sum(
        "==" in line and line[0] not in " #" for line in lock.splitlines() if line
    )
