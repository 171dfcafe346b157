"""The run history in PostgreSQL, as production keeps it: the warehouse takes as many runs at once as the
settings say, for every process that shares the history.

Here: a real PostgreSQL. Not here: a whole deployment (tests/e2e/test_deployment.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.local.instance import prepare_home
from lakehouse.marts.specs import POOL
from lakehouse.settings.instance import PostgresInstance
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.settings.references import Secret
from lakehouse.standins.servers.redshift import postgres
from tests.documents import PROJECT

PASSWORD = "RUN_HISTORY_PASSWORD"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv(PASSWORD, "a socket asks for none")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with postgres.running() as database:
        database.create_database("dagster")
        history = PostgresInstance(
            storage="postgres",
            host=str(database.socket.parent),
            database="dagster",
            user=postgres.SUPERUSER,
            password=Secret(PASSWORD),
        )
        local = load_settings("local", home=tmp_path, project=PROJECT)
        yield local.model_copy(update={"instance": history})


def limited(settings: Settings, runs: int) -> None:
    pools = settings.pools.model_copy(update={"warehouse": runs})
    prepare_home(settings.model_copy(update={"pools": pools}))


def test_the_warehouse_takes_as_many_runs_as_the_settings_say_now(settings: Settings) -> None:
    for runs in (2, 3, 1):
        limited(settings, runs)
        with dg.DagsterInstance.get() as here, dg.DagsterInstance.get() as elsewhere:
            histories = [i.event_log_storage for i in (here, elsewhere)]
            assert type(histories[0]).__name__ == "PostgresEventLogStorage"
            claimed = [
                histories[n % 2].claim_concurrency_slot(POOL, f"run-{n}", "load").is_claimed
                for n in range(runs + 1)
            ]
            assert claimed == [True] * runs + [False]
            for n in range(runs + 1):
                histories[0].free_concurrency_slots_for_run(f"run-{n}")
            (pool,) = histories[1].get_pool_limits()
            assert (pool.name, pool.limit, pool.from_default) == (POOL, runs, False)
