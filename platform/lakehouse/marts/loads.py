"""Lake tables in Redshift as Dagster assets, between the tables and the marts: loaded, or external.

Belongs here: one asset per table that marts select from, what its materialization says, its check.
Does not belong here: loading or publishing (warehouse/), and marts (assets.py).
"""

# No postponed annotations here: Dagster reads those of an asset's config and resources.
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from lakehouse.failures import failed
from lakehouse.keys import FORCE_TAG, KIND_TAG, LOAD, asset_key, warehouse_key
from lakehouse.marts.specs import POOL
from lakehouse.settings.warehouse import RedshiftWarehouse
from lakehouse.warehouse.load import Loaded, Loader, ReconciliationError
from lakehouse.warehouse.spectrum import Publisher
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
    """An asset per table that brings what the warehouse has of it to the newest version."""
    build = _load if warehouse.lake == "copy" else _external
    return [build(settings, warehouse, contracts[table]) for table in tables]


def _load(
    settings: "Settings", warehouse: RedshiftWarehouse, contract: Contract
) -> dg.AssetsDefinition:
    @dg.asset(  # type: ignore[untyped-decorator] # a dictionary says too little of its overloads
        **_described(warehouse, contract, "loaded by COPY"),
        check_specs=[
            dg.AssetCheckSpec(
                RECONCILED,
                asset=warehouse_key(contract.table),
                description="Rows, sums and hashes are those of the lake's version",
            )
        ],
    )
    def load(context: dg.AssetExecutionContext) -> Iterator[Any]:
        try:
            loader = Loader(warehouse, Lake(settings.zones, settings.storage))
            whole = context.run.tags.get(FORCE_TAG) == "true"
            loaded = loader.load(contract, context.run.run_id, whole=whole)
        except Exception as error:
            final = failed(error, settings.retries, context.retry_number, contract.table)
            if isinstance(final, dg.Failure) and isinstance(error, ReconciliationError):
                yield dg.AssetCheckResult(
                    check_name=RECONCILED, passed=False, description=str(error)
                )
            raise final from error
        yield _result(loaded)

    return load


def _external(
    settings: "Settings", warehouse: RedshiftWarehouse, contract: Contract
) -> dg.AssetsDefinition:
    @dg.asset(**_described(warehouse, contract, "read where it is"))  # type: ignore[untyped-decorator]
    def publish(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        try:
            publisher = Publisher(warehouse, Lake(settings.zones, settings.storage))
            done = publisher.publish(contract)
        except Exception as error:
            attempt = context.retry_number
            raise failed(error, settings.retries, attempt, contract.table) from error
        metadata = {"dagster/row_count": done.rows, "delta_version": done.version}
        return dg.MaterializeResult(metadata=metadata)

    return publish


def _described(warehouse: RedshiftWarehouse, contract: Contract, how: str) -> dict[str, Any]:
    """What an asset of either kind looks like."""
    columns = [dg.TableColumn(c.name, c.type, c.description) for c in contract.columns]
    return {
        "key": warehouse_key(contract.table),
        "deps": [asset_key(contract.table)],
        "description": f"{contract.description}; {contract.table} in Redshift, {how}",
        "group_name": "warehouse",
        "owners": [f"team:{contract.owner}"],
        "kinds": {"redshift"},
        "tags": {KIND_TAG: LOAD, "domain": contract.domain, "layer": "warehouse"},
        "metadata": {
            "dagster/column_schema": dg.TableSchema(columns),
            "dagster/table_name": f"{warehouse.database}.{contract.table}",
            "dagster/storage_kind": "redshift",
        },
        "pool": POOL,
    }


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
