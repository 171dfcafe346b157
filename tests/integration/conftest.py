"""Fixtures of integration tests: a tiny lake under Dagster, and the services of production."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.engines.shared import engine_kept_running
from lakehouse.standins.servers.kafka.broker import Broker, broker
from tests.integration.dagster_lake import DagsterLake, people_lake
from tests.warehouse import Cloud, cloud


@pytest.fixture(scope="module")
def shared_engine() -> Iterator[None]:
    with engine_kept_running():
        yield


@pytest.fixture
def dagster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_engine: None
) -> Iterator[DagsterLake]:
    for name in ("DAGSTER_HOME", "DAGSTER_EVENT_BATCH_SIZE"):
        monkeypatch.setenv(name, "")  # so that they are put back afterwards
        monkeypatch.delenv(name)
    with people_lake(tmp_path) as lake:
        yield lake


@pytest.fixture(scope="session")
def running_cloud() -> Iterator[Cloud]:
    with cloud() as started:
        yield started


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    with broker() as started:
        yield started


@pytest.fixture
def warehouse(running_cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """The store and the warehouse, the latter without any table."""
    for name, value in running_cloud.environment.items():
        monkeypatch.setenv(name, value)
    running_cloud.redshift.reset()
    return running_cloud
