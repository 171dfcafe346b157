"""What a run may be configured with: nothing that names a program, a module, a path or a place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._config import ConfigType, ConfigTypeKind  # noqa: TID251
from dagster._core.execution.api import create_execution_plan  # noqa: TID251

from lakehouse.definitions import _refuse_unguarded, build_definitions
from lakehouse.settings.engines import EngineSettings, RunnerSettings
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.settings.references import SettingsError

PROJECT = Path(__file__).parents[2]

# Levels of logging, retries of steps, and whether marts are built though nothing has changed.
HARMLESS = {
    "execution.config.marker_to_close",
    "execution.config.retries.disabled",
    "execution.config.retries.enabled",
    "execution.config.step_dependency_config.require_upstream_step_success",
    "loggers.console.config.log_level",
    "loggers.console.config.name",
    *("ops.marts.config.force", "ops.marts.config.force.env"),
    *("ops.marts.config.full_refresh", "ops.marts.config.full_refresh.env"),
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings("local", home=tmp_path_factory.mktemp("home"), project=PROJECT)


@pytest.fixture(scope="module")
def jobs(settings: Settings) -> list[dg.JobDefinition]:
    # With the engine that brings most resources.
    spark = settings.model_copy(update={"engine": EngineSettings(name="spark")})
    return build_definitions(spark).get_repository_def().get_all_jobs()


def fields(kind: ConfigType, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The path of every value that can be given."""
    if ConfigTypeKind.has_fields(kind.kind):
        for name, field in kind.fields.items():
            yield from fields(field.config_type, (*path, name))
        if not kind.fields and path[-1] in ("enabled", "disabled"):  # choices without a value
            yield ".".join(path)
    elif kind.type_params:
        for inner in kind.type_params:
            yield from fields(inner, path)
    else:
        yield ".".join(path)


@pytest.fixture(scope="module")
def apart(settings: Settings) -> list[dg.JobDefinition]:
    """Where every table runs in a process of its own, and steps run side by side."""
    process = settings.model_copy(update={"runner": RunnerSettings(name="process")})
    return build_definitions(process, marts=False).get_repository_def().get_all_jobs()


def test_steps_share_a_process_unless_every_table_runs_elsewhere(
    jobs: list[dg.JobDefinition], apart: list[dg.JobDefinition]
) -> None:
    assert {j.executor_def.name for j in jobs} == {"side_by_side"}
    assert {j.executor_def.name for j in apart} == {"multiprocess"}


def test_no_job_takes_a_value_that_says_what_is_run_or_where(
    jobs: list[dg.JobDefinition], apart: list[dg.JobDefinition]
) -> None:
    assert len(jobs) > 10
    for job in (*jobs, *apart):
        found = set(fields(job.run_config_schema.run_config_schema_type))
        assert found <= HARMLESS, job.name


@pytest.mark.parametrize(
    ("resource", "value"),
    [
        ("dbt", {"dbt_executable": "/bin/true"}),
        ("dbt", {"environment": {"PATH": "/tmp"}}),
        ("embedded", {"contracts": {}}),
        ("lake_ledger", {"zones": {"gold": "/tmp"}}),
        ("pyspark", {"spark_config": {"cores": "1"}}),
        ("io_manager", {"base_dir": "/tmp"}),
    ],
)
def test_every_job_refuses_config_of_a_resource(
    jobs: list[dg.JobDefinition], resource: str, value: dict[str, Any]
) -> None:
    for job in jobs:
        assert resource in job.resource_defs
        with pytest.raises(dg.DagsterInvalidConfigError, match="unexpected config entry"):
            create_execution_plan(job, {"resources": {resource: {"config": value}}})


def test_a_resource_that_stands_in_for_another_takes_no_config_either(settings: Settings) -> None:
    definitions = build_definitions(settings, marts=False, embedded=object())
    (job, *_) = definitions.get_repository_def().get_all_jobs()
    with pytest.raises(dg.DagsterInvalidConfigError, match="unexpected config entry"):
        create_execution_plan(job, {"resources": {"embedded": {"config": {"any": 1}}}})


def test_a_development_server_with_another_history_gets_no_definitions(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(settings.home))
    for variable, value in (("DAGSTER_IS_DEV_CLI", "1"), ("DAGSTER_verbose", "")):
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match="Start it with `lakehouse ui`"):
        _refuse_unguarded(load_settings())
    monkeypatch.setenv("DAGSTER_HOME", str(settings.dagster_home))
    _refuse_unguarded(load_settings())


def test_a_resource_that_replaces_nothing_is_an_error(settings: Settings) -> None:
    with pytest.raises(TypeError, match=r"no resource data_plane to replace; there are embedded,"):
        build_definitions(settings, marts=False, data_plane=object())
