"""A workspace of Databricks for tests: what is shipped there, and settings that lead to it.

Belongs here: starting it once, and an artifact of a test's own contracts in its volume. Does not
belong here: the workspace (lakehouse.standins.servers.databricks), or assertions.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lakehouse.artifacts.build import LOCK, Built, build
from lakehouse.artifacts.push import push
from lakehouse.artifacts.store import store_of
from lakehouse.settings.artifacts import ArtifactSettings
from lakehouse.settings.databricks import DatabricksSettings
from lakehouse.settings.engines import RunnerSettings
from lakehouse.settings.model import Settings
from lakehouse.standins.servers.databricks import runtime
from lakehouse.standins.servers.databricks.server import Workspace, workspace
from spark_jobs.lake.storage import Storage
from tests.documents import PROJECT
from tests.lakes import TinyLake


@contextmanager
def started(home: Path, store: Storage | None = None, session: str = "") -> Iterator[Workspace]:
    """A workspace whose Spark is a Delta one, and reaches a store by a key of its own."""
    spark = runtime.of_this_machine(store, session=session)
    with workspace(home, spark.jars, spark.spark_conf, spark.environment) as running:
        yield running


def environment(running: Workspace) -> dict[str, str]:
    """The variables that lead the SDK there, and nowhere else."""
    found = {name: "" for name in os.environ if name.startswith("DATABRICKS_")}
    return found | running.environment


def settings_for(settings: Settings, volume: str, **more: Any) -> Settings:
    """Settings whose tables run as jobs, which find what was shipped in a volume."""
    return settings.model_copy(
        update={
            "runner": RunnerSettings(name="databricks"),
            "artifacts": ArtifactSettings(location=volume),
            "databricks": DatabricksSettings(
                **{"poll_seconds": 0.2, "dbus_per_hour": 4.0, "price_per_dbu": 0.35} | more
            ),
        }
    )


def ship(settings: Settings, lake: TinyLake, folder: Path) -> Built:
    """Ships the data plane with contracts and transforms of a test, and makes it the current
    artifact."""
    tree = folder / "tree"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "spark_jobs", tree / "spark_jobs", symlinks=True, ignore=ignored)
    shutil.copytree(lake.contracts, tree / "contracts")
    shutil.copytree(lake.transforms, tree / "spark_jobs" / "tables", dirs_exist_ok=True)
    shutil.copy(PROJECT / LOCK, tree / LOCK)
    built = build(tree, settings.artifacts.target, folder / "build")
    # A job of Databricks installs, and nobody there unpacks.
    packages = built.folder / Path(built.artifact.packages).name
    packages.write_bytes(b"")
    push(built, store_of(settings))
    return built
