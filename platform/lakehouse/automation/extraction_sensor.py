"""The sensor on extractions: a partition of a dataset that has landed asks for its tables, and on.

Belongs here: reading materializations of datasets from Dagster's event log, and asking for runs. Does
not belong here: extracting (assets/landing.py), or files that others deliver (landing_sensor.py).

Runs of a whole job have the tables in them, and are left alone. The cursor is stored after the requests,
so that a crash between the two asks again with the same run keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import dagster as dg

from lakehouse.automation.jobs import LAKE_JOBS, downstream, run_tags
from lakehouse.keys import DATASETS_TAG, asset_key, landing_key, range_tags
from lakehouse.settings.model import Settings
from lakehouse.sources.registry import extracted
from lakehouse.switches import sensor_status
from spark_jobs.contract.model import Contract
from spark_jobs.window import Window

NAME = "extraction_sensor"
_EVENTS_PER_LOOK = 200


def build_extraction_sensor(
    settings: Settings,
    contracts: Mapping[str, Contract],
    jobs: Mapping[str, dg.UnresolvedAssetJobDefinition],
    mart_deps: Mapping[dg.AssetKey, Iterable[dg.AssetKey]],
) -> list[dg.SensorDefinition]:
    """The sensor, if anything is extracted here."""
    readers = {d: [c.table for c in cs] for d, cs in extracted(settings, contracts).items()}
    if not readers:
        return []

    @dg.sensor(
        name=NAME,
        jobs=[jobs[name] for name in LAKE_JOBS.values() if name in jobs],
        minimum_interval_seconds=settings.landing.interval_seconds,
        default_status=sensor_status(settings),
        description="Runs the tables of partitions that were extracted by themselves",
    )
    def extraction(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        known: dict[str, int] = json.loads(context.cursor) if context.cursor else {}
        asked: dict[tuple[str, str], dict[str, int]] = {}
        for dataset, tables in readers.items():
            for record in _landed(context.instance, dataset, known.get(dataset, 0)):
                known[dataset] = record.storage_id
                run = context.instance.get_run_by_id(record.event_log_entry.run_id)
                if record.partition_key and not _has(run, tables):
                    asked.setdefault((record.partition_key, record.run_id), {})[dataset] = (
                        record.storage_id
                    )
        requests = [
            dg.RunRequest(
                run_key=f"extracted:{partition}:{max(of.values())}",
                job_name=LAKE_JOBS[Window.of(partition).scheme],
                asset_selection=downstream(
                    contracts, [t for d in of for t in readers[d]], mart_deps
                ),
                tags={
                    **run_tags(Window.of(partition).scheme),
                    **range_tags(partition, partition),
                    DATASETS_TAG: ",".join(sorted(of)),
                },
            )
            for (partition, _), of in sorted(asked.items())
        ]
        skip = None if requests else "nothing was extracted by itself"
        return dg.SensorResult(
            run_requests=requests, skip_reason=skip, cursor=json.dumps(known, sort_keys=True)
        )

    return [extraction]


def _landed(instance: dg.DagsterInstance, dataset: str, after: int) -> Iterable[dg.EventLogRecord]:
    """Materializations of a dataset since an event, oldest first."""
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=landing_key(dataset), after_storage_id=after),
        limit=_EVENTS_PER_LOOK,
        ascending=True,
    )
    return found.records


def _has(run: dg.DagsterRun | None, tables: Iterable[str]) -> bool:
    """Whether a run has the tables in it anyway."""
    if run is None or run.asset_selection is None:
        return run is not None and run.job_name in LAKE_JOBS.values()
    return {asset_key(t) for t in tables} <= set(run.asset_selection)
