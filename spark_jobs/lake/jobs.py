"""What ran tables on services, and what that cost: one row per job in the ledger's table `jobs`.

Belongs here: the table and its rows. Does not belong here: what a service charges for (the control plane
asks it: a job does not know its own cost).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

import pyarrow as pa
from deltalake.exceptions import DeltaError

from spark_jobs.lake import making
from spark_jobs.lake.storage import Lake, Storage, describe

SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("run_id", pa.string()),
        ("attempt", pa.int64()),
        ("service", pa.string()),
        ("job", pa.string()),
        ("state", pa.string()),
        ("artifact", pa.string()),
        ("partitions", pa.int64()),
        ("ended_at", pa.timestamp("us", "UTC")),
        ("billed", pa.string()),
        ("cost", pa.float64()),
        ("currency", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job: `billed` is what the service says it used, as JSON; `cost` is None if it said nothing."""

    table: str
    run_id: str
    attempt: int
    service: str
    job: str
    state: str
    artifact: str
    partitions: int
    ended_at: datetime
    billed: str
    cost: float | None
    currency: str


def record(lake: Lake, row: JobRow) -> None:
    """Adds a job, once: a process that took it over may know of it as well. Steps whose tables share a
    job end together, and get into each other's way: who comes second looks again."""
    uri = lake.ledger("jobs")
    try:
        _merge(uri, row, lake.storage)
    except (DeltaError, OSError) as error:
        raise describe(error, uri) from error


@making.looking_again
def _merge(uri: str, row: JobRow, storage: Storage) -> None:
    (
        making.shared_table(uri, SCHEMA, storage)
        .merge(
            pa.Table.from_pylist([asdict(row)], SCHEMA),
            'target.job = source.job and target."table" = source."table"',
            source_alias="source",
            target_alias="target",
        )
        .when_not_matched_insert_all()
        .execute()
    )
