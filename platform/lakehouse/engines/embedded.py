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

    from spark_jobs.lake.row import LedgerRow
    from spark_jobs.lake.storage import Lake


@dataclass(frozen=True)
class EmbeddedRunner:
    """Runs tables in this process, on one engine that all steps and runs of the process share.

    The engine starts with the first table that needs it and stops when the run is over, unless
    `engine_kept_running` spans several runs. `contracts` are those of the specifications.
    """

    contracts: Mapping[str, Contract]

    def run(self, context: dg.AssetExecutionContext, spec: RunSpec) -> TableReport:
        from spark_jobs.run import run_table

        lake, engine = _given(spec)
        return run_table(spec, engine, dict(self.contracts), lake)

    def unchanged(self, spec: RunSpec) -> tuple[TableReport, list[LedgerRow]] | None:
        """As `spark_jobs.run.unchanged`: without a step, and hardly ever with an engine."""
        from spark_jobs.run import unchanged

        lake, engine = _given(spec)
        return unchanged(spec, engine, dict(self.contracts), lake)


def _given(spec: RunSpec) -> tuple[Lake, EngineOnDemand]:
    from spark_jobs.lake.storage import Lake, Storage

    lake = Lake(spec.zones, Storage(spec.storage_options))
    return lake, EngineOnDemand(spec.engine, spec.cores, spec.memory, lake.store)
