"""dbt's nodes in Dagster's terms: keys, groups, owners, tags, columns, freshness, checks.

Belongs here: how a node of dbt's manifest becomes an asset or a check. Does not belong here:
building marts (assets.py), and running dbt (invocation.py).

The manifest says everything, so that a process that builds no mart imports neither dbt nor
dagster-dbt, which take longer than all else that such a process does. A test compares with what
dagster-dbt derives from the same manifest.
"""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg

from lakehouse.keys import KIND_TAG, MART, warehouse_key
from lakehouse.keys import asset_key as lake_key

UNIQUE_ID = "dagster_dbt/unique_id"
POOL = "warehouse"
"""Of every step that writes there."""


def asset_specs(
    manifest: Mapping[str, Any], days: dg.PartitionsDefinition
) -> Iterator[dg.AssetSpec]:
    """The assets of all models. An incremental one has the partitions in which rows arrive: it can be
    computed again for some of them."""
    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] == "model":
            spec = asset_spec(manifest, unique_id)
            incremental = node["config"]["materialized"] == "incremental"
            yield spec.replace_attributes(partitions_def=days) if incremental else spec


def check_specs(manifest: Mapping[str, Any]) -> list[dg.AssetCheckSpec]:
    """The checks of all models."""
    return list(_check_specs(manifest))


def _check_specs(manifest: Mapping[str, Any]) -> Iterator[dg.AssetCheckSpec]:
    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] != "test":
            continue
        parents = sorted(set(node["depends_on"]["nodes"]))
        attached = _attached(manifest, node, parents)
        if attached is not None and attached in manifest["nodes"]:
            yield dg.AssetCheckSpec(
                name=node["name"],
                asset=asset_key(manifest, attached),
                additional_deps=[asset_key(manifest, p) for p in parents if p != attached],
                metadata={UNIQUE_ID: unique_id},
                blocking=(node["config"].get("severity") or "error").lower() == "error",
            )


def _attached(
    manifest: Mapping[str, Any], test: Mapping[str, Any], parents: list[str]
) -> str | None:
    """The model that a test is of: the one that its `meta` names, the only one that it selects
    from, or else the one under which it is declared."""
    named = (test["config"].get("meta") or {}).get("dagster", {}).get("ref", {}).get("name")
    if named:
        return next(i for i, node in manifest["nodes"].items() if node["name"] == named)
    return parents[0] if len(parents) == 1 else test.get("attached_node")


def asset_spec(manifest: Mapping[str, Any], unique_id: str) -> dg.AssetSpec:
    """The asset of a model; of a source no more than its key, since the lake describes it."""
    if unique_id in manifest["sources"]:
        return dg.AssetSpec(asset_key(manifest, unique_id), metadata={UNIQUE_ID: unique_id})
    node, adapter = manifest["nodes"][unique_id], manifest["metadata"]["adapter_type"]
    schema, meta = column_schema(node), node["config"]["meta"]
    personal = any(c.tags["classification"] == "pii" for c in schema.columns)
    layer = "staging" if node["schema"] == "staging" else "marts"
    # A view is as fresh as what it selects from.
    hours = None if layer == "staging" else meta["fresh_within_hours"]
    sql = textwrap.indent(node["raw_code"], "    ")
    parents = dict.fromkeys(asset_key(manifest, p) for p in node["depends_on"]["nodes"])
    return dg.AssetSpec(
        key=asset_key(manifest, unique_id),
        deps=list(parents),
        description=f"{node['description']}\n\n#### Raw SQL:\n```sql\n{sql}\n```",
        skippable=True,
        group_name=layer,
        code_version=hashlib.sha1(node["raw_code"].encode()).hexdigest(),
        owners=[f"team:{meta['owner']}"],
        tags={
            KIND_TAG: MART,
            "domain": node["schema"],
            "layer": layer,
            "personal-data": "true" if personal else "false",
        },
        kinds={"dbt", adapter, node["config"]["materialized"]},
        freshness_policy=hours
        and dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=hours)),
        metadata={
            "dagster/column_schema": schema,
            "dagster/table_name": f"{node['database']}.{node['schema']}.{node['alias']}",
            "dagster/storage_kind": adapter,
            "dagster-dbt/materialization_type": node["config"]["materialized"],
            UNIQUE_ID: unique_id,
        },
    )


def column_schema(node: Mapping[str, Any]) -> dg.TableSchema:
    """A model's documented columns with types, constraints and classification."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=c["name"],
                type=c.get("data_type") or "?",
                description=c["description"],
                constraints=dg.TableColumnConstraints(
                    nullable=all(k["type"] != "not_null" for k in c["constraints"])
                ),
                tags={"classification": c["config"]["meta"].get("classification", "internal")},
            )
            for c in node["columns"].values()
        ]
    )


def relation(node: Mapping[str, Any]) -> tuple[str, str]:
    """Schema and name of a model's relation, which are also its asset key."""
    return node["schema"], node["name"]


def asset_key(manifest: Mapping[str, Any], unique_id: str) -> dg.AssetKey:
    """The asset of a model; of a source the lake's table, or what the warehouse has of it."""
    source = manifest["sources"].get(unique_id)
    if source is None:
        return dg.AssetKey(relation(manifest["nodes"][unique_id]))
    table = f"{source['source_name']}.{source['name']}"
    in_lake = manifest["metadata"]["adapter_type"] == "duckdb"
    return lake_key(table) if in_lake else warehouse_key(table)
