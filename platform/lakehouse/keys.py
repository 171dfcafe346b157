"""The names that Dagster keeps for the lake: of assets, tags, metadata and resources.

Belongs here: a name that one module writes and another one reads, and the two ways between an asset
and its name. Does not belong here: what is done with them. Everything may import this module, and it
imports nothing of the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import dagster as dg

    FinishedRunEvent = Literal[dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS]

# -- assets ----------------------------------------------------------------------------------------

KIND_TAG = "lakehouse/kind"
"""Tag of every asset: what it is, one of the following."""
LANDING, TABLE, LOAD, MART = "landing", "table", "load", "mart"


def asset_key(name: str) -> dg.AssetKey:
    """The asset of `layer.table`, or of `schema.mart`."""
    import dagster as dg

    return dg.AssetKey(name.split("."))


def landing_key(dataset: str) -> dg.AssetKey:
    """The asset of a dataset's files. Its name may hold what parts those of tables."""
    import dagster as dg

    return dg.AssetKey(["landing", dataset])


def name_of(key: dg.AssetKey) -> str:
    """What people call an asset: `layer.table`, or `schema.mart`."""
    return ".".join(key.path)


def warehouse_key(table: str) -> dg.AssetKey:
    """The asset of a lake table in the warehouse, where that is another place than the lake."""
    return asset_key(f"warehouse.{table}")


# -- tags of runs ----------------------------------------------------------------------------------

FORCE_TAG = "lakehouse/force"
"""A run with this tag set to `true` does its work even where nothing changed."""
AGAIN_TAG = "lakehouse/extract_again"
"""A run with this tag set to `true` extracts what has landed already anew."""
FULL_TAG = "lakehouse/extract_full"
"""A run with this tag set to `true` extracts all rows of a source into its first partition."""
LANE_TAG = "lakehouse/lane"
"""Runs of one lane go one after another: a day may refer to keys of the day before."""
DATASETS_TAG = "lakehouse/datasets"
"""The datasets whose new files a run was asked for."""
GAP_TAG = "lakehouse/gap_fill"
"""The run fills a gap."""
REST_TAG = "lakehouse/rest_of"
"""The run whose bad partitions stopped these assets."""
WINDOWS_TAG = "lakehouse/windows_of"
"""The run that completed or changed the windows which these partitions are made of."""
ARTIFACT_TAG = "lakehouse/artifact"
"""The version of what was shipped with which tables run elsewhere, in place of the current one."""
PROCESS_TAG = "lakehouse/process"
"""The process that executes a run by itself; nobody else would notice its death."""
ALERTED_TAG = "lakehouse/alerted_"
"""With the severity: the run has been announced."""

# Dagster's own.
SENSOR_TAG = "dagster/sensor_name"
PARTITION_TAG = "dagster/partition"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"


def range_tags(first: str, last: str) -> dict[str, str]:
    """The tags that make one run cover a range of partitions."""
    return {RANGE_START_TAG: first, RANGE_END_TAG: last}


def run_range(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """The first and the last partition of a run, by its tags; None for a run without."""
    one = tags.get(PARTITION_TAG)
    first, last = tags.get(RANGE_START_TAG, one), tags.get(RANGE_END_TAG, one)
    return (first, last) if first and last else None


# -- metadata of events ----------------------------------------------------------------------------

ANNOUNCED = "announced"
"""Of a failure: its reason in words that may leave the platform in an alert. Never a value of a row:
messages of engines and databases quote them, and go without."""

FOUND = "found"
"""Of an evaluation that failed: where its run stands to that, one of the following."""
NOW, BEFORE, UNEVALUATED = "now", "before", "not evaluated"

# -- resources -------------------------------------------------------------------------------------

LEDGER = "lake_ledger"
"""The resource that is a LedgerReader. Each runner is a resource of its own name."""

STREAMS = "streams"
"""The resource that has every stream which is drained here, by dataset."""
