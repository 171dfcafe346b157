"""Assembles the definitions: the one function that environments and tests call.

Belongs here: putting assets, jobs, schedules, sensors and resources together. Does not belong
here: making any of them. Loading reads settings and contracts, and starts nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from lakehouse.assets.landing import build_extractions, delivered_specs
from lakehouse.assets.streams import build_drains
from lakehouse.assets.tables import build_assets
from lakehouse.automation.extraction_sensor import build_extraction_sensor
from lakehouse.automation.follow_up_sensor import build_follow_up_sensor
from lakehouse.automation.jobs import build_jobs, job_specs
from lakehouse.automation.landing_sensor import build_landing_sensor
from lakehouse.automation.schedules import build_schedules
from lakehouse.automation.stream_sensor import build_stream_sensor
from lakehouse.engines.executor import executor_of
from lakehouse.engines.ledger import LakeLedger
from lakehouse.engines.runner import Runner, build_runners
from lakehouse.engines.shared import release_engines
from lakehouse.keys import LEDGER, STREAMS
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.settings.references import SettingsError
from lakehouse.settings.warehouse import RedshiftWarehouse
from lakehouse.signals.alerts import build_alert_sensors
from lakehouse.sources.registry import extracted
from lakehouse.sources.stream_datasets import Streams
from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contracts
from spark_jobs.permissions import keep_files_private


def build_definitions(
    settings: Settings | None = None,
    *,
    contracts: Mapping[str, Contract] | None = None,
    marts: bool = True,
    **resources: Any,
) -> dg.Definitions:
    """Everything that Dagster knows of the lake.

    `settings` and `contracts` are read if they are not given; `resources` replace those of the
    settings by name (`embedded`, `lake_ledger`, `dbt`), and one that replaces nothing is an error.
    Without `marts`, or a dbt project, there are none.
    """
    settings = settings or load_settings()
    contracts = load_contracts(settings.contracts) if contracts is None else contracts
    streams = Streams(settings, contracts)
    mart_assets, mart_resources = _marts(settings, contracts) if marts else ([], {})
    built = {key for definition in mart_assets for key in definition.keys}
    assets = [
        *build_extractions(settings, contracts, built),
        *build_drains(settings, streams),
        *build_assets(settings, contracts),
    ]
    mart_deps = {
        spec.key: [dep.asset_key for dep in spec.deps]
        for definition in mart_assets
        for spec in definition.specs
    }
    keys = [key for definition in (*assets, *mart_assets) for key in definition.keys]
    landing = [*extracted(settings, contracts), *streams.readers]
    jobs = build_jobs(job_specs(contracts, mart_deps, landing))
    ours: dict[str, Any] = {
        **{name: _running(runner) for name, runner in build_runners(settings, contracts).items()},
        LEDGER: LakeLedger.of(settings),
        STREAMS: streams,
        "io_manager": dg.FilesystemIOManager(),
        **_sessions(settings),
        **mart_resources,
    }
    unknown = sorted(resources.keys() - ours.keys())
    if unknown:
        raise TypeError(f"no resource {', '.join(unknown)} to replace; there are {', '.join(ours)}")
    return dg.Definitions(
        assets=[*assets, *mart_assets, *delivered_specs(settings, contracts, keys)],
        jobs=list(jobs.values()),
        schedules=build_schedules(settings, contracts, jobs, mart_deps),
        sensors=[
            build_landing_sensor(settings, contracts, jobs, mart_deps),
            *build_extraction_sensor(settings, contracts, jobs, mart_deps),
            *build_stream_sensor(settings, streams, jobs),
            build_follow_up_sensor(settings, contracts, jobs, mart_deps),
            *build_alert_sensors(settings, keys),
        ],
        resources={name: _closed(resource) for name, resource in (ours | resources).items()},
        executor=executor_of(settings, contracts),
        metadata={"environment": settings.environment, "lake": settings.zones["gold"]},
    )


def _running(runner: Runner) -> dg.ResourceDefinition:
    """A runner for the length of a run, whose end stops the engines that it started here."""

    def lent(_: dg.InitResourceContext) -> Iterator[Runner]:
        try:
            yield runner
        finally:
            release_engines()

    return dg.ResourceDefinition(lent, config_schema={})


def _closed(resource: Any) -> dg.ResourceDefinition:
    """A resource as the settings made it: run config can set nothing of it. Whoever may launch a
    run would otherwise name the program that it starts, and the folders that it writes."""
    if isinstance(resource, dg.ConfigurableResource | dg.ConfigurableIOManagerFactory):
        resource = resource.get_resource_definition()
    if not isinstance(resource, dg.ResourceDefinition):
        return dg.ResourceDefinition(lambda _: resource, config_schema={})
    schema = resource.config_schema
    given = schema.default_value if schema.default_provided else {}
    return dg.configured(resource, config_schema={})(lambda _: given)


def _marts(
    settings: Settings, contracts: Mapping[str, Contract]
) -> tuple[list[dg.AssetsDefinition], dict[str, Any]]:
    if not (settings.dbt_project / "dbt_project.yml").is_file():
        return [], {}
    from lakehouse.marts.assets import build_marts

    assets, resources = build_marts(settings)
    warehouse = settings.warehouse
    if isinstance(warehouse, RedshiftWarehouse):
        from lakehouse.marts.loads import build_loads
        from lakehouse.marts.sources import STAGED

        assets = [*build_loads(settings, warehouse, contracts, STAGED), *assets]
    return assets, resources


def _sessions(settings: Settings) -> dict[str, Any]:
    if settings.engine.name != "spark":
        return {}
    from lakehouse.engines.session import engine_session

    return {"pyspark": engine_session(settings)}


@dg.definitions
def defs() -> dg.Definitions:
    """The code location: definitions of the environment that LAKEHOUSE_ENV names. Every process
    that runs code of it comes by here: code servers, and the runs and sensors in and below them."""
    keep_files_private()
    settings = load_settings()
    _refuse_unguarded(settings)
    return build_definitions(settings)


def _refuse_unguarded(settings: Settings) -> None:
    """Raises SettingsError where `dagster dev` or `dg dev` serves these definitions with a run
    history of its own: the webserver's guard comes with this lake's."""
    home = os.environ.get("DAGSTER_HOME") or ""
    # Every command of dg says that it is for development; only `dev` says the second, too.
    serving = os.environ.get("DAGSTER_IS_DEV_CLI") and "DAGSTER_verbose" in os.environ
    if serving and Path(home) != settings.dagster_home:
        raise SettingsError(
            "this webserver takes requests of any page that a browser has open. Start it with"
            f" `lakehouse ui`, or after that with DAGSTER_HOME={settings.dagster_home}."
        )
