"""A table of Snowflake into landing, as its asset extracts it: host, port, table, out.

Belongs here: one extraction, and its settings. Does not belong here: the account that answers.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lakehouse.settings.references import Secret
from lakehouse.settings.sources import SnowflakeConnection
from lakehouse.sources import snowflake
from lakehouse.sources.cursors import SqliteStore
from lakehouse.sources.extract import Dataset, extract
from lakehouse.standins.servers.snowflake import DATABASE, SCHEMA, WAREHOUSE
from spark_jobs.contract.source import Snowflake
from spark_jobs.lake.storage import Storage

PARTITION, PASSWORD = "2026-10-05", "BENCHMARK_SNOWFLAKE_PASSWORD"
COLUMNS = (
    "l_orderkey", "l_partkey", "l_suppkey", "l_linenumber", "l_quantity", "l_extendedprice",
    "l_discount", "l_tax", "l_returnflag", "l_linestatus", "l_shipdate", "l_commitdate",
    "l_receiptdate", "l_shipinstruct", "l_shipmode", "l_comment",
)  # fmt: skip


def pull(host: str, port: str, table: str, out: str) -> int:
    """Lands all rows; returns how many there are."""
    to = SnowflakeConnection(
        account="fakesnow", user="fake", host=host, port=int(port), protocol="http",
        password=Secret(PASSWORD), database=DATABASE, schema=SCHEMA, warehouse=WAREHOUSE,
    )  # fmt: skip
    given = {"kind": "snowflake", "dataset": "lines", "format": "parquet", "table": table}
    declared = Snowflake.model_validate(given)
    source: Any = snowflake.source(to, declared, COLUMNS)
    dataset = Dataset(source, declared, COLUMNS, Storage(), f"{out}/landing")
    cursors = SqliteStore(Path(out) / "positions.sqlite")
    return extract(dataset, PARTITION, cursors, datetime.now(UTC)).manifest.rows


if __name__ == "__main__":
    print(pull(*sys.argv[1:]))
