"""JVM Spark for tables of a few rows: what makes large ones fast costs more here than it gives.

Belongs here: its settings, and starting it with them. Does not belong here: what is asked of it.
Expressions are compared as production has them, compiled, in tests/conformance.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from spark_jobs.engines.session import Engine

# A compiler of one level has a small cache, and what does not fit is interpreted.
JVM_OPTIONS = (
    "-XX:TieredStopAtLevel=1",
    "-XX:ReservedCodeCacheSize=240m",
    "-XX:+UseSerialGC",
)
SMALL = {
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
}
# Plans that run once are not worth a class of Java each.
INTERPRETED = {
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.codegen.wholeStage": "false",
}


@contextmanager
def started(engine: str, cores: int = 2) -> Iterator[Engine]:
    """An engine by its name; JVM Spark with these settings."""
    with Engine.start(engine, cores=cores, jvm_options=JVM_OPTIONS) as found:
        if engine == "spark":
            for name, value in (SMALL | INTERPRETED).items():
                found.spark.conf.set(name, value)
        yield found
