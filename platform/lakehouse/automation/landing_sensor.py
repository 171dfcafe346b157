"""The sensor on landing: new, changed and late files ask for exactly the partitions they touch.

Belongs here: comparing landing with what was asked for before, and asking for runs. Does not
belong here: what a look sees (landing_looks.py).

A crash between the requests and the cursor is harmless. The cursor is stored after the runs have
been asked for, so the next look finds the same changes and asks again with the same run keys, and
Dagster launches no run twice for one key. The data plane would find nothing changed anyway.

A run that is still queued reads what is there when it begins. So what changes meanwhile in its
partitions waits until then, and is asked for afterwards: runs of one partition never pile up.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from lakehouse.automation.jobs import LAKE_JOBS, downstream, run_tags
from lakehouse.automation.landing_looks import Place, Seen, look, with_pending
from lakehouse.keys import DATASETS_TAG, SENSOR_TAG, range_tags, run_range
from lakehouse.partitions import partitions_def
from lakehouse.settings.model import Settings
from lakehouse.sources.landing import DIGEST_BYTES, Snapshot, snapshot
from lakehouse.sources.notifications import Queue
from lakehouse.sources.registry import extracted
from lakehouse.switches import sensor_status
from spark_jobs import quoting
from spark_jobs.contract.model import Contract, by_dataset
from spark_jobs.window import Scheme, Window, ranges

NAME = "landing_sensor"


@dataclass(frozen=True)
class Arrival:
    """New or changed files: the datasets, for every partition from `first` to `last`."""

    scheme: Scheme
    first: str
    last: str
    changes: Mapping[tuple[str, str], str]
    """(dataset, partition) to the digest of its files."""

    @property
    def datasets(self) -> list[str]:
        return sorted({dataset for dataset, _ in self.changes})

    @property
    def run_key(self) -> str:
        """The same for the same files, whenever and however often they are seen."""
        text = json.dumps(sorted([d, p, v] for (d, p), v in self.changes.items()))
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return f"landing:{self.first}:{self.last}:{digest}"


def encode(known: Snapshot, at: datetime | None = None) -> str:
    """A cursor of what has been asked for: some 7 bytes per partition of a dataset, so 80 kB a
    year. Names compress well, digests do not: they follow as bytes, in the order of the names. At its
    end is when all of landing was listed, if that is not done each time."""
    names = {dataset: sorted(partitions) for dataset, partitions in sorted(known.items())}
    head = zlib.compress(json.dumps(names, separators=(",", ":")).encode(), 9)
    body = b"".join(
        bytes.fromhex(known[d][p]) for d, partitions in names.items() for p in partitions
    )
    text = base64.b64encode(len(head).to_bytes(4, "big") + head + body).decode()
    return f"{text}@{at.isoformat()}" if at else text


def decode(cursor: str | None) -> dict[str, dict[str, str]]:
    if not cursor:
        return {}
    data = base64.b64decode(cursor.partition("@")[0])
    end = 4 + int.from_bytes(data[:4], "big")
    names = json.loads(zlib.decompress(data[4:end]))
    body = iter(data[end:].hex(" ", DIGEST_BYTES).split())
    return {d: {p: next(body) for p in partitions} for d, partitions in names.items()}


def listed_at(cursor: str | None) -> datetime | None:
    at = (cursor or "").partition("@")[2]
    return datetime.fromisoformat(at) if at else None


def arrivals(
    known: Snapshot, present: Snapshot, schemes: Mapping[str, Scheme]
) -> Iterator[Arrival]:
    """What changed, oldest partitions first: one arrival per range of neighbouring partitions in
    which the same datasets changed. `schemes` tells the scheme of each dataset."""
    touched: dict[tuple[Scheme, str], dict[str, str]] = {}
    for dataset, partitions in present.items():
        for partition, digest in partitions.items():
            if known.get(dataset, {}).get(partition) != digest:
                touched.setdefault((schemes[dataset], partition), {})[dataset] = digest
    groups: dict[tuple[Scheme, tuple[str, ...]], list[str]] = {}
    for (scheme, partition), changes in touched.items():
        groups.setdefault((scheme, tuple(sorted(changes))), []).append(partition)
    found = []
    for (scheme, datasets), keys in groups.items():
        for first, last in ranges(keys):
            inside = [p for p in keys if first <= p <= last]
            changed = {(d, p): touched[scheme, p][d] for p in inside for d in datasets}
            found.append(Arrival(scheme, first, last, changed))
    yield from sorted(found, key=lambda a: (a.first, a.scheme))


def advance(known: Snapshot, present: Snapshot, asked: Iterable[Arrival]) -> Snapshot:
    """What is known after these arrivals have been asked for. Partitions that have gone from
    landing are forgotten."""
    after = {
        dataset: {p: v for p, v in known.get(dataset, {}).items() if p in partitions}
        for dataset, partitions in present.items()
    }
    for arrival in asked:
        for (dataset, partition), digest in arrival.changes.items():
            after[dataset][partition] = digest
    return after


def delivered_to(settings: Settings, contracts: Mapping[str, Contract]) -> dict[str, list[str]]:
    """The datasets that others deliver, each with the tables that read it."""
    return {
        dataset: [c.table for c in readers]
        for dataset, readers in by_dataset(contracts).items()
        if readers[0].partitioning and not settings.sources.extracts(readers[0].delivered)
    }


def build_landing_sensor(
    settings: Settings,
    contracts: Mapping[str, Contract],
    jobs: Mapping[str, dg.UnresolvedAssetJobDefinition],
    mart_deps: Mapping[dg.AssetKey, Iterable[dg.AssetKey]],
) -> dg.SensorDefinition:
    """The sensor over all datasets that others deliver. What is extracted here asks for its tables
    by itself."""
    readers = delivered_to(settings, contracts)
    others = by_dataset(contracts).keys() - readers.keys()
    queue = Queue(settings.landing.queue) if settings.landing.queue else None
    pulled = {d: [c.table for c in cs] for d, cs in extracted(settings, contracts).items()}
    served = readers | pulled
    schemes = {d: s for d, tables in served.items() if (s := contracts[tables[0]].partitioning)}

    @dg.sensor(
        name=NAME,
        jobs=[jobs[name] for name in LAKE_JOBS.values() if name in jobs],
        minimum_interval_seconds=settings.landing.interval_seconds,
        default_status=sensor_status(settings),
        description="Runs exactly the partitions that new, changed or late landing files touch",
    )
    def landing(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        known, now = decode(context.cursor), datetime.now(UTC)
        seen = look(settings, queue, readers, others, known, listed_at(context.cursor), now)
        present, strange = _existing(seen.listed, schemes, settings, now)
        _tell(context.log, seen, strange)
        queued = list(_queued(context.instance))
        found = list(arrivals(known, present, schemes))
        free = [a for a in found if not any(_waits_for(a, run) for run in queued)]
        asked = free[: settings.landing.requests_per_look]
        # Looked for only where it is asked: what is extracted is not served here.
        landed = snapshot(settings.storage, settings.zones["landing"], pulled if asked else ())
        requests = [
            dg.RunRequest(
                run_key=arrival.run_key,
                job_name=LAKE_JOBS[arrival.scheme],
                asset_selection=downstream(
                    contracts,
                    [t for d in arrival.datasets for t in readers[d]],
                    mart_deps,
                    set(_absent(arrival, present | landed, served, schemes)),
                ),
                tags={
                    **run_tags(arrival.scheme),
                    **range_tags(arrival.first, arrival.last),
                    DATASETS_TAG: ",".join(arrival.datasets),
                },
            )
            for arrival in asked
        ]
        later = sorted({dataset for arrival in found for dataset in arrival.datasets})
        waiting = f"waits for runs that are queued: {quoting.names(later)}"
        skip = None if requests else waiting if later else "nothing new in landing"
        after = advance(known, present, asked)
        if queue is not None:
            later_on = {place for a in found if a not in asked for place in a.changes}
            after = with_pending(after, later_on | set(_current(seen.listed, schemes, now)))
            queue.delete(seen.done(known, strange))
        cursor = encode(after, seen.at)
        return dg.SensorResult(run_requests=requests, skip_reason=skip, cursor=cursor)

    return landing


def _queued(instance: dg.DagsterInstance) -> Iterator[dg.DagsterRun]:
    """The runs that this sensor has asked for and that have not begun."""
    not_begun = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
    yield from instance.get_runs(dg.RunsFilter(statuses=not_begun, tags={SENSOR_TAG: NAME}))


def _waits_for(arrival: Arrival, run: dg.DagsterRun) -> bool:
    """Whether a queued run is going to read some of these files."""
    covered, datasets = run_range(run.tags), run.tags[DATASETS_TAG].split(",")
    return (
        run.job_name == LAKE_JOBS[arrival.scheme]
        and covered is not None
        and covered[0] <= arrival.last
        and arrival.first <= covered[1]
        and not set(datasets).isdisjoint(arrival.datasets)
    )


def _absent(
    arrival: Arrival,
    present: Snapshot,
    served: Mapping[str, list[str]],
    schemes: Mapping[str, Scheme],
) -> Iterator[str]:
    """The tables whose datasets have not come yet, or have not been extracted, to some of the partitions
    in which others of the same scheme have arrived."""
    arrived = {p for _, p in arrival.changes}
    for dataset, tables in served.items():
        if schemes[dataset] == arrival.scheme and not arrived <= present.get(dataset, {}).keys():
            yield from tables


def _existing(
    listed: Snapshot, schemes: Mapping[str, Scheme], settings: Settings, now: datetime
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The listed partitions that exist, and the names of those that never will. One whose window is not
    over is in neither: it is looked at again when it is."""
    existing: dict[str, dict[str, str]] = {}
    strange = []
    for dataset, partitions in listed.items():
        scheme = schemes[dataset]
        keys = set(partitions_def(scheme, settings.partitions).get_partition_keys(now))
        existing[dataset] = {p: v for p, v in partitions.items() if p in keys}
        strange += [
            f"{dataset}/{p}"
            for p in partitions
            if p not in keys and not _is_current(p, scheme, now)
        ]
    return existing, strange


def _current(listed: Snapshot, schemes: Mapping[str, Scheme], now: datetime) -> Iterator[Place]:
    """What has arrived in windows that are not over."""
    for dataset, partitions in listed.items():
        yield from ((dataset, p) for p in partitions if _is_current(p, schemes[dataset], now))


def _tell(log: logging.Logger, seen: Seen, strange: list[str]) -> None:
    if strange:
        log.warning(f"no such partition, left alone: {quoting.names(strange)}")
    if seen.unknown:
        log.warning(f"of no dataset, left alone: {quoting.names(seen.unknown)}")
    if seen.unread:
        log.error(
            f"no events of S3, left in the queue: {quoting.names(seen.unread)}. Let the queue move"
            " such messages to a dead-letter queue (its redrive policy)."
        )


def _is_current(partition: str, scheme: Scheme, now: datetime) -> bool:
    """Whether it is the window of now: Dagster has it as a partition when it has ended."""
    try:
        window = Window.of(partition)
    except ValueError:
        return False
    return window.scheme == scheme and window.start <= now < window.end
