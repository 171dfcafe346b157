"""Snowflake, as its own client speaks to it: fakesnow, over DuckDB.

Belongs here: starting it, and rows for its tables. Does not belong here: the rows (data/).
"""

from __future__ import annotations

import gzip
import json
import logging
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt
import uvicorn
from fakesnow.server import app
from snowflake import connector
from starlette.requests import Request
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    import pyarrow as pa

DATABASE, SCHEMA, WAREHOUSE = "SALES", "TPCH", "COMPUTE_WH"
_TYPES = {"string": "text", "int64": "bigint", "int32": "integer", "date32[day]": "date"}
_AT_ONCE = 500
_LOGIN = "/session/v1/login-request"


@dataclass(frozen=True)
class SnowflakeService:
    """An account. `given` is what its client connects by; `public_keys`, in PEM, are those of its user's
    key pairs."""

    given: dict[str, Any]
    public_keys: list[bytes] = field(default_factory=list)

    def connect(self) -> Any:
        return connector.connect(**self.given, database=DATABASE, schema=SCHEMA)

    def put(self, table: str, rows: pa.Table) -> None:
        """Adds rows to a table, which is made of their columns if it is not there."""
        columns = ", ".join(f"{f.name} {_type(str(f.type))}" for f in rows.schema)
        names = ", ".join(rows.column_names)
        marks = ", ".join(["%s"] * rows.num_columns)
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"create table if not exists {table} ({columns})")
            values = [tuple(row.values()) for row in rows.to_pylist()]
            for first in range(0, len(values), _AT_ONCE):
                cursor.executemany(
                    f"insert into {table} ({names}) values ({marks})",
                    values[first : first + _AT_ONCE],
                )


@dataclass(frozen=True)
class _KeyPairs:
    """fakesnow asks nobody who they are: this asks those who come with a key pair."""

    keys: list[bytes]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != _LOGIN:
            await app(scope, receive, send)
            return
        request = Request(scope, receive)
        body = await request.body()
        packed = request.headers.get("Content-Encoding") == "gzip"
        said = json.loads(gzip.decompress(body) if packed else body)["data"]
        if said.get("AUTHENTICATOR") == "SNOWFLAKE_JWT" and not self._vouched(said["TOKEN"]):
            refused = {"success": False, "code": "390144", "message": "JWT token is invalid."}
            await JSONResponse({**refused, "data": {}})(scope, receive, send)
            return

        async def again() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        await app(scope, again, send)

    def _vouched(self, token: str) -> bool:
        for key in self.keys:
            try:
                return bool(jwt.decode(token, key, algorithms=["RS256"])["sub"] == "FAKESNOW.FAKE")
            except jwt.PyJWTError:
                continue
        return False


def _type(arrow: str) -> str:
    if arrow.startswith("timestamp"):
        return "timestamp_ntz"
    return arrow.replace("decimal128", "number") if "decimal" in arrow else _TYPES[arrow]


@contextmanager
def serve() -> Iterator[SnowflakeService]:
    """An account at a port of its own, with an empty schema."""
    # Nobody reads in a demo what DuckDB advises fakesnow to do.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"fakesnow\.")
    logging.getLogger("fakesnow.server").setLevel(logging.ERROR)
    listening = socket.create_server(("127.0.0.1", 0))
    keys: list[bytes] = []
    server = uvicorn.Server(uvicorn.Config(_KeyPairs(keys), log_level="error"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    given = {
        "account": "fakesnow",
        "user": "fake",
        "password": "any",  # the server asks for none
        "host": "127.0.0.1",
        "port": listening.getsockname()[1],
        "protocol": "http",
        "session_parameters": {"CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED": False},
    }
    try:
        with connector.connect(**given) as connection, connection.cursor() as cursor:
            cursor.execute(f"create database if not exists {DATABASE}")
            cursor.execute(f"create schema if not exists {DATABASE}.{SCHEMA}")
        yield SnowflakeService(given, keys)
    finally:
        server.should_exit = True
        thread.join()
