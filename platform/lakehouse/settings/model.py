"""The settings of one environment.

Belongs here: their parts put together, and what follows from more than one. Does not belong here: a
part's own settings (a module each), reading a file (load.py), or anything that branches on the
environment's name; code asks for a setting.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from lakehouse.settings.alerts import AlertSettings
from lakehouse.settings.artifacts import ArtifactSettings
from lakehouse.settings.databricks import DatabricksSettings
from lakehouse.settings.emr import EmrSettings
from lakehouse.settings.engines import EngineSettings, RunnerSettings
from lakehouse.settings.instance import PostgresInstance, SqliteInstance
from lakehouse.settings.lake import LakeSettings
from lakehouse.settings.operations import (
    LandingSettings,
    PartitionSettings,
    PoolSettings,
    RetrySettings,
    ScheduleSettings,
)
from lakehouse.settings.part import Part
from lakehouse.settings.references import SettingsError
from lakehouse.settings.sample import SampleSettings
from lakehouse.settings.sources import SourceSettings
from lakehouse.settings.warehouse import DuckDBWarehouse, RedshiftWarehouse

if TYPE_CHECKING:
    from spark_jobs.lake.storage import Storage


class Settings(Part):
    """Everything that differs between environments. `home` holds local state, `contracts` the
    contracts; neither is written in the file."""

    environment: Literal["local", "dev", "staging", "prod"]
    lake: LakeSettings
    warehouse: Annotated[DuckDBWarehouse | RedshiftWarehouse, Field(discriminator="target")]
    engine: EngineSettings
    runner: RunnerSettings = RunnerSettings()
    databricks: DatabricksSettings | None = None
    artifacts: ArtifactSettings = ArtifactSettings()
    instance: Annotated[SqliteInstance | PostgresInstance, Field(discriminator="storage")] = (
        SqliteInstance()
    )
    emr: EmrSettings | None = None
    partitions: PartitionSettings
    schedules: ScheduleSettings = ScheduleSettings()
    landing: LandingSettings = LandingSettings()
    sources: SourceSettings = SourceSettings()
    retries: RetrySettings = RetrySettings()
    pools: PoolSettings = PoolSettings()
    alerts: AlertSettings = AlertSettings()
    sample: SampleSettings = SampleSettings()
    home: Path
    project: Path

    @model_validator(mode="after")
    def _one_writer(self) -> Settings:
        if isinstance(self.warehouse, DuckDBWarehouse) and self.pools.warehouse > 1:
            raise ValueError(
                "pools.warehouse is 1 where the warehouse is DuckDB: it has one writer"
            )
        if self.landing.queue and not self.zones["landing"].startswith("s3://"):
            raise ValueError(
                "landing.queue: S3 tells a queue of its objects, and landing is not there"
            )
        return self

    @property
    def contracts(self) -> Path:
        return self.project / "contracts"

    @property
    def dbt_project(self) -> Path:
        return self.project / "dbt_project"

    @property
    def warehouse_path(self) -> Path:
        """The DuckDB file; SettingsError if the warehouse is not DuckDB."""
        if not isinstance(self.warehouse, DuckDBWarehouse):
            raise SettingsError(f"the {self.environment} warehouse is {self.warehouse.target}")
        return self.home / self.warehouse.path

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    @property
    def zones(self) -> dict[str, str]:
        """The location of each zone: an absolute path or a URI."""
        return self.lake.locations(self.home)

    @property
    def storage(self) -> Storage:
        """How the stores of the zones are reached."""
        from spark_jobs.lake.storage import Storage  # with Arrow, which most commands do without

        return Storage(self.lake.storage_options)
