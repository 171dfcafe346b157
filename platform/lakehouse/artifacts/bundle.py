"""A Databricks Asset Bundle: the workflow of the lake for teams without Dagster, and its streams.

Belongs here: its jobs, made from settings and the shipped artifact, so that nothing is said twice. Does
not belong here: what their tasks do (spark_jobs/__main__.py), or deploying it (Databricks' own command).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from lakehouse.artifacts import compute
from lakehouse.artifacts.artifact import Artifact, ArtifactError
from lakehouse.artifacts.store import ArtifactStore
from lakehouse.settings.databricks import Stream, Workflow
from spark_jobs.report import INSTALLED, LakeSpec

if TYPE_CHECKING:
    from databricks.sdk.service.jobs import JobEnvironment, JobSettings, Task

    from lakehouse.settings.model import Settings

_FILES = "${workspace.file_path}"
_DAY, _RUN = "{{job.parameters.day}}", "{{job.run_id}}"
# The tasks, one after another: what each runs, and its share of the time until the next run begins.
_TASKS = {
    "ingest_data": (2, ["day", "--layer", "bronze"]),
    "process_data": (5, ["day", "--layer", "silver", "--layer", "gold"]),
    "data_quality": (2, ["judge"]),
}


def files(settings: Settings, artifact: Artifact, store: ArtifactStore) -> dict[str, str]:
    """The files of the bundle by name: `databricks.yml`, and the specifications that its jobs read."""
    databricks = settings.databricks
    if databricks is None:
        raise ArtifactError("the settings say nothing of databricks: add it, then make the bundle")
    lake = _lake(settings, artifact)
    environment = compute.environment(databricks.environment_version, artifact, store)
    jobs = {
        "data_engineering_pipeline": _pipeline(databricks.workflow, environment),
        "unity_catalog_tables": _register(databricks.catalog, environment),
        **{f"stream_{n}": _stream(n, s, artifact, store) for n, s in databricks.streams.items()},
    }
    specs = {"lake": lake, **{n: _of(lake, n, s) for n, s in databricks.streams.items()}}
    bundle = {
        "bundle": {"name": "lakehouse"},
        "targets": {settings.environment: {"mode": "production", "default": True}},
        "resources": {"jobs": {name: job.as_dict() for name, job in jobs.items()}},
    }
    if databricks.host:
        bundle["workspace"] = {"host": databricks.host}
    said = (
        f"# Made by `lakehouse deploy bundle` of artifact {artifact.version}. Edit the settings.\n"
    )
    return {
        "databricks.yml": said + yaml.safe_dump(bundle, sort_keys=False, width=100),
        **{f"{name}.json": json.dumps(spec, indent=1) for name, spec in specs.items()},
    }


def _lake(settings: Settings, artifact: Artifact) -> dict[str, Any]:
    return LakeSpec(
        contracts=INSTALLED,
        contracts_sha256=artifact.contracts_sha256,
        artifact=artifact.version,
        zones=settings.zones,
        storage_options=settings.lake.storage_options,
        engine="ambient",
        run_id="workflow",
    ).model_dump(exclude_defaults=True)


def _of(lake: Mapping[str, Any], name: str, stream: Stream) -> dict[str, Any]:
    """What spark_jobs.streaming.spec reads."""
    options = {
        "streamName": stream.stream,
        "region": stream.region,
        "serviceCredential": stream.service_credential,
        "initialPosition": "trim_horizon",
    }
    return {
        **lake,
        "name": name,
        "run_id": f"stream-{name}",
        "source": {"format": "kinesis", "options": options},
        "table": stream.table,
        "then": list(stream.then),
        "arrival": stream.arrival,
        "every_seconds": stream.every_seconds,
    }


def _pipeline(workflow: Workflow, environment: JobEnvironment) -> JobSettings:
    """The tasks in a line, which are over before the next run begins; there is one at a time."""
    from databricks.sdk.service import jobs

    seconds = workflow.every_minutes * 60
    whole, tasks = sum(share for share, _ in _TASKS.values()), list[Any]()
    for key, (share, arguments) in _TASKS.items():
        command, *rest = arguments
        given = [command, "--spec", f"{_FILES}/lake.json", "--day", _DAY, *rest]
        task = _task(key, [*given, *(["--run-id", _RUN] if command == "day" else [])])
        task.timeout_seconds = seconds * share // whole
        task.depends_on = [jobs.TaskDependency(tasks[-1].task_key)] if tasks else None
        tasks.append(task)
    paused = jobs.PauseStatus.UNPAUSED if workflow.active else jobs.PauseStatus.PAUSED
    every = f"0/{workflow.every_minutes} *" if workflow.every_minutes < 60 else "0 *"
    return jobs.JobSettings(
        name="Data Engineering Pipeline",
        schedule=jobs.CronSchedule(f"0 {every} * * ?", workflow.time_zone, paused),
        max_concurrent_runs=1,
        queue=jobs.QueueSettings(enabled=True),
        timeout_seconds=seconds,
        parameters=[jobs.JobParameterDefinition("day", "{{job.start_time.iso_date}}")],
        environments=[environment],
        tasks=tasks,
        tags={"environment": "production"},
    )


def _register(catalog: str, environment: JobEnvironment) -> JobSettings:
    from databricks.sdk.service import jobs

    given = ["register", "--spec", f"{_FILES}/lake.json", "--catalog", catalog]
    return jobs.JobSettings(
        name="Unity Catalog tables",
        max_concurrent_runs=1,
        timeout_seconds=1800,
        environments=[environment],
        tasks=[_task("register_tables", given)],
    )


def _stream(name: str, stream: Stream, artifact: Artifact, store: ArtifactStore) -> JobSettings:
    """A job that never ends: the service starts it again when it fails, later each time. It is on a
    cluster, since serverless compute takes no query that goes on."""
    from databricks.sdk.service import jobs

    task = _task("follow", ["stream", "--spec", f"{_FILES}/{name}.json"])
    task.environment_key = None
    task.new_cluster = compute.cluster(stream.cluster)
    task.libraries = compute.libraries(artifact, store)
    return jobs.JobSettings(
        name=f"Stream {name}",
        continuous=jobs.Continuous(jobs.PauseStatus.UNPAUSED),
        max_concurrent_runs=1,
        tasks=[task],
    )


def _task(key: str, parameters: list[str]) -> Task:
    from databricks.sdk.service import jobs

    wheel = jobs.PythonWheelTask("spark_jobs", "spark-jobs", parameters=parameters)
    return jobs.Task(task_key=key, environment_key=compute.ENVIRONMENT, python_wheel_task=wheel)
