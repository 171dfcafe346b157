"""Systems with tables that are queried: Snowflake and Redshift.

Belongs here: their settings, and rows for them. Does not belong here: the servers (servers/).
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.standins.servers import aws, redshift, snowflake
from lakehouse.standins.servers.redshift import server
from lakehouse.standins.systems.system import CUT, LATE, NO_TIME, TYPE, counted
from spark_jobs.contract.source import Redshift, Snowflake, Source
from spark_jobs.window import Window

_NUMBER = r"^-?[0-9]+(\.[0-9]+)?$"


@dataclass(frozen=True)
class Accounts:
    """An account of Snowflake. Its stand-in takes any password: one is made for each run, so that
    whoever looks for it finds no other."""

    service: snowflake.SnowflakeService
    columns: Callable[[Source], list[str]]
    password: str
    kind: str = "snowflake"

    @property
    def connection(self) -> Mapping[str, Any]:
        given = self.service.given
        return {
            **{name: given[name] for name in ("account", "user", "host", "port", "protocol")},
            "password": {"secret": "SNOWFLAKE_PASSWORD"},
            "database": snowflake.DATABASE,
            "schema": snowflake.SCHEMA,
            "warehouse": snowflake.WAREHOUSE,
            "timeout_seconds": 60,
        }

    @property
    def variables(self) -> Mapping[str, str]:
        return {"SNOWFLAKE_PASSWORD": self.password}

    def put(self, source: Snowflake, folder: Path) -> Counter[str]:
        (file,) = folder.iterdir()
        delivered = pq.read_table(file)
        there = [c for c in self.columns(source) if c in delivered.column_names]
        oldest = min(folder.parent.iterdir())
        rows = _of_types(delivered, pq.read_schema(next(oldest.iterdir())))
        self.service.put(source.table, rows.select(there))
        untyped = counted(TYPE, delivered.num_rows - rows.num_rows)
        if source.modified is None:
            return untyped
        changed: list[datetime | None] = rows[source.modified.lower()].to_pylist()
        start = Window.of(folder.name).start - source.overlap
        late = [at for at in changed if at is not None and at < start and folder != oldest]
        return untyped + counted(NO_TIME, changed.count(None)) + counted(LATE, len(late))


def _of_types(rows: pa.Table, types: pa.Schema) -> pa.Table:
    """The rows with the types that a table was made with. A file can have a column as text for the sake
    of a value that is none of its type: such a row no table takes."""
    for number, column in enumerate(rows.schema):
        wanted = types.field(column.name).type if column.name in types.names else column.type
        if pa.types.is_string(column.type) and pa.types.is_decimal(wanted):
            text = rows[column.name]
            fits = pc.or_kleene(pc.is_null(text), pc.match_substring_regex(text, _NUMBER))
            rows = rows.filter(fits)
            rows = rows.set_column(number, column.name, rows[column.name].cast(wanted))
    return rows


@dataclass(frozen=True)
class Warehouse:
    """A cluster of Redshift, to whose tables rows are loaded as text. `tempdir` is where it unloads."""

    service: redshift.RedshiftServer
    columns: Callable[[Source], list[str]]
    password: str
    tempdir: str
    storage_options: Mapping[str, str]
    kind: str = "redshift"

    @property
    def connection(self) -> Mapping[str, Any]:
        return {
            "host": self.service.host,
            "port": self.service.port,
            "database": server.DATABASE,
            "user": server.USER,
            "password": {"secret": "REDSHIFT_PASSWORD"},
            "region": aws.REGION,
            "cluster": server.NAME,
            "role": server.ROLE,
            "tempdir": self.tempdir,
            "storage_options": dict(self.storage_options),
        }

    @property
    def variables(self) -> Mapping[str, str]:
        return {**self.service.environment, "REDSHIFT_PASSWORD": self.password}

    def put(self, source: Redshift, folder: Path) -> Counter[str]:
        """Lines of another width than their header are none that a load takes. Rows of a day are loaded
        at its noon."""
        (file,) = folder.iterdir()
        with file.open(encoding="utf-8-sig", newline="") as lines:
            header, *records = csv.reader(lines)
        whole = [dict(zip(header, r, strict=True)) for r in records if len(r) == len(header)]
        rows = [{column: value or None for column, value in row.items()} for row in whole]
        columns = self.columns(source)
        window = Window.of(folder.name)
        loaded = (window.start + (window.end - window.start) / 2).replace(tzinfo=None).isoformat()
        stamp = {source.modified: loaded} if source.modified else {}
        typed = ", ".join([*(f"{c} varchar" for c in columns), *(f"{c} timestamp" for c in stamp)])
        schema = source.table.rpartition(".")[0]
        with self.service.postgres.connected(server.DATABASE) as connection:
            cursor = connection.cursor()
            cursor.execute(f"create schema if not exists {schema}")
            cursor.execute(f"create table if not exists {source.table} ({typed})")
            cursor.execute(f"grant usage on schema {schema} to public")
            cursor.execute(f"grant select on {source.table} to public")
            cursor.execute(
                f"insert into {source.table}"
                f" select * from json_populate_recordset(null::{source.table}, %s)",
                [json.dumps([{**row, **stamp} for row in rows])],
            )
        return counted(CUT, len(records) - len(whole))
