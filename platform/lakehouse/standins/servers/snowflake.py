"""Snowflake, as its own client speaks to it: fakesnow, over DuckDB.

Belongs here: starting it, and rows for its tables. Does not belong here: the rows (data/).
"""

from __future__ import annotations

import logging
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn
from fakesnow.server import app
from snowflake import connector

if TYPE_CHECKING:
    import pyarrow as pa

DATABASE, SCHEMA, WAREHOUSE = "SALES", "TPCH", "COMPUTE_WH"
_TYPES = {"string": "text", "int64": "bigint", "int32": "integer", "date32[day]": "date"}
_AT_ONCE = 500


@dataclass(frozen=True)
class SnowflakeService:
    """An account. `given` is what its client connects by."""

    given: dict[str, Any]

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
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
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
        yield SnowflakeService(given)
    finally:
        server.should_exit = True
        thread.join()
