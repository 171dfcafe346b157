"""`dagster-pyspark`'s session resource on the JVM engine of this process.

Belongs here: lending the engine's session to assets that have no contract (a notebook, a one-off)
under the type they know. Does not belong here: running tables (embedded.py), or anything for the
embedded engine. Importing this module imports PySpark: only settings with engine `spark` do.
"""

from __future__ import annotations

import dagster as dg
from dagster_pyspark import LazyPySparkResource

from lakehouse.engines.shared import release_engines, shared_engine
from lakehouse.settings.model import Settings


class EngineSession(LazyPySparkResource):
    """A session on the engine that the tables of the same process run on: one JVM, not two."""

    def _init_session(self) -> None:
        if self._spark_session is None:
            from spark_jobs.lake.storage import Storage

            config = self.spark_config
            options = config.get("store")
            store = None if options is None else Storage(options)
            engine = shared_engine("spark", config.get("cores"), config.get("memory"), store)
            # The resource declares None, and holds a session.
            self._spark_session = engine.spark  # type: ignore[assignment]

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        self._spark_session = None
        release_engines()


def engine_session(settings: Settings) -> EngineSession:
    from spark_jobs.lake.storage import Lake

    store = Lake(settings.zones, settings.storage).store
    given = {
        "cores": settings.engine.cores,
        "memory": settings.engine.memory,
        "store": None if store is None else dict(store.options),
    }
    return EngineSession(spark_config={k: v for k, v in given.items() if v is not None})
