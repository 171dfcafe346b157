"""Jobs of Databricks on a lake that Unity Catalog governs: neither they nor Dagster have a key of the
store but those that the catalogue vends, each for one external location.

Here: whole jobs, on a store that looks who asks. Not here: vending by itself (test_vending.py), or what
jobs do otherwise (test_databricks_runner.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lakehouse.keys import asset_key
from lakehouse.local.execution import RunOutcome
from lakehouse.settings.lake import LakeSettings
from lakehouse.settings.operations import RetrySettings
from lakehouse.standins.servers.aws import REGION, Aws
from lakehouse.standins.servers.databricks.catalog import ExternalLocation
from lakehouse.standins.servers.databricks.server import Workspace
from spark_jobs.lake import delta, vending
from spark_jobs.lake.storage import Storage
from spark_jobs.report import ZONES
from tests import workspace as workspaces
from tests.guarded_store import Guard, guarded
from tests.integration.dagster_lake import DagsterLake, people, people_lake
from tests.lakes import MONDAY

pytestmark = [pytest.mark.jvm, pytest.mark.slow]
SESSION, ROOT = "ASIASESSION", "s3://governed"
BRONZE, SILVER = "bronze.people", "silver.people"


@pytest.fixture(scope="module")
def governed(
    aws_server: Aws, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workspace, Guard]]:
    """A workspace, and the store behind its catalogue's external locations, one for each zone."""
    aws_server.forget()
    aws_server.create_buckets("governed")
    vended = {}  # the catalogue's, once it is there
    with pytest.MonkeyPatch.context() as patch, guarded(aws_server.url, vended, SESSION) as guard:
        for name in [n for n in os.environ if n.startswith("AWS_")]:
            patch.delenv(name)
        with workspaces.started(
            tmp_path_factory.mktemp("workspace"), store(guard), SESSION
        ) as found:
            for name, value in workspaces.environment(found).items():
                patch.setenv(name, value)
            found.catalog.external = [ExternalLocation(z, f"{ROOT}/{z}") for z in ZONES]
            guard.vended = found.catalog.vended
            patch.setattr(vending, "_kept", {})
            yield found, guard


def store(guard: Guard) -> Storage:
    return Storage(
        {
            "AWS_ENDPOINT_URL": guard.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": REGION,
            "vended_by": "unity_catalog",
        }
    )


@pytest.fixture(scope="module")
def lake(
    governed: tuple[Workspace, Guard], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DagsterLake]:
    """The people lake in there, shipped and delivered; its steps are not tried again."""
    running, guard = governed
    with people_lake(tmp_path_factory.mktemp("lake")) as found:
        settings = workspaces.settings_for(found.settings, running.volume)
        reached = LakeSettings(root=ROOT, storage_options=dict(store(guard).options))
        found.settings = settings.model_copy(
            update={"lake": reached, "retries": RetrySettings(max=0)}
        )
        found.lake.zones, found.lake.storage = dict(found.settings.zones), store(guard)
        rows = people((1, "p1@x.org", MONDAY), (2, "nobody", MONDAY)).encode()
        found.lake.storage.write(f"{ROOT}/landing/people/{MONDAY}/people.csv", [rows])
        workspaces.ship(found.settings, found.lake, tmp_path_factory.mktemp("shipped"))
        yield found


def run(lake: DagsterLake, table: str) -> RunOutcome:
    return lake.run(MONDAY, MONDAY, [asset_key(table)])


@pytest.fixture(scope="module")
def in_bronze(lake: DagsterLake) -> RunOutcome:
    return run(lake, BRONZE)


def test_a_job_reaches_each_zone_by_a_key_of_that_zone_and_has_no_other(
    lake: DagsterLake, governed: tuple[Workspace, Guard], in_bronze: RunOutcome
) -> None:
    running, guard = governed
    assert in_bronze.success, in_bronze.failures
    assert lake.materialized(BRONZE) == {MONDAY}
    # Not by delta-rs: it would hold Python while the store, which is in this process, has to answer.
    table = delta.open_table(lake.lake.lake.table(BRONZE), lake.lake.storage)
    assert table is not None and delta.read(table, lake.lake.storage).num_rows == 2
    assert guard.denied == []
    used = {key for key, *_ in guard.asked}
    assert SESSION in used and used <= {SESSION, *running.catalog.vended}
    by_zone = {running.catalog.vended[key].url for key in used - {SESSION}}
    assert {f"{ROOT}/{z}" for z in ("landing", "bronze", "ledger")} <= by_zone
    assert by_zone <= {f"{ROOT}/{z}" for z in ZONES}
    driver = running.runs.compute.environment
    assert not [name for name in driver if name.startswith("AWS_")]
    written = [path for key, method, path in guard.asked if key == SESSION and method != "GET"]
    assert not [path for path in written if "/_delta_log/" in path or "/ledger/" in path]


def test_credentials_that_end_in_the_middle_of_a_job_are_renewed(
    lake: DagsterLake, governed: tuple[Workspace, Guard], in_bronze: RunOutcome
) -> None:
    running, guard = governed
    running.catalog.seconds = 60  # so little is left of them that each is about to end
    vending._kept.clear()  # of this process, which has had others
    guard.until = (
        "/silver/people/batch="  # the session writes the rows that are about to be published
    )
    try:
        outcome = run(lake, SILVER)
    finally:
        running.catalog.seconds = 3600
    assert outcome.success, outcome.failures
    assert guard.ended and guard.denied == [], "nothing asks with what has ended"
    assert lake.metadata(SILVER, MONDAY)["inserted"] == 1
    assert [r["record"] for r in lake.lake.quarantined(SILVER)]
    assert [(r.partition, r.inserted, r.quarantined) for r in lake.lake.ledger(SILVER)] == [
        (MONDAY, 1, 1)
    ]


def test_a_job_that_lacks_a_grant_fails_its_step_and_names_it(
    lake: DagsterLake, governed: tuple[Workspace, Guard], in_bronze: RunOutcome
) -> None:
    running, _ = governed
    (location,) = [one for one in running.catalog.external if one.name == "bronze"]
    location.grants.remove("WRITE FILES")
    try:
        (failure,) = run(lake, BRONZE).failures
    finally:
        location.grants.add("WRITE FILES")
    assert "GRANT WRITE FILES ON EXTERNAL LOCATION `bronze` TO whoever runs this" in failure.reason
