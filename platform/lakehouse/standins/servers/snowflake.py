"""Snowflake, as its own client speaks to it: fakesnow, over DuckDB.

Belongs here: starting it, and rows for its tables. Does not belong here: the rows (data/).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fakesnow
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
        marks = ", ".join(["%s"] * rows.num_columns)
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"create table if not exists {table} ({columns})")
            values = [tuple(row.values()) for row in rows.to_pylist()]
            for first in range(0, len(values), _AT_ONCE):
                cursor.executemany(
                    f"insert into {table} values ({marks})", values[first : first + _AT_ONCE]
                )


def _type(arrow: str) -> str:
    if arrow.startswith("timestamp"):
        return "timestamp_ntz"
    return arrow.replace("decimal128", "number") if "decimal" in arrow else _TYPES[arrow]


@contextmanager
def serve() -> Iterator[SnowflakeService]:
    """An account at a port of its own, with an empty schema."""
    with fakesnow.server() as given:
        service = SnowflakeService(given)
        with connector.connect(**given) as connection, connection.cursor() as cursor:
            cursor.execute(f"create database if not exists {DATABASE}")
            cursor.execute(f"create schema if not exists {DATABASE}.{SCHEMA}")
        yield service
