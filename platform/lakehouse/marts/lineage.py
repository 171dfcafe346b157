"""Column lineage of the marts, from the SQL that dbt compiled.

Belongs here: which columns of its parents a model's column is computed from. Does not belong here:
lineage of the lake's tables, which their contracts declare.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

# Column of a model -> (dbt id of the parent, its column), sorted.
Lineage = dict[str, tuple[tuple[str, str], ...]]


def column_lineage(manifest: Mapping[str, Any], unique_id: str, sql: str) -> Lineage:
    """The lineage of one model: its columns and those of its parents are as documented, and all
    are (a test sees to that). A column that is a constant or a count has none, and neither has SQL
    that sqlglot does not understand: a mart is built whether or not its lineage can be drawn."""
    from sqlglot.errors import SqlglotError

    try:
        return _lineage(manifest, unique_id, sql)
    except SqlglotError:
        return {}


def _lineage(manifest: Mapping[str, Any], unique_id: str, sql: str) -> Lineage:
    from sqlglot import MappingSchema, exp, parse_one
    from sqlglot.lineage import lineage
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    dialect = manifest["metadata"]["adapter_type"]
    query = cast("exp.Query", parse_one(sql, dialect=dialect))
    schema = MappingSchema(dialect=dialect)
    parents = dict(_relations(manifest, unique_id))
    for table in {(t.catalog, t.db, t.name) for t in query.find_all(exp.Table) if t.db}:
        if node := _node(manifest, parents.get(table[1:]) or _changed_source(manifest, *table[1:])):
            columns = {c["name"]: c.get("data_type") or "varchar" for c in node["columns"].values()}
            schema.add_table(exp.table_(table[2], db=table[1], catalog=table[0] or None), columns)
    query = qualify(query, schema=schema, dialect=dialect)
    scope = build_scope(query)

    def sources(column: str) -> Iterator[tuple[str, str]]:
        for found in lineage(column, query, schema=schema, scope=scope, dialect=dialect).walk():
            table = found.expression
            if found.downstream or not isinstance(table, exp.Table):
                continue
            if parent := parents.get((table.db, table.name)):
                if parent != unique_id:
                    yield parent, exp.to_column(found.name).name

    return {c: tuple(sorted(set(sources(c)))) for c in query.named_selects}


def _relations(
    manifest: Mapping[str, Any], unique_id: str
) -> Iterator[tuple[tuple[str, str], str]]:
    """The relations that a model may select from, itself included, with their dbt ids."""
    for parent in (unique_id, *manifest["parent_map"][unique_id]):
        node = _node(manifest, parent)
        yield (node["schema"], node.get("alias") or node["name"]), parent


def _changed_source(manifest: Mapping[str, Any], schema: str, name: str) -> str | None:
    """The dbt id of the source whose changed rows a view of the schema `changes` holds."""
    if schema != "changes":
        return None
    layer, table = name.split("__")[-2:]
    found = (
        i for i, s in manifest["sources"].items() if (s["schema"], s["name"]) == (layer, table)
    )
    return next(found, None)


def _node(manifest: Mapping[str, Any], unique_id: str | None) -> Mapping[str, Any]:
    return manifest["sources"].get(unique_id) or manifest["nodes"].get(unique_id) or {}
