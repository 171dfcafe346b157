"""Running tables in this process, on its one engine.

Belongs here: that runner. Does not belong here: the engine itself (shared.py), other runners, anything
about Dagster events, or what a run means.

Importing this module starts nothing and imports no engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.engines.shared import EngineOnDemand
from spark_jobs.contract.model import Contract
from spark_jobs.report import RunSpec, TableReport

if TYPE_CHECKING:
    import dagster as dg


@dataclass(frozen=True)
class EmbeddedRunner:
    """Runs tables in this process, on one engine that all steps and runs of the process share.

    The engine starts with the first table that needs it and stops when the run is over, unless
    `engine_kept_running` spans several runs. `contracts` are those of the specifications.
    """

    contracts: Mapping[str, Contract]

    def run(self, context: dg.AssetExecutionContext, spec: RunSpec) -> TableReport:
        from spark_jobs.lake.storage import Lake, Storage
        from spark_jobs.run import run_table

        lake = Lake(spec.zones, Storage(spec.storage_options))
        engine = EngineOnDemand(spec.engine, spec.cores, spec.memory, lake.store)
        return run_table(spec, engine, dict(self.contracts), lake)
