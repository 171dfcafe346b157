"""Tables of one layer that travel in one job: which do, and which of their steps starts it.

Belongs here: forming groups within a run, without anybody in charge. Does not belong here: starting a
job, or waiting for it (emr.py).

A step that begins looks for a group of its run that has its table. If there is none it forms one: of all
tables of its layer that could begin now. Groups are numbered, and each number is given once, since the
store writes a name only once; whoever comes second joins.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.engines.remote import Attempt
from spark_jobs.contract.model import Contract

if TYPE_CHECKING:
    import dagster as dg

    from lakehouse.artifacts.store import ArtifactStore


@dataclass(frozen=True)
class Group:
    """Tables in the order in which a job runs them, and the table whose step starts the job."""

    tables: tuple[str, ...]
    leader: str

    def attempt(self, run_id: str) -> Attempt:
        """That of the leader's step which started the job: its first."""
        return Attempt(run_id, step_of(self.leader), 0)


def step_of(table: str) -> str:
    return table.replace(".", "__")


def group_of(
    context: dg.AssetExecutionContext,
    table: str,
    contracts: Mapping[str, Contract],
    travel: Collection[str],
    store: ArtifactStore,
    s3: Any,
) -> Group | None:
    """The group of a table's step; None if it goes alone. `contracts` are all, upstream first, and
    `travel` the tables that may go together with this one. `s3` writes what may be written once, into
    `store`."""
    contract = contracts[table]
    run_id, taken = context.run.run_id, set()
    for number in itertools.count():
        name = f"runs/{run_id}/{contract.layer}-{contract.partitioning}-{number}.json"
        content = store.read(name)
        if content is None:
            free = [t for t in _ready(context, contracts, travel) if t not in taken]
            if len(free) < 2 or table not in free:
                return None
            formed = Group(tuple(free), table)
            if _written_first(s3, store.uri(name), json.dumps(asdict(formed)).encode()):
                return formed
            content = store.read(name)
        found = _parsed(content or b"{}")
        if table in found.tables:
            return found
        taken |= set(found.tables)
    raise AssertionError("unreachable: numbers do not end")


def _ready(
    context: dg.AssetExecutionContext, contracts: Mapping[str, Contract], travel: Collection[str]
) -> list[str]:
    """Those of `travel` that this run makes, and whose inputs it has made already or makes before them
    in the same job."""
    steps, done = _steps(context), _done(context)
    in_run = [table for table in contracts if step_of(table) in steps]
    found: list[str] = []
    for table in in_run:
        inputs = [up for up in contracts[table].upstream if up in in_run]
        made = all(up in found or step_of(up) in done for up in inputs)
        if table in travel and step_of(table) not in done and made:
            found.append(table)
    return found


def _steps(context: dg.AssetExecutionContext) -> set[str]:
    return {node.name for node in context.op_execution_context.job_def.nodes}


def _done(context: dg.AssetExecutionContext) -> set[str]:
    """The steps of this run that have succeeded."""
    stats: Iterator[Any] = iter(context.instance.get_run_step_stats(context.run.run_id))
    return {s.step_key for s in stats if s.status is not None and s.status.value == "SUCCESS"}


def _written_first(s3: Any, uri: str, content: bytes) -> bool:
    """Writes an object, unless somebody else has."""
    from botocore.exceptions import ClientError

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412):
            return False
        raise
    return True


def _parsed(content: bytes) -> Group:
    given = json.loads(content)
    return Group(tuple(given["tables"]), given["leader"])
