"""The reference engine, started once for all tests that compare with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spark_jobs.engines.session import Engine
from tests.small_spark import INTERPRETED, started


@pytest.fixture(scope="session")
def spark() -> Iterator[Engine]:
    """Spark and Delta on a local JVM, beside the embedded engine in one process."""
    with started("spark") as engine:
        yield engine


@pytest.fixture
def compiled(spark: Engine) -> Iterator[Engine]:
    """The same, with plans compiled to Java as in production."""
    for name in INTERPRETED:
        spark.spark.conf.unset(name)
    yield spark
    for name, value in INTERPRETED.items():
        spark.spark.conf.set(name, value)
