"""One asset per stream that is drained here: to materialize it is to land all that has arrived.

Belongs here: the step, and what is shown of it. Does not belong here: draining (sources/streams), or
asking for the tables of what landed, which the sensor on landing does.
"""

# No postponed annotations here: Dagster reads those of an asset's config and resources.
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from lakehouse.assets.landing import dataset_spec
from lakehouse.failures import failed
from lakehouse.keys import STREAMS, name_of
from lakehouse.settings.model import Settings
from lakehouse.sources.stream_datasets import Streams
from lakehouse.sources.streams.drain import Drained
from spark_jobs.contract.model import Contract
from spark_jobs.contract.source import Stream
from spark_jobs.window import named

LAG = "lag"


def build_drains(settings: Settings, streams: Streams) -> list[dg.AssetsDefinition]:
    """The streams whose kind has a connection."""
    return [_drain(settings, readers) for readers in streams.readers.values()]


def _drain(settings: Settings, readers: Sequence[Contract]) -> dg.AssetsDefinition:
    spec, source = dataset_spec(settings, readers), readers[0].delivered
    assert isinstance(source, Stream)
    name, limit = f"landing__{source.dataset}", source.max_lag_seconds

    @dg.multi_asset(
        name=name,
        specs=[spec],
        check_specs=[
            dg.AssetCheckSpec(
                LAG, asset=spec.key, description=f"No record waited for more than {limit:,} seconds"
            )
        ],
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=name,  # one drain of a stream at a time
        required_resource_keys={STREAMS},
    )
    def landing(context: dg.AssetExecutionContext) -> Iterator[Any]:
        try:
            done: Drained = getattr(context.resources, STREAMS)[source.dataset].drain()
        except Exception as error:
            attempt = context.retry_number
            raise failed(error, settings.retries, attempt, name_of(spec.key)) from error
        context.log.info(in_one_line(source.dataset, done))
        asked = set(context.partition_keys)
        told = {**done.by_partition, **dict.fromkeys(done.silent, 0)}
        for partition, records in sorted(told.items()):
            if partition not in asked:
                found: dict[str, Any] = {
                    "dagster/row_count": records,
                    "run": "drained by a later partition's run",
                }
                yield dg.AssetMaterialization(spec.key, partition=partition, metadata=found)
        oldest = max(done.oldest.values(), default=0.0)
        yield dg.MaterializeResult(
            asset_key=spec.key,
            metadata=_metadata(done),
            check_results=[
                dg.AssetCheckResult(
                    passed=oldest <= limit,
                    check_name=LAG,
                    metadata={"seconds": oldest, "limit": limit, "by shard": done.oldest},
                )
            ],
        )

    return landing


def in_one_line(dataset: str, done: Drained) -> str:
    """What was drained, for people."""
    dead = f", {done.dead_letters:,} dead letters" if done.dead_letters else ""
    silent = f", nothing in {named(done.silent)}" if done.silent else ""
    return (
        f"landing.{dataset}: {done.records:,} records{dead}, {done.bytes:,} bytes, {done.files} files"
        f"{silent}, oldest {max(done.oldest.values(), default=0.0):.0f} s, {done.seconds:.1f} s"
    )


def _metadata(done: Drained) -> Mapping[str, Any]:
    return {
        "records": done.records,
        "dead_letters": done.dead_letters,
        "bytes": done.bytes,
        "files": done.files,
        "seconds": round(done.seconds, 3),
        "partitions": dict(done.by_partition),
        "partitions without a record": done.silent,
        "seconds that the oldest record waited, by shard": done.oldest,
        "behind the tip at the end, by shard": done.behind,
    }
