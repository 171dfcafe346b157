"""Builds the marts again from the lake, in a warehouse of their own, and compares.

Belongs here: the differences between the marts that readers see and those that the lake and the dbt
project make now. Does not belong here: the lake's own tables (spark_jobs/recompute.py).

Whatever a build left behind, and whoever has written into the warehouse: a mart is its model over
the newest versions of the lake's tables, or it differs from that. It is built again in DuckDB, whichever
warehouse it is in: a model makes the same rows in both. Rows of Redshift are brought here for that.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.marts.builds import opened
from lakehouse.marts.dbt import DbtProjectError, build_aside, prepared_project
from lakehouse.marts.records import record_of
from lakehouse.marts.specs import relation
from lakehouse.settings.warehouse import RedshiftWarehouse
from lakehouse.warehouse import rows as redshift
from spark_jobs.batch.reconcile import Finding

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from lakehouse.settings.model import Settings

_STORED = ("table", "incremental")
_MADE, _NOT_MADE = "rows that its inputs make", "rows that its inputs do not make"


def comparable(settings: Settings) -> list[str]:
    """The marts that are stored as tables, as `schema.name`; none without a dbt project."""
    if not (settings.dbt_project / "dbt_project.yml").is_file():
        return []
    manifest = json.loads(prepared_project(settings).manifest_path.read_bytes())
    return sorted(
        ".".join(relation(node))
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["config"]["materialized"] in _STORED
    )


def differences(settings: Settings, marts: Sequence[str]) -> list[Finding]:
    """Where some marts differ from what the lake makes; none if no mart was ever built. Nothing of
    the warehouse is written."""
    recorded = _recorded(settings)
    if not recorded:
        return []
    with tempfile.TemporaryDirectory(prefix="lakehouse-marts-") as folder:
        try:
            anew = build_aside(settings, Path(folder))
        except DbtProjectError as error:
            return [Finding("marts", f"cannot be built again: {error}", 1, 0)]
        with _present(settings, marts, anew, Path(folder)) as connection:
            return [f for mart in marts for f in _of_mart(connection, mart, recorded)]


def _recorded(settings: Settings) -> set[str]:
    """What has been built and verified, whether or not it is still there."""
    return {".".join(relation) for relation in record_of(settings).relations()}


@contextmanager
def _present(
    settings: Settings, marts: Sequence[str], anew: Path, folder: Path
) -> Iterator[DuckDBPyConnection]:
    """A connection to the marts that readers see, beside those in `anew`."""
    warehouse, attach = settings.warehouse, f"attach '{anew}' as anew (read_only)"
    if not isinstance(warehouse, RedshiftWarehouse):
        with opened(settings.warehouse_path, read_only=True) as connection:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute(attach)
            yield connection
        return
    with opened(folder / "present.duckdb") as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(attach)
        for mart in marts:
            _bring(connection, warehouse, mart)
        yield connection


def _bring(connection: DuckDBPyConnection, warehouse: RedshiftWarehouse, mart: str) -> None:
    """Copies a mart of Redshift, with the types that the same mart has in DuckDB: a name that it has not
    there is text, and is found to be one too many."""
    types = dict(_columns(connection, "'anew'", mart))
    schema, _, name = mart.partition(".")
    into = f'{schema}."{name}"'
    for number, (columns, batch) in enumerate(redshift.batches(warehouse, (schema, name))):
        if number == 0:
            listed = ", ".join(f'"{c}" {types.get(c, "varchar")}' for c in columns)
            connection.execute(f"create schema if not exists {schema}")
            connection.execute(f"create table {into} ({listed})")
        if batch:
            arrived = pa.table([pa.array(v) for v in zip(*batch, strict=True)], names=columns)
            connection.register("arrived", arrived)
            connection.execute(f"insert into {into} select * from arrived")


def _of_mart(
    connection: DuckDBPyConnection, mart: str, recorded: Collection[str]
) -> Iterator[Finding]:
    ours, theirs = (_columns(connection, at, mart) for at in ("current_database()", "'anew'"))
    if not ours:
        if mart in recorded:
            yield Finding(mart, "table", 1, 0)
        return
    if ours != theirs:
        yield Finding(mart, "columns of its model", len(theirs), len(ours))
        return
    names = ", ".join(f'"{n}"' for n, _ in ours)
    schema, _, name = mart.partition(".")
    rows = f'select {names} from {schema}."{name}"', f'select {names} from anew.{schema}."{name}"'
    if less := _count(connection, rows[1], rows[0]):
        yield Finding(mart, _MADE, less, 0)
    if more := _count(connection, rows[0], rows[1]):
        yield Finding(mart, _NOT_MADE, 0, more)


def _columns(connection: DuckDBPyConnection, catalog: str, mart: str) -> list[tuple[Any, ...]]:
    return connection.execute(
        "select column_name, data_type from duckdb_columns() where"
        f" database_name = {catalog} and schema_name || '.' || table_name = ? order by 1",
        [mart],
    ).fetchall()


def _count(connection: DuckDBPyConnection, rows: str, others: str) -> int:
    found = connection.execute(f"select count(*) from ({rows} except all {others})").fetchone()
    return int(found[0]) if found else 0
