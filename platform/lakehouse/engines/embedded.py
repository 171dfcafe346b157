"""The gateway to the data plane: one method to run a table, one to read what was done.

Belongs here: the gateway and its embedded implementation. Does not belong here: the engine itself
(shared.py), anything about Dagster events, or what a run means.

Importing this module starts nothing and imports no engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import dagster as dg
from pydantic import Field

from lakehouse.engines.shared import EngineOnDemand, engine_kept_running, release_engines
from spark_jobs.contract.model import Contract
from spark_jobs.report import RunSpec, TableReport

if TYPE_CHECKING:
    from lakehouse.settings.model import Settings


class DataPlane(Protocol):
    """Where tables are run. Tests put a fake here; nothing else in the control plane is faked."""

    def run(self, spec: RunSpec, contracts: Mapping[str, Contract]) -> TableReport:
        """Runs one table for the partitions of `spec`; errors as `spark_jobs.run.run_table`."""
        ...

    def history(self, table: str) -> list[dict[str, Any]]:
        """The ledger's rows of one table, oldest first."""
        ...

    def newest(self) -> list[dict[str, Any]]:
        """The state of each partition of every table, as its newest row in the ledger has it."""
        ...

    def stale(
        self, contracts: Mapping[str, Contract], tables: Sequence[str], engine: str
    ) -> dict[str, dict[str, str]]:
        """Partitions that looked up rows which have changed since, or lack records that came back
        into their window, with what made them stale, by table. What has not been compared yet is
        compared now, on an engine of that name."""
        ...


class EmbeddedDataPlane(dg.ConfigurableResource):
    """Runs tables in this process, on one engine that all steps and runs of the process share.

    The engine starts with the first table that needs it and stops when the run is over, unless
    `engine_kept_running` spans several runs.
    """

    cores: int | None = Field(default=None, description="Cores to use; all by default")
    memory: str | None = Field(default=None, description="Such as 2g")
    zones: dict[str, str] = Field(description="Where each zone of the lake is")
    storage_options: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> EmbeddedDataPlane:
        return cls(
            cores=settings.engine.cores,
            memory=settings.engine.memory,
            zones=settings.zones,
            storage_options=settings.lake.storage_options,
        )

    def run(self, spec: RunSpec, contracts: Mapping[str, Contract]) -> TableReport:
        from spark_jobs.run import run_table

        engine = EngineOnDemand(spec.engine, self.cores, self.memory)
        return run_table(spec, engine, dict(contracts))  # type: ignore[arg-type]

    def history(self, table: str) -> list[dict[str, Any]]:
        from spark_jobs.lake import ledger
        from spark_jobs.lake.storage import Lake

        return ledger.history(Lake(self.zones, self.storage_options), table).to_pylist()

    def newest(self) -> list[dict[str, Any]]:
        from spark_jobs.lake import ledger
        from spark_jobs.lake.storage import Lake

        return ledger.newest(Lake(self.zones, self.storage_options))

    def stale(
        self, contracts: Mapping[str, Contract], tables: Sequence[str], engine: str
    ) -> dict[str, dict[str, str]]:
        from spark_jobs.batch import stale
        from spark_jobs.lake import ledger
        from spark_jobs.lake.storage import Lake

        lake = Lake(self.zones, self.storage_options)
        newest = ledger.newest(lake)
        with engine_kept_running():
            on_demand = EngineOnDemand(engine, self.cores, self.memory)
            return stale.stale_partitions(contracts, lake, newest, on_demand, tables)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        release_engines()
