"""Which published partitions are stale although what arrived in them is the same, and why.

Belongs here: putting the reasons together. Does not belong here: either of them, rows that were
looked up (lookups.py) and records that came back (arrivals.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from spark_jobs.batch import arrivals, lookups
from spark_jobs.contract.model import Contract
from spark_jobs.lake.row import PartitionState
from spark_jobs.lake.storage import Lake


def stale_partitions(
    contracts: Mapping[str, Contract],
    lake: Lake,
    newest: Iterable[PartitionState],
    engine: lookups.HasSession,
    tables: Iterable[str],
) -> dict[str, dict[str, str]]:
    """What made each stale partition of some tables stale, by table; `newest` is the newest state of
    each partition. The engine is asked for its session only if rows have to be compared."""
    names = list(tables)
    found = lookups.stale_partitions(contracts, lake, newest, engine, names)
    for table, partitions in arrivals.behind(contracts, lake, names).items():
        ours = found.setdefault(table, {})
        for p, why in partitions.items():
            ours[p] = f"{ours[p]}; {why}" if p in ours else why
    return found
