"""Systems with tables that are queried: Snowflake.

Belongs here: their settings, and rows for them. Does not belong here: the servers (servers/).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lakehouse.standins.servers import snowflake
from lakehouse.standins.systems.system import LATE, NO_TIME, counted
from spark_jobs.contract.source import Snowflake, Source
from spark_jobs.window import Window


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
        rows = pq.read_table(file)
        there = [c for c in self.columns(source) if c in rows.column_names]
        self.service.put(source.table, rows.select(there))
        if source.modified is None:
            return Counter()
        changed: list[datetime | None] = rows[source.modified.lower()].to_pylist()
        start = Window.of(folder.name).start - source.overlap
        first = not any(p.name < folder.name for p in folder.parent.iterdir())
        late = [at for at in changed if at is not None and at < start and not first]
        return counted(NO_TIME, changed.count(None)) + counted(LATE, len(late))
