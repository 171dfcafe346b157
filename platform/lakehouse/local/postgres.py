"""Dagster's PostgreSQL storage of the run history, for processes that share no disk.

Belongs here: what comes with a history of this lake wherever it is kept (private files, a guarded
webserver). Does not belong here: what is stored; that is Dagster's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import pg_url_from_config

from lakehouse.local.event_log import SHARED_CONFIG, limit_pools, opened_with
from lakehouse.settings.instance import PostgresInstance


class PostgresStorage(DagsterPostgresStorage):
    """Runs, events and schedules in one database, whose tables are made at first use."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        stock = cast("dict[str, Any]", super().config_type())
        return {**stock, **SHARED_CONFIG}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> PostgresStorage:
        opened_with(config_value.get("names", ()))
        storage = cls(postgres_url=pg_url_from_config(config_value), inst_data=inst_data)
        limit_pools(storage.event_log_storage, config_value.get("pools", {}))
        return storage


def storage_config(settings: PostgresInstance) -> dict[str, Any]:
    """The storage's part of `dagster.yaml`. The password stays where it is: the file names it."""
    is_socket = settings.host.startswith("/")
    params = {"sslmode": "disable" if is_socket else settings.tls}
    return {
        "postgres_db": {
            "hostname": "" if is_socket else settings.host,
            "port": settings.port,
            "db_name": settings.database,
            "username": settings.user,
            "password": {"env": settings.password.name},
            # The driver that dagster-postgres brings; SQLAlchemy takes another by itself.
            "scheme": "postgresql+psycopg2",
            "params": params | ({"host": settings.host} if is_socket else {}),
        },
        "names": settings.names,
    }
