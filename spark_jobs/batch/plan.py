"""What a run of a table has to do at all: which partitions, and what is known of each before a row
is read.

Belongs here: the newest state of the table and of what it reads, the fingerprint of each partition,
and what is settled by that alone. Does not belong here: reading rows (staging.py), or what makes a
partition stale although its own input is the same (lookups.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime

from deltalake import DeltaTable

from spark_jobs import window
from spark_jobs.batch import inputs, landing, lookups
from spark_jobs.batch.arrivals import Arrivals
from spark_jobs.contract import compatibility
from spark_jobs.contract.model import Contract
from spark_jobs.contract.versions import transform_version
from spark_jobs.errors import InputError
from spark_jobs.lake import delta, ledger
from spark_jobs.lake.row import LedgerRow, newest_batches
from spark_jobs.lake.storage import Lake, Storage
from spark_jobs.report import Counts, PartitionReport
from spark_jobs.window import WHOLE


@dataclass(frozen=True)
class Plan:
    """The work of one run, and the state that it was found in.

    `started_at` is before anything was looked at. `version` is that of the transform; `known` says
    that the promise which this code makes has been recorded. `existing` is the table, `history` its
    rows of the ledger, `upstream` the tables that it reads, each at one version. `stale` says what
    made partitions stale although their own input and code are the same. `settled` are the
    partitions of which everything is known, `todo` the others; those in `may_be_empty` may have no
    rows.
    """

    partitions: tuple[str, ...]
    started_at: datetime
    version: str
    known: bool
    existing: DeltaTable | None
    history: list[LedgerRow]
    upstream: dict[str, inputs.Upstream]
    arrived: Arrivals
    stale: dict[str, str]
    deliveries: dict[str, landing.Delivery]
    fingerprints: dict[str, str]
    settled: dict[str, PartitionReport]
    todo: tuple[str, ...]
    may_be_empty: frozenset[str]

    @property
    def newest(self) -> dict[str, str]:
        """The newest published batch of each partition."""
        return newest_batches(self.history)


def partitions_of(contract: Contract, wanted: list[str]) -> list[str]:
    """The partitions of a table that are asked for, in order. Raises InputError for one that cannot
    exist."""
    if contract.partitioning is None:
        return [WHOLE]
    if not wanted:
        raise InputError(f"{contract.table}: no partitions given; it is {contract.partitioning}")
    for partition in wanted:
        try:
            valid = window.Window.of(partition).scheme == contract.partitioning
        except ValueError:
            valid = False
        if not valid:
            example = datetime(2026, 10, 5, 13, tzinfo=UTC)
            raise InputError(
                f"{contract.table}: partition {partition!r} does not exist; {contract.partitioning}"
                " partitions look like"
                f" {example.strftime(window.FORMATS[contract.partitioning])}"
            )
    return sorted(set(wanted))


def plan(
    contract: Contract,
    contracts: dict[str, Contract],
    lake: Lake,
    partitions: list[str],
    engine: lookups.HasSession,
    *,
    force: bool,
) -> Plan:
    """What has to be done of some partitions: those whose input, code or looked-up rows changed
    since they last succeeded, or all that can run, by `force`."""
    started_at, version = ledger.now(), transform_version(contract)
    recorded, existing, upstream = _opened(contract, contracts, lake)
    history, of_inputs = _histories(lake, contract.table, recorded, existing)
    # The code that made the newest record made a promise that has been recorded.
    known = bool(history) and history[-1].transform_version == version
    if not known:
        compatibility.ensure_compatible(compatibility.published(lake).get(contract.table), contract)
    stale = lookups.stale(contract, upstream, lake, history, engine)
    deliveries, arrived = {}, Arrivals()
    if contract.source:
        found = landing.deliveries(contract, lake, partitions)
        deliveries = {d.partition: d for d in found}
    else:
        arrived = Arrivals.of(of_inputs)
    fingerprints = {
        p: arrived.fingerprint(
            contracts, upstream, version, p, deliveries[p].fingerprint if p in deliveries else ()
        )
        for p in partitions
    }
    refused, may_be_empty = _inputs_there(contract, contracts, arrived, partitions)
    same = {} if force or existing is None else _same(history, fingerprints, stale)
    settled = {
        p: PartitionReport(partition=p, status="failed", error=error)
        for p, error in refused.items()
    } | same
    todo = [p for p in partitions if p not in settled]
    due = [deliveries[p] for p in todo if p in deliveries]
    unreadable, undelivered = _inspected(contract, due, lake.storage)
    for p, error in unreadable.items():
        settled[p] = PartitionReport(
            partition=p, status="failed", error=error, fingerprint=fingerprints[p]
        )
    return Plan(
        partitions=tuple(partitions),
        started_at=started_at,
        version=version,
        known=known,
        existing=existing,
        history=history,
        upstream=upstream,
        arrived=arrived,
        stale=stale,
        deliveries=deliveries,
        fingerprints=fingerprints,
        settled=settled,
        todo=tuple(p for p in todo if p not in settled),
        may_be_empty=frozenset(may_be_empty | undelivered),
    )


def _opened(
    contract: Contract, contracts: dict[str, Contract], lake: Lake
) -> tuple[list[LedgerRow], DeltaTable | None, dict[str, inputs.Upstream]]:
    """What the ledger says of a table and of those that it reads, and then all of them: a batch that is
    recorded is then in the version that is read, and what is newer makes the next run stale."""
    names = dict.fromkeys([contract.table, *contract.upstream])
    recorded = ledger.of_tables(lake, list(names))
    with ThreadPoolExecutor(1) as thread:  # an object store takes its time for each
        uri, within = lake.table(contract.table), copy_context()
        existing = thread.submit(within.run, delta.open_table, uri, lake.storage)
        upstream = inputs.upstream(contract, contracts, lake)
        return recorded, existing.result(), upstream


def _histories(
    lake: Lake, table: str, rows: list[LedgerRow], existing: DeltaTable | None
) -> tuple[list[LedgerRow], list[LedgerRow]]:
    """What the ledger says of this table, and of those that it reads. A run that died between its
    data commit and its ledger row is recorded first: the commit carries the row."""
    history = ledger.once(row for row in rows if row.table == table)
    missing = ledger.unrecorded(existing, history) if existing else []
    if missing:
        ledger.append(lake, missing)
        history = ledger.history(lake, table)
    return history, [row for row in rows if row.table != table]


def _same(
    history: list[LedgerRow], fingerprints: Mapping[str, str], stale: Mapping[str, str]
) -> dict[str, PartitionReport]:
    """The partitions that are as they last succeeded."""
    out = {}
    newest = {row.partition: row for row in history}
    for p, fingerprint in fingerprints.items():
        last = newest.get(p)
        if last and not last.failed and last.fingerprint == fingerprint and p not in stale:
            counts = Counts(read=last.read, unchanged=last.read)
            out[p] = PartitionReport(
                partition=p, status="unchanged", counts=counts, fingerprint=fingerprint
            )
    return out


def _inspected(
    contract: Contract, deliveries: list[landing.Delivery], storage: Storage
) -> tuple[dict[str, str], set[str]]:
    """Why some deliveries cannot be read, by partition, and the partitions without files."""
    landing.inspect(contract, deliveries, storage)
    unreadable = {d.partition: d.error for d in deliveries if d.error}
    return unreadable, {d.partition for d in deliveries if not d.error and not d.files}


def _inputs_there(
    contract: Contract, contracts: dict[str, Contract], arrived: Arrivals, partitions: list[str]
) -> tuple[dict[str, str], set[str]]:
    """A partition can only run if that of each driving input has been published; it may be empty
    only if those were. Returns why some cannot, and those that may be empty."""
    refused: dict[str, str] = {}
    may_be_empty: set[str] = set()
    if contract.source or not contract.inputs or contract.partitioning is None:
        return refused, may_be_empty
    for p in partitions:
        found: list[str] = []
        for source in (i.table for i in contract.drivers):
            states = arrived.newest.get(source, {})
            due = window.inside(p, contracts[source].partitioning)
            missing = [w for w in due if w not in states]
            if missing:
                names, of = window.named(missing), f" ({len(missing)} of {len(due)})"
                refused[p] = (
                    f"its input {source} has no published partition"
                    f" {names}{of if len(due) > 1 else ''}. Materialize"
                    f" {source} for {names} first, or mend what failed there."
                )
                break
            found += [states[w].status for w in due]
        else:
            if contract.grain == "aggregate" or set(found) == {"empty"}:
                may_be_empty.add(p)
    return refused, may_be_empty
