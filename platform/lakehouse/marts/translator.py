"""dbt's nodes in Dagster's terms: keys, groups, owners, tags, columns, freshness.

Belongs here: how a node of dbt's manifest becomes an asset spec. Does not belong here: building
marts (assets.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtProject


class MartTranslator(DagsterDbtTranslator):
    """Names dbt's nodes like the lake's tables: [schema, model], and [layer, table] for sources."""

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        spec = spec.replace_attributes(key=asset_key(manifest, unique_id))
        node = self.get_resource_props(manifest, unique_id)
        if node["resource_type"] == "source":
            return spec
        schema, meta = column_schema(node), node["config"]["meta"]
        personal = any(c.tags["classification"] == "pii" for c in schema.columns)
        layer = "staging" if node["schema"] == "staging" else "marts"
        # A view is as fresh as what it selects from.
        hours = None if layer == "staging" else meta["fresh_within_hours"]
        return spec.merge_attributes(metadata={"dagster/column_schema": schema}).replace_attributes(
            group_name=layer,
            owners=[f"team:{meta['owner']}"],
            tags={
                "domain": node["schema"],
                "layer": layer,
                "personal-data": "true" if personal else "false",
            },
            kinds={"dbt", manifest["metadata"]["adapter_type"], node["config"]["materialized"]},
            freshness_policy=hours
            and dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=hours)),
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
    source = manifest["sources"].get(unique_id)
    return dg.AssetKey(
        [source["source_name"], source["name"]]
        if source
        else relation(manifest["nodes"][unique_id])
    )
