"""The engine that all steps and runs of this process share.

Belongs here: starting it when it is first asked for, and stopping it. Does not belong here:
anything of Dagster, which a command that only looks does without.

Importing this module starts nothing and imports no engine.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from spark_jobs.engines.session import Engine, EngineName
    from spark_jobs.lake.storage import Storage

    EngineKey = tuple[EngineName, int | None, str | None, Storage | None]


@dataclass(frozen=True)
class EngineOnDemand:
    """What `run_table` needs of an engine. A table with nothing to do asks for no session, and a
    run with nothing to do then takes no engine. `store` is that of the lake, if it is in one."""

    name: EngineName
    cores: int | None
    memory: str | None
    store: Storage | None = None

    @property
    def spark(self) -> SparkSession:
        from spark_jobs.engines.imports import import_pyspark

        import_pyspark()
        return shared_engine(self.name, self.cores, self.memory, self.store).spark


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

                name, cores, memory, store = key
                self._running[key] = Engine.start(name, cores=cores, memory=memory, store=store)
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


def shared_engine(
    name: EngineName,
    cores: int | None = None,
    memory: str | None = None,
    store: Storage | None = None,
) -> Engine:
    """The engine of this process; it starts if it does not run yet."""
    return _engines.get((name, cores, memory, store))


def release_engines() -> None:
    """What the end of a run calls: the engines stop, unless they are kept running."""
    _engines.release()


@contextmanager
def engine_kept_running() -> Iterator[None]:
    """Within it, runs of this process share their engine; it stops at the end, on every way out."""
    with _engines.held():
        yield
