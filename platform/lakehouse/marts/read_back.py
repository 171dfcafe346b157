"""Relations of Redshift that are read back into landing, as Dagster assets behind their marts.

Belongs here: one asset per dataset of `warehouse.read_back`. Does not belong here: the delivery
(warehouse/unload.py).
"""

# No postponed annotations here: Dagster reads those of an asset's config and resources.
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from lakehouse.failures import failed
from lakehouse.keys import KIND_TAG, LOAD, asset_key
from lakehouse.marts.specs import POOL
from lakehouse.settings.warehouse import RedshiftWarehouse
from lakehouse.warehouse.unload import deliver

if TYPE_CHECKING:
    from lakehouse.settings.model import Settings


def build_read_back(
    settings: "Settings", warehouse: RedshiftWarehouse
) -> list[dg.AssetsDefinition]:
    """An asset per dataset that delivers its relation, once a day."""
    return [_read_back(settings, warehouse, *of) for of in warehouse.read_back.items()]


def _read_back(
    settings: "Settings", warehouse: RedshiftWarehouse, dataset: str, relation: str
) -> dg.AssetsDefinition:
    @dg.asset(
        key=asset_key(f"landing.{dataset}"),
        deps=[asset_key(relation)],
        description=f"{relation} of Redshift, unloaded into landing/{dataset}, once a day",
        group_name="warehouse",
        kinds={"redshift", "parquet"},
        tags={KIND_TAG: LOAD, "layer": "landing"},
        pool=POOL,
    )
    def read_back(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        landing, today = settings.zones["landing"], datetime.now(UTC).date()
        try:
            done = deliver(warehouse, settings.storage, landing, dataset, relation, today)
        except Exception as error:
            raise failed(error, settings.retries, context.retry_number, relation) from error
        metadata: dict[str, Any] = {"folder": done.folder, "files": list(done.files)}
        metadata["status"] = "unchanged" if done.rows is None else "delivered"
        if done.rows is not None:
            metadata["dagster/row_count"] = done.rows
        return dg.MaterializeResult(metadata=metadata)

    return read_back
