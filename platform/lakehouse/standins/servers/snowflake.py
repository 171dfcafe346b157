"""Snowflake, as its own client speaks to it: fakesnow, over DuckDB.

Belongs here: starting it, rows for its tables, and results in parts. Does not belong here: the rows
(data/).

fakesnow answers with a result as a whole. Snowflake has the first rows in its answer, and addresses for
the rest, which the client fetches some at a time.
"""

from __future__ import annotations

import gzip
import importlib
import json
import logging
import socket
import threading
import uuid
import warnings
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import uvicorn
from fakesnow import arrow
from fakesnow.server import app, shared_fs
from snowflake import connector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    import pyarrow as pa

DATABASE, SCHEMA, WAREHOUSE = "SALES", "TPCH", "COMPUTE_WH"
_TYPES = {"string": "text", "int64": "bigint", "int32": "integer", "date32[day]": "date"}
_AT_ONCE = 500
_LOGIN, _QUERY, _PARTS = "/session/v1/login-request", "/queries/v1/query-request", "/parts/"
_PART_ROWS = 50_000
_RESULTS_KEPT = 4


@dataclass(frozen=True)
class SnowflakeService:
    """An account. `given` is what its client connects by; `public_keys`, in PEM, are those of its user's
    key pairs."""

    given: dict[str, Any]
    public_keys: list[bytes] = field(default_factory=list)

    def connect(self) -> Any:
        return connector.connect(**self.given, database=DATABASE, schema=SCHEMA)

    def load(self, table: str, file: Path, rows: int) -> None:
        """Makes a table of the first rows of a Parquet file, however many these are."""
        import pyarrow.parquet as pq

        from lakehouse.standins.data.tpch import plain

        self.put(table, plain(pq.read_schema(file).empty_table()))
        with shared_fs.duck_conn.cursor() as connection:
            place = f"{DATABASE}.{SCHEMA}.{table}"
            connection.execute(
                f"insert into {place} from read_parquet(?) limit ?", [str(file), rows]
            )

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
            await _IN_PARTS(scope, receive, send)
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


_long: ContextVar[list[pa.Table]] = ContextVar("_long")
"""The result of the request that is answered, if it is too long for the answer."""


def _first_part(result: pa.Table) -> pa.Buffer:
    if result.num_rows > _PART_ROWS:
        _long.get().append(result)
    return arrow.to_ipc(result.slice(0, _PART_ROWS))


@dataclass(frozen=True)
class _InParts:
    """fakesnow's answers, the rest of a long result at addresses of its own."""

    kept: dict[str, pa.Table] = field(default_factory=dict)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        if path.startswith(_PARTS):
            name, _, part = path.removeprefix(_PARTS).partition("/")
            rows = self.kept[name].slice(int(part) * _PART_ROWS, _PART_ROWS)
            await Response(bytes(arrow.to_ipc(rows)))(scope, receive, send)
        elif path == _QUERY:
            await self._query(scope, receive, send)
        else:
            await app(scope, receive, send)

    async def _query(self, scope: Any, receive: Any, send: Any) -> None:
        messages, found = list[MutableMapping[str, Any]](), list[Any]()
        _long.set(found)

        async def keep(message: MutableMapping[str, Any]) -> None:
            messages.append(message)

        await app(scope, receive, keep)
        if not found:
            for message in messages:
                await send(message)
            return
        answer = json.loads(b"".join(m.get("body", b"") for m in messages))
        answer["data"]["chunks"] = self._addresses(scope["server"], found[0])
        await JSONResponse(answer)(scope, receive, send)

    def _addresses(self, at: tuple[str, int], result: pa.Table) -> list[dict[str, Any]]:
        while len(self.kept) >= _RESULTS_KEPT:
            self.kept.pop(next(iter(self.kept)))
        name = uuid.uuid4().hex
        self.kept[name] = result
        parts = range(1, -(-result.num_rows // _PART_ROWS))
        bytes_of_one = result.nbytes * _PART_ROWS // result.num_rows
        return [
            {
                "url": f"http://{at[0]}:{at[1]}{_PARTS}{name}/{part}",
                "rowCount": min(_PART_ROWS, result.num_rows - part * _PART_ROWS),
                "uncompressedSize": bytes_of_one,
                "compressedSize": bytes_of_one,
            }
            for part in parts
        ]


_IN_PARTS = _InParts()


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
    # The package has a function of the module's name.
    vars(importlib.import_module("fakesnow.server"))["to_ipc"] = _first_part
    listening = socket.create_server(("127.0.0.1", 0))
    keys: list[bytes] = []
    web = uvicorn.Server(uvicorn.Config(_KeyPairs(keys), log_level="error"))
    thread = threading.Thread(target=web.run, args=([listening],), daemon=True)
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
        web.should_exit = True
        thread.join()
