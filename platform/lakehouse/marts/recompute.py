"""Builds the marts again from the lake, in a warehouse of their own, and compares.

Belongs here: the differences between the marts that readers see and those that the lake and the dbt
project make now. Does not belong here: the lake's own tables (spark_jobs/recompute.py).

Whatever a build left behind, and whoever has written into the warehouse: a mart is its model over
the newest versions of the lake's tables, or it differs from that. Only the DuckDB warehouse is
compared.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.marts.builds import opened
from lakehouse.marts.dbt import DbtProjectError, build_aside, prepared_project
from lakehouse.marts.specs import relation
from spark_jobs.batch.reconcile import Finding

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from lakehouse.settings.model import Settings

_STORED = ("table", "incremental")
_MADE, _NOT_MADE = "rows that its inputs make", "rows that its inputs do not make"


def comparable(settings: Settings) -> list[str]:
    """The marts that are stored as tables, as `schema.name`; none where there is nothing to compare
    with: no dbt project, or another warehouse."""
    if settings.warehouse.target != "duckdb":
        return []
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
    warehouse = settings.warehouse_path
    if not warehouse.exists():
        return []
    with opened(warehouse, read_only=True) as connection:
        if not _recorded(connection):
            return []
    with tempfile.TemporaryDirectory(prefix="lakehouse-marts-") as folder:
        try:
            anew = build_aside(settings, Path(folder))
        except DbtProjectError as error:
            return [Finding("marts", f"cannot be built again: {error}", 1, 0)]
        with opened(warehouse, read_only=True) as connection:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute(f"attach '{anew}' as anew (read_only)")
            return [f for mart in marts for f in _of_mart(connection, mart)]


def _recorded(connection: DuckDBPyConnection) -> set[str]:
    """What has been built and verified, whether or not it is still there."""
    import duckdb

    try:
        rows = connection.execute("select schema_name, table_name from lakehouse.verified")
    except duckdb.CatalogException:
        return set()
    return {".".join(row) for row in rows.fetchall()}


def _of_mart(connection: DuckDBPyConnection, mart: str) -> Iterator[Finding]:
    ours, theirs = (_columns(connection, at, mart) for at in ("current_database()", "'anew'"))
    if not ours:
        if mart in _recorded(connection):
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
