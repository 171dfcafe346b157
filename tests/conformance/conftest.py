"""The reference engine, started once for all tests that compare with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spark_jobs.engines.session import Engine

# Tables of a few rows are compared hundreds of times: what makes large ones fast costs more here
# than it gives. Expressions are compared compiled as well (test_expressions.py).
SMALL = {
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.shuffle.partitions": "1",
}


@pytest.fixture(scope="session")
def spark() -> Iterator[Engine]:
    """Spark and Delta on a local JVM, beside the embedded engine in one process."""
    options = ("-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=240m", "-XX:+UseSerialGC")
    with Engine.start("spark", cores=2, jvm_options=options) as engine:
        for name, value in SMALL.items():
            engine.spark.conf.set(name, value)
        yield engine


@pytest.fixture
def compiled(spark: Engine) -> Iterator[Engine]:
    """The same, with plans compiled to Java as in production."""
    codegen = {n: v for n, v in SMALL.items() if ".codegen." in n}
    for name in codegen:
        spark.spark.conf.unset(name)
    yield spark
    for name, value in codegen.items():
        spark.spark.conf.set(name, value)
