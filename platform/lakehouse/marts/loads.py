"""Loads of lake tables into Redshift as Dagster assets, between the tables and the marts.

Belongs here: one asset per table that marts select from, what its materialization says, its check.
Does not belong here: loading (warehouse/), and marts (assets.py).
"""

# No postponed annotations here: Dagster reads those of an asset's config and resources.
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from lakehouse.failures import permanent_failure, retry
from lakehouse.keys import FORCE_TAG, KIND_TAG, LOAD, asset_key, warehouse_key
from lakehouse.marts.specs import POOL
from lakehouse.settings.warehouse import RedshiftWarehouse
from lakehouse.warehouse.load import Loaded, Loader, ReconciliationError
from spark_jobs.causes import is_transient
from spark_jobs.contract.model import Contract
from spark_jobs.lake.storage import Lake

if TYPE_CHECKING:
    from lakehouse.settings.model import Settings

RECONCILED = "reconciled"


def build_loads(
    settings: "Settings",
    warehouse: RedshiftWarehouse,
    contracts: Mapping[str, Contract],
    tables: Iterable[str],
) -> list[dg.AssetsDefinition]:
    """An asset per table that brings the warehouse's copy to the newest version of the lake's."""
    return [_load(settings, warehouse, contracts[table]) for table in tables]


def _load(
    settings: "Settings", warehouse: RedshiftWarehouse, contract: Contract
) -> dg.AssetsDefinition:
    columns = [dg.TableColumn(c.name, c.type, c.description) for c in contract.columns]

    @dg.asset(
        key=warehouse_key(contract.table),
        deps=[asset_key(contract.table)],
        description=f"{contract.description}; {contract.table} as a table of Redshift, loaded by COPY",
        group_name="warehouse",
        owners=[f"team:{contract.owner}"],
        kinds={"redshift"},
        tags={KIND_TAG: LOAD, "domain": contract.domain, "layer": "warehouse"},
        metadata={
            "dagster/column_schema": dg.TableSchema(columns),
            "dagster/table_name": f"{warehouse.database}.{contract.table}",
            "dagster/storage_kind": "redshift",
        },
        check_specs=[
            dg.AssetCheckSpec(
                RECONCILED,
                asset=warehouse_key(contract.table),
                description="Rows, sums and hashes are those of the lake's version",
            )
        ],
        pool=POOL,
    )
    def load(context: dg.AssetExecutionContext) -> Iterator[Any]:
        try:
            loader = Loader(warehouse, Lake(settings.zones, settings.storage))
            whole = context.run.tags.get(FORCE_TAG) == "true"
            loaded = loader.load(contract, context.run.run_id, whole=whole)
        except Exception as error:
            if is_transient(error) and context.retry_number < settings.retries.max:
                raise retry(settings.retries, context.retry_number) from error
            if isinstance(error, ReconciliationError):
                yield dg.AssetCheckResult(
                    check_name=RECONCILED, passed=False, description=str(error)
                )
            raise permanent_failure(error, contract.table) from error
        yield _result(loaded)

    return load


def _result(loaded: Loaded) -> dg.MaterializeResult[Any]:
    done = loaded.record
    metadata: dict[str, Any] = {
        "status": "unchanged" if loaded.unchanged else "loaded",
        "dagster/row_count": done.row_count,
        "delta_version": done.version,
        "load_id": done.load_id,
    }
    if not loaded.unchanged:
        metadata |= {"rows_in": done.came, "rows_out": done.gone, "whole": done.whole}
    if loaded.repaired:
        metadata["repaired"] = loaded.repaired
    return dg.MaterializeResult(
        metadata=metadata,
        check_results=[
            dg.AssetCheckResult(
                check_name=RECONCILED,
                passed=True,
                metadata={n: str(v) for n, v in done.sums.values.items()},
            )
        ],
    )
