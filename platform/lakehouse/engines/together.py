"""Tables of one layer that travel in one job: which do, which of their steps starts it, and how the
others learn which job it is.

Belongs here: forming groups within a run, without anybody in charge. Does not belong here: starting a
job, or waiting for its end (emr.py, databricks.py).

A step that begins looks for a group of its run that has its table. If there is none it forms one: of all
tables of its layer that could begin now. Groups are numbered, and each number is given once, since the
store writes a name only once; whoever comes second joins.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.engines.remote import Attempt, Shipment, Shipping
from spark_jobs.contract.model import Contract
from spark_jobs.errors import EngineError
from spark_jobs.report import RunSpec

if TYPE_CHECKING:
    import dagster as dg

    from lakehouse.artifacts.store import ArtifactStore

WriteOnce = Callable[[str, bytes], bool]
"""Writes a file of the store, unless it is there; whether it did."""
# Which job was started, beside what it was started with; and how long others wait for it.
_STARTED = "job.json"
_JOIN_SECONDS = 300.0


@dataclass(frozen=True)
class Group:
    """Tables in the order in which a job runs them, and the table whose step starts the job."""

    tables: tuple[str, ...]
    leader: str

    def attempt(self, run_id: str) -> Attempt:
        """That of the leader's step which started the job: its first."""
        return Attempt(run_id, step_of(self.leader), 0)


@dataclass(frozen=True)
class Together:
    """Ships the tables of a runner, which are `tables` of all `contracts`, upstream first. Those of
    `layers` go together where they are `alike`."""

    shipping: Shipping
    contracts: Mapping[str, Contract]
    tables: frozenset[str]
    layers: Collection[str]
    alike: Callable[[str, str], bool]
    write_once: WriteOnce
    poll_seconds: float

    def shipped(
        self, context: dg.AssetExecutionContext, spec: RunSpec
    ) -> tuple[Shipment, dict[str, str] | None]:
        """What the job of a step is started with, and what was told of that job if another step starts
        it."""
        group = self._group(context, spec.table)
        if group is None:
            return self.shipping.ship(context, spec), None
        if group.leader == spec.table:
            first, *then = group.tables
            context.log.info(f"One job runs {', '.join(group.tables)}.")
            together = spec.model_copy(update={"table": first, "then": then})
            return self.shipping.ship(context, together), None
        attempt, deadline = group.attempt(spec.run_id), time.monotonic() + _JOIN_SECONDS
        while True:
            told = self.shipping.store.read(f"{attempt.folder}/{_STARTED}")
            shipment = self.shipping.sent(attempt)
            if told is not None and shipment is not None:
                return shipment, json.loads(told)
            if time.monotonic() > deadline:
                raise EngineError(
                    f"{spec.table}: the step of {group.leader} was to start a job for both, and has not"
                    f" for {_JOIN_SECONDS:.0f} s. It is tried again alone.",
                    permanent=False,
                )
            time.sleep(self.poll_seconds)

    def _group(self, context: dg.AssetExecutionContext, table: str) -> Group | None:
        """The tables that go together with this one, in the first attempt of its step: what failed is
        tried again alone."""
        contract = self.contracts[table]
        if contract.layer not in self.layers or context.retry_number > 0:
            return None
        travel = {
            t
            for t, c in self.contracts.items()
            if (c.layer, c.partitioning) == (contract.layer, contract.partitioning)
            and t in self.tables
            and self.alike(t, table)
        }
        return group_of(
            context, table, self.contracts, travel, self.shipping.store, self.write_once
        )


def tell(shipment: Shipment, names: Mapping[str, str]) -> None:
    """Tells the other tables of a job which it is."""
    name = f"{shipment.attempt.folder}/{_STARTED}"
    shipment.store.write(name, json.dumps(names).encode())


def step_of(table: str) -> str:
    return table.replace(".", "__")


def group_of(
    context: dg.AssetExecutionContext,
    table: str,
    contracts: Mapping[str, Contract],
    travel: Collection[str],
    store: ArtifactStore,
    write_once: WriteOnce,
) -> Group | None:
    """The group of a table's step; None if it goes alone. `contracts` are all, upstream first, and
    `travel` the tables that may go together with this one."""
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
            if write_once(name, json.dumps(asdict(formed)).encode()):
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


def _parsed(content: bytes) -> Group:
    given = json.loads(content)
    return Group(tuple(given["tables"]), given["leader"])
