"""What a finished run leaves to do: the rest that a bad partition stopped, and the days that its
hours complete.

Belongs here: the decision, from what ran and what the ledger says of it. Does not belong here:
starting runs (follow_up_sensor.py; the command line starts those of its own runs itself).

Dagster starts no step downstream of one that failed, whatever partitions of it were published. A
bad day therefore stops every day of its run, and the good ones are a run of their own: the rest. It
leaves out what failed, and holds only what never started, so that a rest of a rest is smaller, and
the last one has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256

from lakehouse.automation.jobs import LAKE_JOBS
from lakehouse.keys import REST_TAG, WINDOWS_TAG
from spark_jobs.contract.model import Contract
from spark_jobs.lake.row import LedgerRow
from spark_jobs.window import Scheme, Window, inside, ranges, windows

Rows = Iterable[LedgerRow]
"""Rows of the ledger, oldest first."""


@dataclass(frozen=True)
class Ended:
    """A run that has ended: the assets whose step failed, and those whose step never began."""

    run_id: str
    scheme: Scheme
    partitions: tuple[str, ...]
    failed: frozenset[str] = frozenset()
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class FollowUp:
    """A run to start, from the first to the last of `partitions`. `why` is a tag of it, `of` what it
    is asked for once, where that is not what the tag says."""

    scheme: Scheme
    partitions: tuple[str, str]
    assets: tuple[str, ...]
    why: tuple[str, str]
    of: str = ""

    @property
    def job(self) -> str:
        return LAKE_JOBS[self.scheme]

    @property
    def run_key(self) -> str:
        """The same whenever the same is found again."""
        text = "|".join([*self.why, *self.partitions, *self.assets])
        return f"follow_up:{sha256((self.of or text).encode()).hexdigest()[:16]}"


def held_back(
    ended: Ended,
    contracts: Mapping[str, Contract],
    parents: Mapping[str, Iterable[str]],
    rows: Rows,
) -> dict[str, frozenset[str]]:
    """The partitions of each skipped asset that have to wait, because those of something that it
    reads failed. `parents` tells what each asset reads.

    An asset without partitions reads whole tables, as they are; it waits only where one of them was
    not published at all.
    """
    every = frozenset(ended.partitions)
    bad: dict[str, set[str]] = {}
    for row in rows:
        if row.run_id == ended.run_id and row.failed:
            bad.setdefault(row.table, set()).add(row.partition)

    @cache
    def waiting(asset: str) -> frozenset[str]:
        if asset in ended.failed:  # a step that failed as a whole has recorded no partition
            return frozenset(bad.get(asset, every)) & every or every
        if asset not in ended.skipped:
            return frozenset()
        of = [waiting(parent) for parent in parents[asset]]
        if asset in contracts and contracts[asset].partitioning is not None:
            return frozenset().union(*of)
        return every if every in of else frozenset()

    return {asset: waiting(asset) for asset in ended.skipped}


def rest_of(
    ended: Ended, held: Mapping[str, frozenset[str]], contracts: Mapping[str, Contract]
) -> list[FollowUp]:
    """The rest of a run: one follow-up per range of partitions in which the same tables can run.
    What has no partitions comes with the last range, when the others are there."""
    if not ended.partitions:
        return []
    windowed = [t for t, c in contracts.items() if t in ended.skipped and c.partitioning]
    whole = tuple(a for a in ended.skipped if a not in windowed and not held[a])
    groups: dict[tuple[str, ...], list[str]] = {}
    for partition in ended.partitions:
        groups.setdefault(tuple(a for a in windowed if partition not in held[a]), []).append(
            partition
        )
    found = sorted(
        (first, last, assets)
        for assets, partitions in groups.items()
        if assets
        for first, last in ranges(partitions)
    )
    why = (REST_TAG, ended.run_id)
    out = [FollowUp(ended.scheme, (first, last), assets, why) for first, last, assets in found]
    if whole and out:
        last = out.pop()
        out.append(FollowUp(last.scheme, last.partitions, (*last.assets, *whole), why))
    elif whole:
        out.append(FollowUp(ended.scheme, (ended.partitions[0], ended.partitions[-1]), whole, why))
    return out


def coarser(contracts: Mapping[str, Contract], scheme: Scheme) -> dict[str, str]:
    """The tables whose partitions are made of windows of a scheme, with the input that has them."""
    return {
        c.table: c.inputs[0].table
        for c in contracts.values()
        if c.partitioning not in (None, scheme)
        and c.inputs
        and contracts[c.inputs[0].table].partitioning == scheme
    }


def due_windows(ended: Ended, table: Contract, driving: str, rows: Rows) -> dict[str, datetime]:
    """The partitions of a coarser table that are made of windows of this run and are due: all
    their windows are published, one of them after the partition itself began to run. With the time of
    that one. `rows` are those of both tables."""
    assert table.partitioning is not None
    newest: dict[str, datetime] = {}
    published: dict[str, datetime] = {}
    for row in rows:
        if row.table == table.table:
            newest[row.partition] = row.started_at
        elif not row.failed:
            published[row.partition] = row.done_at
    out = {}
    for key in sorted({Window.of(p).around(table.partitioning).key for p in ended.partitions}):
        due = inside(key, ended.scheme)
        if all(w in published for w in due):
            last = max(published[w] for w in due)
            if key not in newest or newest[key] < last:
                out[key] = last
    return out


def windows_of(
    ended: Ended, table: Contract, due: Mapping[str, datetime], assets: tuple[str, ...]
) -> list[FollowUp]:
    """A follow-up per range of due partitions of a coarser table; `assets` are those to run. Its
    key is that of the newest window, so that the same state asks for one run only."""
    assert table.partitioning is not None
    return [
        FollowUp(
            table.partitioning,
            (first, last),
            assets,
            (WINDOWS_TAG, ended.run_id),
            of=f"{table.table} {first} {last} {max(due[p] for p in windows(first, last))}",
        )
        for first, last in ranges(due)
    ]
