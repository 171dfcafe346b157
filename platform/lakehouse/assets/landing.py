"""One asset per dataset of landing, upstream of the tables that read it.

Belongs here: what Dagster knows of a dataset, and the step that extracts it. Does not belong here: how
(sources/), or the tables (tables.py).
"""

# No postponed annotations here: Dagster reads those of an asset's config and resources.
from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from lakehouse.failures import failed
from lakehouse.keys import AGAIN_TAG, FULL_TAG, KIND_TAG, LANDING, asset_key, landing_key, name_of
from lakehouse.partitions import partitions_def
from lakehouse.settings.model import Settings
from lakehouse.sources.cursors import cursors_of
from lakehouse.sources.extract import SINCE, UNTIL, Extracted, extract
from lakehouse.sources.registry import dataset_of, extracted
from spark_jobs.contract.model import Contract, by_dataset
from spark_jobs.contract.source import Redshift, Source
from spark_jobs.lake.manifest import Manifest


def delivered_specs(
    settings: Settings, contracts: Mapping[str, Contract], made: Container[dg.AssetKey]
) -> list[dg.AssetSpec]:
    """The datasets that nothing here makes: others deliver them. `made` are the assets that are."""
    specs = [dataset_spec(settings, readers) for readers in by_dataset(contracts).values()]
    return [spec for spec in specs if spec.key not in made]


def build_extractions(
    settings: Settings, contracts: Mapping[str, Contract], marts: Container[dg.AssetKey] = ()
) -> list[dg.AssetsDefinition]:
    """The datasets whose kind of source has a connection: each is extracted when it is materialized,
    and one that is a mart in the warehouse after that."""
    return [
        _extraction(settings, readers, _mart(settings, readers[0].delivered, marts))
        for readers in extracted(settings, contracts).values()
    ]


def _mart(settings: Settings, source: Source, marts: Container[dg.AssetKey]) -> list[dg.AssetKey]:
    """The mart of this lake that a dataset is read back from, if it is."""
    there, warehouse = settings.sources.redshift, settings.warehouse
    if not isinstance(source, Redshift) or there is None or warehouse.target != "redshift":
        return []
    same = (there.host, there.database) == (warehouse.host, warehouse.database)
    return [asset_key(source.table)] if same and asset_key(source.table) in marts else []


def dataset_spec(settings: Settings, readers: Sequence[Contract]) -> dg.AssetSpec:
    """The asset of a dataset, partitioned as the tables that read it."""
    source, scheme = readers[0].delivered, readers[0].partitioning
    return dg.AssetSpec(
        key=landing_key(source.dataset),
        description=f"{_origin(settings, source)}, as files in landing/{source.dataset}",
        group_name="landing",
        kinds={source.format, source.system},
        tags={KIND_TAG: LANDING, "layer": "landing", "domain": readers[0].domain},
        partitions_def=partitions_def(scheme, settings.partitions) if scheme else None,
        metadata={"dagster/uri": f"{settings.zones['landing']}/{source.dataset}"},
    )


def _origin(settings: Settings, source: Source) -> str:
    """Where a dataset comes from, in the words of its contract."""
    given = source.model_dump(exclude_unset=True, exclude=set(Source.model_fields))
    told = ", ".join(f"{name} {value}" for name, value in given.items() if isinstance(value, str))
    by = "Delivered by" if settings.sources.connection(source.kind) is None else "Extracted from"
    return f"{by} {source.system}{f' ({told})' if told else ''}"


def _extraction(
    settings: Settings, readers: Sequence[Contract], after: Sequence[dg.AssetKey]
) -> dg.AssetsDefinition:
    spec = dataset_spec(settings, readers).replace_attributes(deps=after)
    name = f"landing__{readers[0].delivered.dataset}"

    @dg.multi_asset(
        name=name,
        specs=[spec],
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=name,  # one extraction of a dataset at a time
    )
    def landing(context: dg.AssetExecutionContext) -> Iterator[Any]:
        tags = context.run.tags
        done: dict[str, dict[str, Any]] = {}
        try:
            dataset, cursors = dataset_of(settings, readers), cursors_of(settings)
            # Oldest first: each goes on from the one before.
            for partition in context.partition_keys:
                if not dataset.declared.delivers_on(partition):
                    done[partition] = {"status": "nothing is due on this day"}
                    continue
                found = extract(
                    dataset,
                    partition,
                    cursors,
                    datetime.now(UTC),
                    again=tags.get(AGAIN_TAG) == "true",
                    full=tags.get(FULL_TAG) == "true" and not done,
                )
                context.log.info(in_one_line(dataset.name, found))
                done[partition] = _metadata(found)
        except Exception as error:
            final = failed(error, settings.retries, context.retry_number, name_of(spec.key))
            if isinstance(final, dg.Failure):
                # An output would mark every partition of the range materialized.
                for partition, metadata in done.items():
                    yield dg.AssetMaterialization(spec.key, partition=partition, metadata=metadata)
            raise final from error
        for partition, metadata in done.items():
            context.add_asset_metadata(metadata, asset_key=spec.key, partition_key=partition)
        yield dg.MaterializeResult(asset_key=spec.key)

    return landing


def in_one_line(dataset: str, found: Extracted) -> str:
    """What was extracted, for people."""
    if not found.landed:
        return f"landing.{dataset} {found.partition}: is there, {found.manifest.rows:,} rows"
    known = f", {found.known:,} of them known" if found.known else ""
    return (
        f"landing.{dataset} {found.partition}: {found.rows + found.known:,} rows{known},"
        f" {found.bytes:,} bytes, {found.meter.requests} requests, {found.seconds:.1f} s"
    )


def _metadata(found: Extracted) -> dict[str, Any]:
    positions = found.manifest.positions or {}
    out: dict[str, Any] = {
        "status": "landed" if found.landed else "unchanged",
        "dagster/row_count": found.manifest.rows,
        "since": positions.get(SINCE) or "the beginning",
        "until": positions.get(UNTIL, ""),
        "files": _listed(found.manifest),
    }
    if found.landed:
        out |= {
            "rows": found.rows,
            "rows_known": found.known,
            "bytes": found.bytes,
            "seconds": round(found.seconds, 3),
            "rows_per_second": round(found.rows / max(found.seconds, 0.001)),
            "requests": found.meter.requests,
        }
    if found.meter.cost_usd is not None:
        out["cost_usd"] = found.meter.cost_usd
    return out


def _listed(manifest: Manifest) -> dg.TableMetadataValue:
    """The files that count; their names hold the beginning of their hash."""
    columns = {"file": "string", "rows": "int", "bytes": "int"}
    return dg.MetadataValue.table(
        [
            dg.TableRecord({"file": f.name, "rows": f.rows, "bytes": f.bytes})
            for f in manifest.files
        ],
        dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns.items()]),
    )
