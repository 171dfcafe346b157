"""What was done, read from the lake's ledger by this process, wherever it was done.

Belongs here: the ledger as the control plane asks for it. Does not belong here: its rows
(spark_jobs/lake/row.py) and how they are kept (spark_jobs/lake/ledger.py), or running tables.

Importing this module starts nothing and imports no engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lakehouse.engines.runner import EngineName
from lakehouse.engines.shared import EngineOnDemand, engine_kept_running
from spark_jobs.contract.model import Contract
from spark_jobs.lake.row import LedgerRow, PartitionState

if TYPE_CHECKING:
    from lakehouse.settings.model import Settings
    from spark_jobs.lake.storage import Lake


@dataclass(frozen=True)
class LakeLedger:
    """The ledger of a lake; `cores` and `memory` are for the engine that compares rows."""

    zones: Mapping[str, str]
    storage_options: Mapping[str, str] = field(default_factory=dict)
    cores: int | None = None
    memory: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> LakeLedger:
        return cls(
            settings.zones,
            settings.lake.storage_options,
            settings.engine.cores,
            settings.engine.memory,
        )

    def history(self, table: str) -> list[LedgerRow]:
        from spark_jobs.lake import ledger

        return ledger.history(self._lake, table)

    def newest(self) -> list[PartitionState]:
        from spark_jobs.lake import ledger

        return ledger.newest(self._lake)

    def stale(
        self,
        contracts: Mapping[str, Contract],
        newest: Sequence[PartitionState],
        tables: Sequence[str],
        engine: EngineName,
    ) -> dict[str, dict[str, str]]:
        from spark_jobs.batch import stale

        with engine_kept_running():
            lake = self._lake
            on_demand = EngineOnDemand(engine, self.cores, self.memory, lake.store)
            return stale.stale_partitions(contracts, lake, newest, on_demand, tables)

    @property
    def _lake(self) -> Lake:
        from spark_jobs.lake.storage import Lake, Storage

        return Lake(self.zones, Storage(self.storage_options))
