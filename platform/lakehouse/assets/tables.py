"""One asset per contract: everything that Dagster knows of a table is derived from its contract.

Belongs here: the factory of each layer, and the step that an asset is. Does not belong here: what
happens to rows (the data plane), and how results are shown (reporting.py, checks.py).
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from os.path import relpath
from typing import Any

import dagster as dg

from lakehouse.assets.checks import (
    COST_WITHIN_BUDGET,
    check_specs,
    cost_evaluation,
    evaluation,
    lookups_evaluation,
    states,
)
from lakehouse.assets.reporting import (
    column_lineage,
    in_one_line,
    partition_metadata,
    table_metadata,
)
from lakehouse.engines.runner import budget_of, engine_of, runner_of
from lakehouse.failures import failed as failure_of
from lakehouse.governance.masking import Masking
from lakehouse.keys import (
    ANNOUNCED,
    ARTIFACT_TAG,
    FORCE_TAG,
    KIND_TAG,
    LEDGER,
    TABLE,
    asset_key,
    landing_key,
)
from lakehouse.partitions import partitions_def, span
from lakehouse.settings.model import Settings
from spark_jobs.contract.checks import LOOKUPS_CURRENT
from spark_jobs.contract.model import Contract
from spark_jobs.contract.versions import transform_version
from spark_jobs.errors import LakehouseError
from spark_jobs.lake.row import LedgerRow
from spark_jobs.report import PartitionReport, RunSpec, TableReport

_LISTED = 10
# An asset has three kinds at most: where PySpark is a service's, that service is the third.
_SERVICES = ("emr", "databricks")


def build_assets(
    settings: Settings, contracts: Mapping[str, Contract]
) -> list[dg.AssetsDefinition]:
    """One asset per contract, in dependency order."""
    return [_asset(contract, contracts, settings) for contract in contracts.values()]


def _asset(
    contract: Contract, contracts: Mapping[str, Contract], settings: Settings
) -> dg.AssetsDefinition:
    masking = Masking.of(contract, contracts)
    runner, budget = runner_of(contract, settings), budget_of(contract, settings)

    @dg.multi_asset(
        name=f"{contract.layer}__{contract.name}",
        specs=[asset_spec(contract, contracts, settings)],
        check_specs=check_specs(contract, budget),
        backfill_policy=dg.BackfillPolicy.single_run() if contract.partitioning else None,
        pool=f"{contract.layer}__{contract.name}",  # one writer per table
        required_resource_keys={runner, LEDGER},
    )
    def table(context: dg.AssetExecutionContext) -> Iterator[Any]:
        partitions = context.partition_keys if contract.partitioning else ()
        forced = context.run.tags.get(FORCE_TAG) == "true"
        spec = run_spec(contract, settings, partitions, context.run.run_id, force=forced)
        try:
            _refuse_artifact(context, runner)
            report = getattr(context.resources, runner).run(context, spec)
            history = getattr(context.resources, LEDGER).history(contract.table)
        except Exception as error:
            attempt = context.retry_number
            raise failure_of(error, settings.retries, attempt, contract.table) from error
        yield from _events(context, contract, report, history, masking, budget)

    return table


def run_spec(
    contract: Contract,
    settings: Settings,
    partitions: Iterable[str],
    run_id: str,
    *,
    force: bool = False,
) -> RunSpec:
    """What a run of a table is told."""
    return RunSpec(
        table=contract.table,
        partitions=list(partitions),
        contracts=str(settings.contracts),
        zones=settings.zones,
        storage_options=settings.lake.storage_options,
        engine=engine_of(contract, settings),
        cores=settings.engine.cores,
        memory=settings.engine.memory,
        run_id=run_id,
        force=force,
    )


def _refuse_artifact(context: dg.AssetExecutionContext, runner: str) -> None:
    """Raises LakehouseError if a run asks for an artifact, and the table runs with the code that is
    here."""
    asked_for = context.run.tags.get(ARTIFACT_TAG)
    if asked_for is not None and runner in ("embedded", "process"):
        raise LakehouseError(
            f"the run asks for the artifact {asked_for}, and this table runs with the code that is here"
            f" (runner {runner}). Leave the artifact out, or check the code of that version out."
        )


def asset_spec(
    contract: Contract, contracts: Mapping[str, Contract], settings: Settings
) -> dg.AssetSpec:
    """The asset of a contract, without the step that makes it."""
    runner = runner_of(contract, settings)
    metadata: dict[str, Any] = {
        "dagster/column_schema": column_schema(contract),
        "dagster/table_name": contract.table,
        "dagster/uri": f"{settings.zones[contract.layer]}/{contract.name}",
        "contract": f"{relpath(contract.path, settings.project)} {contract.version}",
        "publish_mode": contract.publish.mode,
        "key": ", ".join(contract.key) or "-",
    }
    lineage = column_lineage(contract)
    if lineage is not None:
        metadata["dagster/column_lineage"] = lineage
    personal = any(c.pii for c in contract.columns)
    return dg.AssetSpec(
        key=asset_key(contract.table),
        deps=(
            [landing_key(contract.source.dataset)]
            if contract.source
            else [_dep(contract, contracts[table]) for table in contract.upstream]
        ),
        description=contract.description,
        group_name=contract.layer,
        kinds={contract.layer, "deltalake", runner if runner in _SERVICES else "pyspark"},
        owners=[contract.owner if "@" in contract.owner else f"team:{contract.owner}"],
        tags={
            KIND_TAG: TABLE,
            "domain": contract.domain,
            "layer": contract.layer,
            "personal-data": "true" if personal else "false",
        },
        # For people, and the hash for everything that it does not tell.
        code_version=f"{contract.version}-{transform_version(contract)}",
        partitions_def=(
            partitions_def(contract.partitioning, settings.partitions)
            if contract.partitioning
            else None
        ),
        freshness_policy=freshness_policy(contract),
        metadata=metadata,
    )


def _dep(contract: Contract, upstream: Contract) -> dg.AssetDep:
    """Where one has days and the other hours, a window maps to the windows inside it."""
    schemes = {contract.partitioning, upstream.partitioning}
    mapping = dg.TimeWindowPartitionMapping() if schemes == {"daily", "hourly"} else None
    return dg.AssetDep(asset_key(upstream.table), partition_mapping=mapping)


def column_schema(contract: Contract) -> dg.TableSchema:
    """The columns with types, constraints and classification."""
    rules: dict[str, list[str]] = {}
    for rule in contract.rules:
        if rule.column and rule.kind not in ("not_null", "type"):
            rules.setdefault(rule.column, []).append(f"{rule.name} ({rule.severity})")
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.type,
                description=column.description,
                constraints=dg.TableColumnConstraints(
                    nullable=not column.required,
                    unique=contract.key == (column.name,),
                    other=rules.get(column.name, []),
                ),
                tags={"classification": column.classification},
            )
            for column in contract.columns
        ]
    )


_UNITS = {"d": 24.0, "h": 1.0, "m": 1 / 60, "": 1.0}


def freshness_policy(contract: Contract) -> dg.FreshnessPolicy | None:
    """Overdue when the SLA's frequency and latency have passed since the last materialization.

    It looks at that one event only: an old backfill turns it green. The age of the data itself is
    judged per partition by the check `freshness`.
    """
    if "frequency" not in contract.sla:
        return None
    every, late = (
        timedelta(hours=value * _UNITS[unit])
        for value, unit in (contract.sla["frequency"], contract.sla.get("latency", (0.0, "h")))
    )
    return dg.FreshnessPolicy.time_window(fail_window=every + late, warn_window=every + late / 2)


def _events(
    context: dg.AssetExecutionContext,
    contract: Contract,
    report: TableReport,
    history: list[LedgerRow],
    masking: Masking,
    budget: float | None,
) -> Iterator[Any]:
    """Materializations, then check results; then the failure, if a partition failed."""
    key = asset_key(contract.table)
    context.log.info(in_one_line(report))
    failed = report.failed
    good = [p for p in report.partitions if p.status != "failed"]
    metadata = {p.partition: partition_metadata(report, p) for p in good}
    if good:
        newest = good[-1].partition
        metadata[newest] = table_metadata(contract, report, history, masking) | metadata[newest]
    if not failed:
        if contract.partitioning is None:
            yield dg.MaterializeResult(asset_key=key, metadata=metadata[good[-1].partition])
        elif _known(context, report):
            yield from _nothing_new(context, report)
        else:
            for partition, entries in metadata.items():
                context.add_asset_metadata(entries, asset_key=key, partition_key=partition)
            yield dg.MaterializeResult(asset_key=key)
    else:
        # An output would mark every partition of the range materialized.
        for partition, entries in metadata.items():
            yield dg.AssetMaterialization(asset_key=key, partition=partition, metadata=entries)
    outputs = {
        spec.name: output for output, spec in context.assets_def.check_specs_by_output_name.items()
    }
    for state in states(contract, report, history):
        if not failed:
            yield dg.Output(None, output_name=outputs[state.name])
        yield evaluation(contract, state, masking, report)
    if contract.lookups:
        if not failed:
            yield dg.Output(None, output_name=outputs[LOOKUPS_CURRENT])
        yield lookups_evaluation(contract, report.stale)
    if budget is not None:
        if not failed:
            yield dg.Output(None, output_name=outputs[COST_WITHIN_BUDGET])
        yield cost_evaluation(contract, report, budget)
    if failed:
        text = failure_text(contract.table, failed, len(report.partitions))
        # An alert has the reasons from the failed checks, where they are masked.
        announced = text.partition("\n")[0]
        raise dg.Failure(description=text, metadata={ANNOUNCED: announced}, allow_retries=False)


def _known(context: dg.AssetExecutionContext, report: TableReport) -> bool:
    """Whether nothing changed and Dagster has every partition as materialized. It may not, where
    another instance ran the table."""
    if any(p.status != "unchanged" for p in report.partitions):
        return False
    said = context.instance.get_materialized_partitions(asset_key(report.table))
    return all(p.partition in said for p in report.partitions)


def _nothing_new(context: dg.AssetExecutionContext, report: TableReport) -> Iterator[Any]:
    """One observation for all partitions. Steps downstream wait for the output, and Dagster makes a
    materialization per partition of it unless it is marked as that of an observed asset is."""
    from lakehouse.dagster_private import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

    key = asset_key(report.table)
    partitions = span([p.partition for p in report.partitions])
    yield dg.AssetObservation(key, metadata={"status": "unchanged", "partitions": partitions})
    (output,) = (name for name, k in context.assets_def.keys_by_output_name.items() if k == key)
    yield dg.Output(
        None, output_name=output, metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True}
    )


def failure_text(table: str, failed: list[PartitionReport], of: int) -> str:
    """Names the partitions that failed, why, and what became of the others."""
    others = of - len(failed)
    head = f"{table}: {len(failed)} of {of} partitions failed and published nothing."
    if others:
        head += f" The other {others} are published."
    lines = [f"{p.partition}: {p.error}" for p in failed[:_LISTED]]
    if len(failed) > _LISTED:
        lines.append(f"… and {len(failed) - _LISTED} more (lakehouse gaps lists them)")
    return "\n".join([head, *lines])
