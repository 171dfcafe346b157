"""Jobs: the whole lake, each layer and each domain, once per partition scheme.

Belongs here: which assets run together. Does not belong here: when (schedules.py,
landing_sensor.py).

A run covers partitions of one scheme, so daily and hourly tables have jobs of their own. Assets
without partitions (the calendar, the marts) run with the daily ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import dagster as dg

from lakehouse.keys import LANE_TAG, asset_key, landing_key
from spark_jobs.contract.model import LAYERS, Contract
from spark_jobs.window import Scheme

DAILY, HOURLY = "lake_daily", "lake_hourly"
MARTS = "all_marts"
LAKE_JOBS: Mapping[Scheme, str] = {"daily": DAILY, "hourly": HOURLY}


@dataclass(frozen=True)
class JobSpec:
    """A job before Dagster knows it: its name and what it runs."""

    name: str
    description: str
    keys: tuple[dg.AssetKey, ...]
    scheme: Scheme | None


def job_specs(
    contracts: Mapping[str, Contract],
    marts: Iterable[dg.AssetKey] = (),
    landing: Iterable[str] = (),
) -> list[JobSpec]:
    """Every job, the whole lake first. `landing` are the datasets that are extracted or drained here:
    they run with the tables that read them."""
    tables, marts = list(contracts.values()), tuple(marts)
    extracted = frozenset(landing)
    specs = []

    def add(
        name: str, what: str, chosen: list[Contract], more: tuple[dg.AssetKey, ...] = ()
    ) -> None:
        for scheme in ("daily", "hourly"):
            ours = [c for c in chosen if _scheme(c) == scheme]
            read = dict.fromkeys(c.source.dataset for c in ours if c.source)
            keys = tuple(landing_key(dataset) for dataset in read if dataset in extracted)
            keys += tuple(asset_key(c.table) for c in ours)
            keys += more if scheme == "daily" else ()
            if keys:
                specs.append(JobSpec(f"{name}_{scheme}", f"{what}, {scheme}", keys, scheme))

    add("lake", "Every table and mart", tables, marts)
    for layer in LAYERS:
        add(layer, f"Every {layer} table", [c for c in tables if c.layer == layer])
    for domain in sorted({c.domain for c in tables}):
        add(
            domain, f"Every table of the {domain} domain", [c for c in tables if c.domain == domain]
        )
    if marts:
        specs.append(JobSpec(MARTS, "Every mart", marts, None))
    return specs


def _scheme(contract: Contract) -> Scheme:
    return contract.partitioning or "daily"


def build_jobs(specs: Iterable[JobSpec]) -> dict[str, dg.UnresolvedAssetJobDefinition]:
    """The jobs by name."""
    return {
        spec.name: dg.define_asset_job(
            spec.name,
            selection=dg.AssetSelection.assets(*spec.keys),
            description=spec.description,
            tags=run_tags(spec.scheme),
        )
        for spec in specs
    }


def run_tags(scheme: Scheme | None) -> dict[str, str]:
    """Tags of every run of a job. A failed step has had its retries, and a permanent failure must
    have none: only a run that crashed is worth a second one."""
    tags = {"dagster/retry_on_asset_or_op_failure": "false"}
    return tags | ({LANE_TAG: scheme} if scheme else {})


def downstream(
    contracts: Mapping[str, Contract],
    tables: Iterable[str],
    mart_deps: Mapping[dg.AssetKey, Iterable[dg.AssetKey]],
    absent: Collection[str] = (),
) -> list[dg.AssetKey]:
    """Everything that new rows of `tables` flow into, themselves included, in run order; but what
    other tables drive too waits for those that are `absent`: their rows will flow into it as well.

    Rows flow along `changes` and `touched` inputs, inside one partition scheme, and into marts.
    They do not flow along lookups: those are read as they are when their own rows run.
    """
    reached = set(tables)
    schemes = {contracts[t].partitioning for t in reached}
    waiting = set(absent)
    for contract in contracts.values():  # upstream first
        flows = {i.table for i in contract.inputs if i.read != "lookup"}
        if flows & waiting:
            waiting.add(contract.table)
        elif flows & reached and contract.partitioning in schemes:
            reached.add(contract.table)
    keys = [asset_key(t) for t in contracts if t in reached]
    if "daily" not in schemes:
        return keys
    marts: list[dg.AssetKey] = []
    grown = True
    while grown:  # marts may select from marts, in any order
        found = [
            m for m, deps in mart_deps.items() if m not in marts and set(deps) & {*keys, *marts}
        ]
        marts += found
        grown = bool(found)
    return keys + marts
