"""What was loaded, in two places: in the warehouse, written by the transaction that loads, and in the
lake's ledger.

Belongs here: both records and the repair of the second from the first. Does not belong here: loading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.warehouse.export import Version
from lakehouse.warehouse.totals import Totals
from spark_jobs.lake import delta, making
from spark_jobs.lake.storage import Storage

SCHEMA = "lakehouse"
TABLE = f"{SCHEMA}.loads"
DDL = (
    f"create schema if not exists {SCHEMA}",
    f"""create table if not exists {TABLE} (
    source varchar(256) not null,
    load_id varchar(64) not null,
    run_id varchar(64) not null,
    table_id varchar(64) not null,
    version bigint not null,
    loaded_at timestamp not null,
    whole boolean not null,
    came bigint not null,
    gone bigint not null,
    row_count bigint not null,
    layout varchar(65535) not null,
    totals varchar(65535) not null
) diststyle all compound sortkey (source, loaded_at)""",
)
_LEDGER = pa.schema(
    [
        ("source", pa.string()),
        ("load_id", pa.string()),
        ("run_id", pa.string()),
        ("table_id", pa.string()),
        ("version", pa.int64()),
        ("loaded_at", pa.timestamp("us", "UTC")),
        ("whole", pa.bool_()),
        ("came", pa.int64()),
        ("gone", pa.int64()),
        ("row_count", pa.int64()),
        ("layout", pa.string()),
        ("totals", pa.string()),
    ]
)
COLUMNS = _LEDGER.names


@dataclass(frozen=True)
class LoadRecord:
    """One load of a table: which version it brought, how many rows came and went, and what the
    warehouse's rows add up to since."""

    source: str
    load_id: str
    run_id: str
    table_id: str
    version: int
    loaded_at: datetime
    whole: bool
    came: int
    gone: int
    row_count: int
    layout: str
    totals: str

    @property
    def of(self) -> Version:
        return Version(self.table_id, self.version)

    @property
    def sums(self) -> Totals:
        return Totals.from_json(self.totals)


def newest(cursor: Any, source: str) -> LoadRecord | None:
    """The last load of a table that was committed."""
    cursor.execute(
        f"select {', '.join(COLUMNS)} from {TABLE} where source = '{source}'"
        " order by loaded_at desc, load_id desc limit 1"
    )
    row: Sequence[Any] | None = cursor.fetchone()
    return LoadRecord(*row) if row else None


def insert(cursor: Any, record: LoadRecord) -> None:
    """Writes the record, in the transaction of the load."""
    values = [getattr(record, name) for name in COLUMNS]
    marks = ", ".join(["%s"] * len(values))
    cursor.execute(f"insert into {TABLE} ({', '.join(COLUMNS)}) values ({marks})", values)


def keep(record: LoadRecord, ledger: str, storage: Storage) -> None:
    """Appends the record to the lake's ledger, unless it is there: a load whose process died after its
    commit is recorded by the next one."""
    uri = f"{ledger}/loads"
    table = delta.open_table(uri, storage)
    if table is not None:
        where = (pc.field("source") == record.source) & (pc.field("load_id") == record.load_id)
        if delta.read(table, storage, where=where, columns=["load_id"]).num_rows:
            return
    values = {name: [getattr(record, name)] for name in COLUMNS}
    making.append(uri, pa.table(values, schema=_LEDGER), storage, partition_by=["source"])
