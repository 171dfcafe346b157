"""Fixtures that tests of every kind share: one embedded engine and one stand-in for AWS per session, a
lake per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.standins.servers import aws as stand_in
from spark_jobs.engines.session import Engine
from tests.lakes import TinyLake, transforms_in


@pytest.fixture(scope="session")
def sail() -> Iterator[Engine]:
    """The embedded engine; starting it costs seconds, sharing it nothing."""
    with Engine.start("sail") as engine:
        yield engine


@pytest.fixture(scope="session")
def aws_server() -> Iterator[stand_in.Aws]:
    with stand_in.aws() as server:
        yield server


@pytest.fixture
def aws(aws_server: stand_in.Aws, monkeypatch: pytest.MonkeyPatch) -> stand_in.Aws:
    """AWS with nothing in it, of which the environment knows credentials and no address."""
    for name in ("ENDPOINT_URL", "ENDPOINT_URL_S3", "REGION", "DEFAULT_REGION", "ALLOW_HTTP"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    for name, value in stand_in.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    aws_server.forget()
    return aws_server


@pytest.fixture
def lake(tmp_path: Path, sail: Engine) -> Iterator[TinyLake]:
    """An empty lake and an empty folder of contracts, with transforms of its own."""
    tiny = TinyLake(tmp_path, sail)
    with transforms_in(tiny.transforms):
        yield tiny
