"""Fixtures that tests of every kind share: one embedded engine per session, a lake per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spark_jobs.engines.session import Engine
from tests.lakes import TinyLake, transforms_in


@pytest.fixture(scope="session")
def sail() -> Iterator[Engine]:
    """The embedded engine; starting it costs seconds, sharing it nothing."""
    with Engine.start("sail") as engine:
        yield engine


@pytest.fixture
def lake(tmp_path: Path, sail: Engine) -> Iterator[TinyLake]:
    """An empty lake and an empty folder of contracts, with transforms of its own."""
    tiny = TinyLake(tmp_path, sail)
    with transforms_in(tiny.transforms):
        yield tiny
