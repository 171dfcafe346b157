"""dagster-dbt as it runs dbt here. Importing this module imports dbt: only building marts does.

Belongs here: what this project wants of dagster-dbt's command line and translator otherwise than
by default, and what they want of a step. Does not belong here: what an asset looks like (specs.py),
and the environment (dbt.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import metadata
from typing import Any

import dagster as dg
from dagster_dbt import (
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtCliResource,
    DbtProject,
)
from dagster_dbt.asset_utils import (
    DAGSTER_DBT_MANIFEST_METADATA_KEY,
    DAGSTER_DBT_TRANSLATOR_METADATA_KEY,
)
from dagster_dbt.dagster_dbt_translator import DbtManifestWrapper
from packaging import version

from lakehouse.marts.specs import asset_spec


class MartTranslator(DagsterDbtTranslator):
    """Tells dagster-dbt of the assets that there are."""

    def __init__(self) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_source_metadata=False))

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        return asset_spec(manifest, unique_id)


class CommandLine(DbtCliResource):
    """dbt, without what dagster-dbt does beside running it."""

    @cached_property
    def _cli_version(self) -> version.Version:
        # The default asks `dbt --version`, which takes seconds and looks up PyPI.
        return version.parse(metadata.version("dbt-core"))

    # dagster-dbt does without where there is none.
    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> None:  # type: ignore[override]
        # It serves to query the warehouse after a run, but keeps the DuckDB file locked for as long
        # as this process lives.
        return None


class BuildContext(dg.AssetExecutionContext):
    """The context of a step, in whose assets dagster-dbt finds the manifest and the translator."""

    def __init__(self, context: dg.AssetExecutionContext, manifest: Mapping[str, Any]) -> None:
        super().__init__(context.op_execution_context)
        found = {
            DAGSTER_DBT_MANIFEST_METADATA_KEY: DbtManifestWrapper(manifest=manifest),
            DAGSTER_DBT_TRANSLATOR_METADATA_KEY: MartTranslator(),
        }
        self._described = context.assets_def.map_asset_specs(
            lambda spec: spec.merge_attributes(metadata=found)
        )

    @property
    def assets_def(self) -> dg.AssetsDefinition:
        return self._described
