"""The gateway to the data plane: one method to run a table, one to read what was done.

Belongs here: the gateway, its embedded implementation, and the one engine of this process.
Does not belong here: anything about Dagster events, or what a run means.

Importing this module starts nothing and imports no engine.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import dagster as dg
from pydantic import Field

from spark_jobs.contract.model import Contract
from spark_jobs.report import RunSpec, TableReport

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

    from lakehouse.settings.model import Settings
    from spark_jobs.engines.session import Engine

EngineKey = tuple[str, int | None, str | None]


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
        """Partitions that looked up rows which have changed since, with what made them stale, by
        table. What has not been compared yet is compared now, on an engine of that name."""
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

        engine = _EngineOnDemand(spec.engine, self.cores, self.memory)
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
        from spark_jobs.batch import lookups
        from spark_jobs.lake import ledger
        from spark_jobs.lake.storage import Lake

        lake = Lake(self.zones, self.storage_options)
        newest = ledger.newest(lake)
        with engine_kept_running():
            on_demand = _EngineOnDemand(engine, self.cores, self.memory)
            return lookups.stale_partitions(contracts, lake, newest, on_demand, tables)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        release_engines()


@dataclass(frozen=True)
class _EngineOnDemand:
    """What `run_table` needs of an engine. A table with nothing to do asks for no session, and a
    run with nothing to do then takes no engine."""

    name: str
    cores: int | None
    memory: str | None

    @property
    def spark(self) -> SparkSession:
        return shared_engine(self.name, self.cores, self.memory).spark


class _Engines:
    """The engines of this process, by what they were asked to be."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[EngineKey, Engine] = {}
        self._held = 0

    def get(self, key: EngineKey) -> Engine:
        with self._lock:
            if key not in self._running:
                from spark_jobs.engines.session import Engine

                name, cores, memory = key
                self._running[key] = Engine.start(name, cores=cores, memory=memory)  # type: ignore[arg-type]
            return self._running[key]

    def release(self) -> None:
        """Stops the engines, unless somebody still holds them."""
        with self._lock:
            if self._held == 0:
                while self._running:
                    self._running.popitem()[1].stop()

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            self._held += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= 1
            self.release()


_engines = _Engines()


def shared_engine(name: str, cores: int | None = None, memory: str | None = None) -> Engine:
    """The engine of this process; it starts if it does not run yet."""
    return _engines.get((name, cores, memory))


def release_engines() -> None:
    """What the end of a run calls: the engines stop, unless they are kept running."""
    _engines.release()


@contextmanager
def engine_kept_running() -> Iterator[None]:
    """Within it, runs of this process share their engine; it stops at the end, on every way out."""
    with _engines.held():
        yield
