"""The stand-in as a whole: PostgreSQL, the shim before it and the credentials API, started and
stopped together.

Belongs here: putting the parts together. Does not belong here: any of them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any

from lakehouse.standins.servers.redshift import certificate, postgres
from lakehouse.standins.servers.redshift.credentials import WHO, Passwords, api
from lakehouse.standins.servers.redshift.external import ExternalSchemas
from lakehouse.standins.servers.redshift.postgres import Postgres
from lakehouse.standins.servers.redshift.statements import Translator
from lakehouse.standins.servers.redshift.wire import Fault, Shim
from lakehouse.standins.servers.web import serving
from spark_jobs.lake.storage import Storage

NAME = "warehouse"
"""Of the cluster and of the workgroup."""
DATABASE = "analytics"
USER = "lakehouse"
"""Who may create schemas; logs in by a temporary password, or as the mapping of users says."""
ROLE = "arn:aws:iam::123456789012:role/redshift-s3-access"
"""What COPY and UNLOAD may take to reach the store."""


@dataclass(frozen=True)
class RedshiftServer:
    """A running stand-in. `environment` is what leads clients to it: the address of the credentials
    API, and the certificate that they are to trust."""

    port: int
    environment: Mapping[str, str]
    postgres: Postgres
    passwords: Passwords
    shim: Shim
    host: str = "127.0.0.1"

    @property
    def statements(self) -> list[str]:
        """Every statement that clients sent."""
        return self.shim.statements

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Runs SQL as the superuser, past the shim."""
        return self.postgres.execute(sql, DATABASE)

    def reset(self) -> None:
        """An empty database, without users' schemas and without faults."""
        self.shim.faults.clear()
        self.shim.statements.clear()
        self.shim.translator.forget()
        self.shim.translator.external.forget()
        self.postgres.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '"
            + DATABASE
            + "'"
        )
        _create_database(self.postgres)


@contextmanager
def serve(storage: Storage, passwords: Mapping[str, str] | None = None) -> Iterator[RedshiftServer]:
    """A stand-in that reads and writes the store as `storage` says. `passwords` are of users who log
    in by one that does not change."""
    with postgres.running() as database:
        accounts = Passwords(dict(passwords or {}))
        for user in {USER, f"IAMR:{WHO}", *accounts.fixed}:
            database.execute(f'create role "{user}" login in role pg_read_server_files')
        _create_database(database)
        tls, trusted = certificate.make(database.folder)
        external = ExternalSchemas(database, storage)
        translator = Translator(database, storage, frozenset({ROLE}), external)
        shim = Shim(translator, accounts.accepts, str(database.socket), tls)
        with (
            _listening(shim) as port,
            serving(api(accounts, {NAME}, lambda: ("127.0.0.1", port))) as address,
        ):
            environment = {
                "AWS_ENDPOINT_URL_REDSHIFT": address,
                "AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS": address,
                "SSL_CERT_FILE": str(trusted),
            }
            yield RedshiftServer(port, environment, database, accounts, shim)


def _create_database(database: Postgres) -> None:
    database.execute(f"drop database if exists {DATABASE}")
    database.execute(f"create database {DATABASE}")
    sql = resources.files(__package__).joinpath("functions.sql").read_text(encoding="utf-8")
    database.execute(sql, DATABASE)
    for user in (USER, f"IAMR:{WHO}"):
        database.execute(f'grant create on database {DATABASE} to "{user}"', DATABASE)
    database.execute("grant usage on schema standin to public", DATABASE)
    database.execute("grant create on schema standin to public", DATABASE)
    database.execute("grant usage on sequence standin.late_binding_number to public", DATABASE)


@contextmanager
def _listening(shim: Shim) -> Iterator[int]:
    """The shim on a free port, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    started = asyncio.run_coroutine_threadsafe(
        asyncio.start_server(shim.serve, "127.0.0.1", 0), loop
    )
    server = started.result(30)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(server.close)
        asyncio.run_coroutine_threadsafe(_ended(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _ended() -> None:
    """Lets go of clients that are still there."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


__all__ = ["DATABASE", "NAME", "ROLE", "USER", "Fault", "RedshiftServer", "serve"]
