"""The sensor on streams: it has one drained when its records wait for too long, or are too many.

Belongs here: looking how far landing is behind, and asking for drains. Does not belong here: draining
(assets/streams.py), or the tables of what lands (landing_sensor.py).

There is no cursor: how far a stream has landed is in the store of positions. While a drain of a stream
is queued or running no other is asked for, and one that was asked for before a crash is one of these.
"""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from lakehouse.automation.jobs import LAKE_JOBS, run_tags
from lakehouse.keys import DATASETS_TAG, STREAMS, landing_key
from lakehouse.partitions import partitions_def
from lakehouse.settings.model import Settings
from lakehouse.sources.stream_datasets import Streams
from lakehouse.switches import sensor_status
from spark_jobs.causes import is_transient
from spark_jobs.contract.source import Stream
from spark_jobs.errors import InputError

NAME = "stream_sensor"
_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def build_stream_sensor(
    settings: Settings, streams: Streams, jobs: Mapping[str, dg.UnresolvedAssetJobDefinition]
) -> list[dg.SensorDefinition]:
    """The sensor, if any stream is drained here."""
    if not streams.readers:
        return []
    rules = settings.sources.streams

    @dg.sensor(
        name=NAME,
        jobs=[jobs[name] for name in LAKE_JOBS.values() if name in jobs],
        minimum_interval_seconds=settings.landing.interval_seconds,
        default_status=sensor_status(settings),
        required_resource_keys={STREAMS},
        description="Drains streams whose records have waited for long enough, or are enough",
    )
    def stream(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        requests: list[dg.RunRequest] = []
        said: list[str] = []
        errors: list[str] = []
        for dataset, readers in streams.readers.items():
            if _under_way(context.instance, dataset):
                said.append(f"{dataset}: a drain is under way")
                continue
            try:
                lags = getattr(context.resources, STREAMS)[dataset].lag()
            except Exception as error:
                # Other streams are drained all the same.
                (said if is_transient(error) else errors).append(f"{dataset}: {error}")
                continue
            oldest = max((lag.seconds for lag in lags), default=0.0)
            waiting = sum(lag.records or 0 for lag in lags)
            if oldest < rules.drain_after_seconds and waiting < rules.drain_after_records:
                said.append(f"{dataset}: the oldest record waits for {oldest:.0f} s")
                continue
            scheme = readers[0].partitioning
            assert scheme is not None and isinstance(readers[0].delivered, Stream)
            newest = partitions_def(scheme, settings.partitions).get_last_partition_key()
            requests.append(
                dg.RunRequest(
                    job_name=LAKE_JOBS[scheme],
                    asset_selection=[landing_key(dataset)],
                    partition_key=newest,
                    tags={**run_tags(scheme), DATASETS_TAG: dataset},
                )
            )
        for text in errors:
            context.log.error(text)
        if errors and not requests:
            raise InputError("; ".join(errors))
        skip = None if requests else "; ".join(said)
        return dg.SensorResult(run_requests=requests, skip_reason=skip)

    return [stream]


def _under_way(instance: dg.DagsterInstance, dataset: str) -> bool:
    tags: Mapping[str, str] = {DATASETS_TAG: dataset}
    asked = dg.RunsFilter(statuses=_UNDER_WAY, tags=tags)
    runs = instance.get_runs(asked)
    return any(landing_key(dataset) in (run.asset_selection or ()) for run in runs)
