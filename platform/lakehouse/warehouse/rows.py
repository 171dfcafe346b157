"""Rows of Redshift that somebody looks at: how many a mart has, and which.

Belongs here: reading relations that dbt built. Does not belong here: what is shown of rows (marts/).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lakehouse.settings.warehouse import RedshiftWarehouse
from lakehouse.warehouse.login import connected

Relation = tuple[str, str]
_BATCH = 10_000


def count_rows(warehouse: RedshiftWarehouse, relations: Iterable[Relation]) -> dict[Relation, int]:
    """Rows of each (schema, table)."""
    counts = {}
    with connected(warehouse) as connection:
        cursor = connection.cursor()
        for schema, table in relations:
            cursor.execute(f'select count(*) from {schema}."{table}"')
            counts[schema, table] = int(cursor.fetchone()[0])
    return counts


def batches(
    warehouse: RedshiftWarehouse, relation: Relation
) -> Iterator[tuple[list[str], list[Any]]]:
    """The names of a table's columns with rows of it, in batches; the first may have none. Nothing if
    there is no such table."""
    schema, table = relation
    with connected(warehouse) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "select 1 from pg_tables where schemaname = %s and tablename = %s", (schema, table)
        )
        if not cursor.fetchall():
            return
        cursor.execute(f'select * from {schema}."{table}"')
        names = [c[0] for c in cursor.description]
        yield names, cursor.fetchmany(_BATCH)
        while rows := cursor.fetchmany(_BATCH):
            yield names, rows
