"""Which tables of a run travel in one job: formed by whoever begins first, in a store that writes once.

Here: forming and joining, against a store that speaks S3; the run is told by values. Not here: the jobs
(test_emr_runner.py).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from lakehouse.artifacts.store import FolderStore
from lakehouse.engines.emr import _written_first
from lakehouse.engines.together import Group, group_of, step_of
from lakehouse.standins.servers.aws import REGION, Aws
from spark_jobs.contract.reader import load_contracts
from spark_jobs.lake.storage import Storage
from tests.documents import PROJECT

CONTRACTS = load_contracts(PROJECT / "contracts")
SILVER = [t for t, c in CONTRACTS.items() if c.layer == "silver" and c.partitioning == "daily"]


@pytest.fixture
def bucket(aws: Aws) -> tuple[FolderStore, Any]:
    aws.create_buckets("artifacts")
    s3 = boto3.client("s3", endpoint_url=aws.url, region_name=REGION)
    return FolderStore("s3://artifacts", Storage(aws.storage_options)), s3


def run(tables: list[str], done: list[str], run_id: str = "r1") -> Any:
    """A step's context, as far as groups look at it."""
    stats = [
        SimpleNamespace(step_key=step_of(t), status=SimpleNamespace(value="SUCCESS")) for t in done
    ]
    nodes = [SimpleNamespace(name=step_of(t)) for t in tables]
    return SimpleNamespace(
        run=SimpleNamespace(run_id=run_id),
        op_execution_context=SimpleNamespace(job_def=SimpleNamespace(nodes=nodes)),
        instance=SimpleNamespace(get_run_step_stats=lambda run_id: stats),
    )


def group(bucket: tuple[FolderStore, Any], context: Any, table: str) -> Group | None:
    store, s3 = bucket
    write_once = partial(_written_first, s3, store)
    return group_of(context, table, CONTRACTS, SILVER, store, write_once)


def test_the_tables_whose_inputs_are_made_go_together_and_the_others_later(bucket: Any) -> None:
    everything = list(CONTRACTS)
    first = run(everything, ["bronze.fx_rates", "bronze.products"])
    formed = group(bucket, first, "silver.fx_rates")
    assert formed == Group(("silver.fx_rates", "silver.products"), "silver.fx_rates")
    assert group(bucket, first, "silver.products") == formed
    bronze = [t for t in CONTRACTS if t.startswith("bronze.")]
    later = run(everything, [*bronze, "silver.fx_rates"])
    second = group(bucket, later, "silver.customers")
    assert second is not None and second.leader == "silver.customers"
    assert {"silver.customers", "silver.orders"} <= set(second.tables)
    assert not set(second.tables) & {"silver.fx_rates", "silver.products"}
    order = [t for t in CONTRACTS if t in second.tables]
    assert list(second.tables) == order, "inputs first"


def test_of_all_steps_that_begin_at_once_one_leads_and_the_others_join(bucket: Any) -> None:
    bronze = [t for t in CONTRACTS if t.startswith("bronze.")]
    context = run(list(CONTRACTS), bronze)
    with ThreadPoolExecutor(8) as pool:
        groups = list(pool.map(lambda table: group(bucket, context, table), SILVER * 2))
    assert len({(g.tables, g.leader) for g in groups if g}) == 1 and None not in groups


def test_a_table_alone_and_a_table_of_another_run_go_alone(bucket: Any) -> None:
    assert group(bucket, run(["silver.orders"], []), "silver.orders") is None
    both = ["silver.fx_rates", "silver.products"]
    assert group(bucket, run(both, []), both[0]) is not None
    assert group(bucket, run(both[:1], [], run_id="r2"), both[0]) is None
