"""Rows of Redshift that people look at: how many a mart has.

Belongs here: reading relations that dbt built. Does not belong here: what is shown of rows (marts/).
"""

from __future__ import annotations

from collections.abc import Iterable

from lakehouse.settings.warehouse import RedshiftWarehouse
from lakehouse.warehouse.login import connected

Relation = tuple[str, str]


def count_rows(warehouse: RedshiftWarehouse, relations: Iterable[Relation]) -> dict[Relation, int]:
    """Rows of each (schema, table)."""
    counts = {}
    with connected(warehouse) as connection:
        cursor = connection.cursor()
        for schema, table in relations:
            cursor.execute(f'select count(*) from {schema}."{table}"')
            counts[schema, table] = int(cursor.fetchone()[0])
    return counts
