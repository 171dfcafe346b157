"""The Asset Bundle: jobs that the service knows, over before they begin again, and what they read.

Not here: that its tasks do what they say (tests/integration/test_databricks_runner.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from databricks.sdk.service.jobs import JobSettings

from lakehouse.artifacts.artifact import Artifact, ArtifactError
from lakehouse.artifacts.bundle import files
from lakehouse.artifacts.store import FolderStore
from lakehouse.cli import main as lakehouse
from lakehouse.settings.artifacts import Target
from lakehouse.settings.databricks import DatabricksSettings
from lakehouse.settings.load import load_settings
from spark_jobs.__main__ import main
from spark_jobs.report import LakeSpec
from spark_jobs.streaming import pipeline
from spark_jobs.streaming.spec import StreamSpec
from tests.documents import PROJECT

STREAM = {
    "stream": "sensor-readings",
    "region": "eu-central-1",
    "service_credential": "kinesis-sensor-credential",
    "cluster": {"policy": "0123456789ABCDEF", "workers": 8, "min_workers": 2},
    "table": "bronze.sensor_readings",
    "then": ("silver.sensor_readings",),
    "arrival": "arrival_timestamp",
}


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    made = FolderStore(str(tmp_path / "artifacts"))
    made.write("config/0/requirements.txt", b"pyarrow==20.0.0\ntenacity==9.1.2\n")
    return made


def bundle(store: FolderStore, **more: Any) -> dict[str, str]:
    artifact = Artifact(
        version="0" * 16,
        target=Target(),
        wheel="dist/0/spark_jobs-0.1.0-py3-none-any.whl",
        code="",
        packages="",
        requirements="config/0/requirements.txt",
        entry_point="",
        contracts="",
        contracts_sha256="",
        spark={},
    )
    databricks = DatabricksSettings(**{"streams": {"sensors": STREAM}} | more)
    settings = load_settings("local").model_copy(update={"databricks": databricks})
    return files(settings, artifact, store)


def jobs(made: dict[str, str]) -> dict[str, Any]:
    return yaml.safe_load(made["databricks.yml"])["resources"]["jobs"]


def test_every_job_is_one_that_the_service_knows_to_the_last_key(store: FolderStore) -> None:
    found = jobs(bundle(store))
    assert set(found) == {"data_engineering_pipeline", "unity_catalog_tables", "stream_sensors"}
    for job in found.values():
        assert JobSettings.from_dict(job).as_dict() == job


@pytest.mark.parametrize("minutes", [5, 15, 60])
def test_the_tasks_stand_in_a_line_and_are_over_before_the_next_run(
    store: FolderStore, minutes: int
) -> None:
    job = jobs(bundle(store, workflow={"every_minutes": minutes}))["data_engineering_pipeline"]
    tasks = job["tasks"]
    assert [t["task_key"] for t in tasks] == ["ingest_data", "process_data", "data_quality"]
    before = [[d["task_key"] for d in t.get("depends_on", [])] for t in tasks]
    assert before == [[], ["ingest_data"], ["process_data"]]
    assert sum(t["timeout_seconds"] for t in tasks) <= minutes * 60 == job["timeout_seconds"]
    assert job["max_concurrent_runs"] == 1 and job["queue"] == {"enabled": True}
    cron = job["schedule"]["quartz_cron_expression"]
    assert cron == {5: "0 0/5 * * * ?", 15: "0 0/15 * * * ?", 60: "0 0 * * * ?"}[minutes]


def test_the_day_is_a_parameter_that_every_task_is_given(store: FolderStore) -> None:
    job = jobs(bundle(store))["data_engineering_pipeline"]
    assert job["parameters"] == [{"name": "day", "default": "{{job.start_time.iso_date}}"}]
    for task in job["tasks"]:
        given = task["python_wheel_task"]["parameters"]
        assert given[given.index("--day") + 1] == "{{job.parameters.day}}"


def test_every_task_calls_a_command_that_there_is(store: FolderStore) -> None:
    for job in jobs(bundle(store)).values():
        for task in job["tasks"]:
            command, *given = task["python_wheel_task"]["parameters"]
            found = main.commands[command]
            assert isinstance(found, click.Command)
            found.make_context(command, list(given))


def test_its_specifications_are_read_as_they_are_written(store: FolderStore) -> None:
    made = bundle(store)
    lake = LakeSpec.model_validate_json(made["lake.json"])
    assert lake.engine == "ambient" and lake.artifact == "0" * 16
    stream = StreamSpec.model_validate_json(made["sensors.json"])
    assert stream.source.options["serviceCredential"] == "kinesis-sensor-credential"
    here = stream.model_copy(
        update={"contracts": str(PROJECT / "contracts"), "contracts_sha256": None}
    )
    assert pipeline.pipeline(here).scheme == "hourly"


def test_a_stream_never_ends_and_has_a_cluster_that_grows(store: FolderStore) -> None:
    job = jobs(bundle(store))["stream_sensors"]
    assert job["continuous"] == {"pause_status": "UNPAUSED"} and "schedule" not in job
    (task,) = job["tasks"]
    assert task["new_cluster"]["autoscale"] == {"min_workers": 2, "max_workers": 8}
    assert "environment_key" not in task and "environments" not in job
    wheel, pins = task["libraries"]
    assert wheel["whl"].endswith(".whl") and pins["requirements"].endswith("requirements.txt")


def test_the_workflow_installs_what_was_shipped_as_it_is_pinned(store: FolderStore) -> None:
    (environment,) = jobs(bundle(store))["data_engineering_pipeline"]["environments"]
    wheel, *pins = environment["spec"]["dependencies"]
    assert wheel.endswith(".whl") and "tenacity==9.1.2" in pins


def test_settings_without_databricks_make_no_bundle(tmp_path: Path) -> None:
    artifact = Artifact.model_construct(version="0")
    with pytest.raises(ArtifactError, match="say nothing of databricks"):
        files(load_settings("local"), artifact, FolderStore(str(tmp_path)))


def test_a_bundle_of_nothing_shipped_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))
    done = CliRunner().invoke(lakehouse, ["deploy", "bundle", str(tmp_path / "bundle")])
    assert done.exit_code == 2 and "lakehouse deploy push" in done.output
