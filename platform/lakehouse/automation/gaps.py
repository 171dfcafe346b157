"""Gaps: partitions that should be there and are not, and what state they are in.

Belongs here: comparing the partitions that are expected with the ledger and with landing.
Does not belong here: filling them (schedules.py) or printing them (cli).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from lakehouse.partitions import keys, window_start
from lakehouse.settings.operations import PartitionSettings
from spark_jobs.contract.model import Contract
from spark_jobs.lake.row import PartitionState
from spark_jobs.window import inside, named

GapState = Literal["not delivered", "missing", "failed", "blocked", "stale"]
Delivered = Mapping[str, Iterable[str]]
"""Partition keys with files, by dataset."""


@dataclass(frozen=True)
class Gap:
    """`blocked`: its input has a gap, `root` says of what kind in the end. `stale`: it is there, and
    rows that it looked up have changed since, or it lacks records that came back into its input's
    window, or its input is stale. `again`: such rows have changed
    since it failed, so that a run may succeed now."""

    table: str
    partition: str
    state: GapState
    root: GapState
    detail: str = ""
    transform_version: str = ""
    again: bool = False


def horizon(
    settings: PartitionSettings, delivered: Delivered, now: datetime
) -> tuple[date, date] | None:
    """The days in which gaps are looked for; None if there are none yet.

    Without an end every day up to yesterday is due. Where the partitions have an end they are a
    closed history, and it is due as far as it has been delivered.
    """
    if settings.end is None:
        last = now.astimezone(UTC).date() - timedelta(days=1)
    else:
        found = [p for partitions in delivered.values() for p in partitions]
        if not found:
            return None
        newest = window_start(max(found, key=window_start)).date()
        last = min(newest, settings.end - timedelta(days=1))
    return (settings.start, last) if last >= settings.start else None


def find_gaps(
    contracts: Mapping[str, Contract],
    ledger: Iterable[PartitionState],
    delivered: Delivered,
    days: tuple[date, date],
    stale: Mapping[str, Mapping[str, str]] | None = None,
    extracted: Container[str] = (),
) -> list[Gap]:
    """Every gap of every partitioned table, upstream tables first.

    `ledger` holds rows of the ledger, oldest first; `stale` says by table and partition what made
    one stale. What is missing of a dataset that is extracted here can be had by running it.
    """
    latest = {(row.table, row.partition): row for row in ledger}
    arrived = {dataset: set(partitions) for dataset, partitions in delivered.items()}
    gaps: dict[tuple[str, str], Gap] = {}
    for contract in contracts.values():
        if contract.partitioning is None:
            continue
        for partition in keys(contract.partitioning, *days):
            because = (stale or {}).get(contract.table, {}).get(partition)
            windows = _windows(contract, partition, contracts)
            gap = _gap(contract, partition, windows, latest, arrived, gaps, because, extracted)
            if gap is not None:
                gaps[contract.table, partition] = gap
    return list(gaps.values())


def _gap(
    contract: Contract,
    partition: str,
    windows: list[str],
    latest: Mapping[tuple[str, str], PartitionState],
    arrived: Mapping[str, set[str]],
    gaps: Mapping[tuple[str, str], Gap],
    stale: str | None = None,
    extracted: Container[str] = (),
) -> Gap | None:
    row = latest.get((contract.table, partition))
    sources = [i.table for i in contract.drivers]
    inputs = [gaps[t, w] for t in sources for w in windows if (t, w) in gaps]
    if row is not None and not row.failed:
        if not stale:
            stale = next((_is(cause) for cause in inputs if cause.state == "stale"), None)
        return Gap(contract.table, partition, "stale", "stale", stale) if stale else None
    if contract.source is not None:
        if partition not in arrived.get(contract.source.dataset, ()):
            if not due(contract, partition) and row is None:
                return None
            where = f"landing/{contract.source.dataset}/{partition}"
            if due(contract, partition) and contract.source.dataset in extracted:
                return Gap(contract.table, partition, "missing", "missing", "never extracted")
            if due(contract, partition):
                return Gap(contract.table, partition, "not delivered", "not delivered", where)
    elif contract.inputs:
        causes = [c for c in inputs if c.state != "stale"]
        if causes:
            detail = _because(causes) if len(windows) > 1 else _is(causes[0])
            return Gap(contract.table, partition, "blocked", causes[0].root, detail)
        if row is None and _undue_source(contract, windows, latest):
            return None
    if row is None:
        return Gap(contract.table, partition, "missing", "missing", "never run")
    return Gap(
        contract.table, partition, "failed", "failed", row.error, row.transform_version,
        again=stale is not None,
    )  # fmt: skip


def _windows(contract: Contract, partition: str, contracts: Mapping[str, Contract]) -> list[str]:
    """The partitions of the driving input that a partition is made of."""
    driving = contracts.get(contract.inputs[0].table) if contract.inputs else None
    return inside(partition, driving.partitioning if driving else None)


def _is(cause: Gap) -> str:
    return f"{cause.table} is {cause.state}"


def _because(causes: list[Gap]) -> str:
    """What is missing of a coarser window, by state: `silver.readings is missing for …`."""
    states: dict[str, list[str]] = {}
    for cause in causes:
        states.setdefault(_is(cause), []).append(cause.partition)
    return "; ".join(f"{state} for {named(keys)}" for state, keys in states.items())


def _undue_source(
    contract: Contract, windows: list[str], latest: Mapping[tuple[str, str], PartitionState]
) -> bool:
    """Whether its input never ran for these windows either and has no gap there: nothing was due."""
    return all((i.table, w) not in latest for i in contract.drivers for w in windows)


def due(contract: Contract, partition: str) -> bool:
    """Whether the source delivers on this partition's day of the week."""
    return contract.delivered.delivers_on(partition)
