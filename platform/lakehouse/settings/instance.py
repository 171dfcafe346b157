"""Where Dagster keeps its run history, and under which names its UI is asked for.

Belongs here: the settings of the Dagster instance. Does not belong here: opening it (local/).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lakehouse.settings.part import Part
from lakehouse.settings.references import Secret


class _Instance(Part):
    """`names` are those under which a proxy serves the UI. Every `watch_seconds` runs in progress are
    looked after: one whose process has gone is started again."""

    names: list[str] = Field(default_factory=list)
    watch_seconds: int = Field(default=30, ge=1)


class SqliteInstance(_Instance):
    """Files below LAKEHOUSE_HOME: for processes of one machine."""

    storage: Literal["sqlite"] = "sqlite"


class PostgresInstance(_Instance):
    """A PostgreSQL database, which processes of several machines can share. `host` may be the folder
    of a socket. `tls` is libpq's sslmode."""

    storage: Literal["postgres"]
    host: str
    port: int = 5432
    database: str
    user: str
    password: Secret
    tls: Literal["disable", "require", "verify-ca", "verify-full"] = "require"
