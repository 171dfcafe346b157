"""What has arrived in the windows of the tables that one reads, as the ledger tells it.

Belongs here: the batches that made each window what it is, the fingerprint that they give a
partition, and partitions that are behind because records came back into a window that no run was of.
Does not belong here: rows that were looked up (lookups.py), or the rows themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from spark_jobs import window
from spark_jobs.contract.model import Contract
from spark_jobs.lake import ledger
from spark_jobs.lake.row import LedgerRow
from spark_jobs.lake.storage import Lake
from spark_jobs.window import WHOLE

# A batch may be recorded so much later than its timed steps tell.
_RECORDED_WITHIN = timedelta(hours=1)


@dataclass
class Arrivals:
    """Published batches by table and window, oldest first: the newest of each window, all of them,
    and those of other windows that brought records back into one."""

    newest: dict[str, dict[str, LedgerRow]] = field(default_factory=dict)
    batches: dict[tuple[str, str], list[LedgerRow]] = field(default_factory=dict)
    revivals: dict[tuple[str, str], list[LedgerRow]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[LedgerRow]) -> Arrivals:
        """`rows` of the ledger, oldest first."""
        found = cls()
        for row in rows:
            if row.failed:
                continue
            found.newest.setdefault(row.table, {})[row.partition] = row
            found.batches.setdefault((row.table, row.partition), []).append(row)
            for key in row.revived_in:
                found.revivals.setdefault((row.table, key), []).append(row)
        return found

    def decisive(self, source: Contract, key: str) -> list[str]:
        """The batches that made a window what it is: the last one that changed anything, and those
        of other windows that brought records back into this one."""
        batches = self.batches[source.table, key]
        if source.keyed:
            batches = [b for b in batches if b.changes] or batches[:1]
        back = self.revivals.get((source.table, key), ())
        # Runs that raced may have recorded a batch twice.
        return [batches[-1].batch_id, *dict.fromkeys(b.batch_id for b in back)]

    def fingerprint(
        self,
        contracts: Mapping[str, Contract],
        upstream: Iterable[str],
        version: str,
        partition: str,
        delivered: Sequence[str] = (),
    ) -> str:
        """What decides a partition's rows: the code, and what arrived in this window, files or
        batches of the tables `upstream`. What arrives later in a window of its own makes this one
        stale only if a row here looks it up or waits for it: see lookups.py. A table without
        partitions is made of every window."""
        digest = hashlib.sha256(version.encode())
        if delivered:
            digest.update("|".join(delivered).encode())
        for name in sorted(upstream):
            ours = {WHOLE, *window.inside(partition, contracts[name].partitioning)}
            for key in sorted(self.newest.get(name, ())):
                if partition == WHOLE or key in ours:
                    for batch in self.decisive(contracts[name], key):
                        digest.update(f"{name} {key} {batch}".encode())
        return digest.hexdigest()[:32]


def behind(
    contracts: Mapping[str, Contract], lake: Lake, tables: Iterable[str]
) -> dict[str, dict[str, str]]:
    """The published partitions of some tables that lack records which came back into a window of
    their input when another window gave way, with the reason, by table."""
    came_back = ledger.revived(lake)
    readers = [t for t in tables if contracts[t].partitioning]
    readers = [t for t in readers if came_back & set(contracts[t].upstream)]
    if not readers:
        return {}
    concerned = {*readers, *(name for t in readers for name in contracts[t].upstream)}
    arrived = Arrivals.of(ledger.of_tables(lake, sorted(concerned)))
    out: dict[str, dict[str, str]] = {}
    for table in readers:
        contract, done = contracts[table], arrived.newest.get(table, {})
        for (source, key), batches in arrived.revivals.items():
            if source not in contract.upstream:
                continue
            p = _partition_of(contract, contracts[source], key)
            if p not in done:
                continue
            last, back = done[p], batches[-1]
            if last.started_at > back.done_at + _RECORDED_WITHIN:
                continue
            version = last.transform_version
            present = arrived.fingerprint(contracts, contract.upstream, version, p)
            if present != last.fingerprint:
                out.setdefault(table, {})[p] = f"records came back into {source} {key}"
    return out


def _partition_of(contract: Contract, source: Contract, key: str) -> str:
    """The partition of a table that a window of its input lies in."""
    if source.partitioning is None or contract.partitioning is None:
        return key
    return window.Window.of(key).around(contract.partitioning).key
