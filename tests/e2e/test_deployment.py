"""Dagster as it is deployed: each process by itself, the run history in PostgreSQL. Nothing that was
begun is lost when the code location goes away in the middle of it.

Here: the commands of docs/how-to/deploy.md. Not here: `lakehouse ui` (test_ui.py).
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lakehouse.cli import main
from lakehouse.cli.deliver import deliver_sample
from lakehouse.engines.ledger import LakeLedger
from spark_jobs.contract.reader import load_contracts
from spark_jobs.lake import delta
from tests.e2e.dagster_ui import wait_for
from tests.e2e.deployed import PASSWORD, Deployment, deployed

pytestmark = pytest.mark.slow

DAYS = [f"2026-10-{day:02d}" for day in range(5, 10)]
TABLES = ["bronze.addresses", "silver.addresses", "bronze.products", "silver.products"]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DAGSTER_HOME", "LAKEHOUSE_HOME", PASSWORD):
            patch.setenv(name, "")
        with deployed(tmp_path_factory.mktemp("deployment")) as found:
            deliver_sample(found.settings, 0.002, len(DAYS))
            yield found


def launch_backfill(deployment: Deployment) -> None:
    text = """mutation($given: LaunchBackfillParams!) {
        launchPartitionBackfill(backfillParams: $given) {__typename}}"""
    given = {
        "assetSelection": [{"path": table.split(".")} for table in TABLES],
        "partitionNames": DAYS,
    }
    answer = deployment.ui.query(text, given=given)
    assert answer["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess"


def runs(deployment: Deployment) -> list[dict[str, Any]]:
    text = "{runsOrError {... on Runs {results {runId status}}}}"
    return deployment.ui.query(text)["runsOrError"]["results"]


def test_a_backfill_outlives_two_restarts_of_the_code_location(deployment: Deployment) -> None:
    launch_backfill(deployment)
    ended = set()
    for _ in range(2):
        (run,) = wait_for(
            "a run in progress", lambda: [r for r in runs(deployment) if r["status"] == "STARTED"]
        )
        deployment.kill("code")
        deployment.start("code")
        ended.add(run["runId"])
        wait_for(
            "the end of the run",
            lambda: all(r["status"] == "FAILURE" for r in runs(deployment) if r["runId"] in ended),
        )
    assert deployment.ui.backfill()["status"] == "COMPLETED_SUCCESS"
    assert sorted(r["status"] for r in runs(deployment)) == ["FAILURE", "FAILURE", "SUCCESS"]
    ledger = LakeLedger.of(deployment.settings)
    contracts = load_contracts(deployment.settings.contracts)
    for table in TABLES:
        done = [row.partition for row in ledger.history(table) if row.status == "published"]
        assert sorted(done) == DAYS, f"{table}: each day published, and once"
        if contracts[table].keyed:
            layer, _, name = table.partition(".")
            at, storage = deployment.settings.zones[layer], deployment.settings.storage
            published = delta.open_table(f"{at}/{name}", storage)
            assert published is not None
            key = list(contracts[table].key)
            keys = delta.read(published, storage, columns=key)
            assert keys.num_rows > 0
            assert keys.group_by(key).aggregate([]).num_rows == keys.num_rows


def test_no_process_says_a_value_of_a_row(deployment: Deployment) -> None:
    """Nor do the files of the run history: what steps print is in them too."""
    uri, storage = f"{deployment.settings.zones['bronze']}/addresses", deployment.settings.storage
    table = delta.open_table(uri, storage)
    assert table is not None
    rows = delta.read(table, storage, columns=["street"]).to_pylist()
    values = {v.strip().encode() for row in rows for v in row.values() if v and len(v) > 8}
    assert len(values) > 100
    logs = [deployment.folder / f"{name}.log" for name in deployment.commands]
    logs += [p for p in deployment.settings.dagster_home.rglob("*") if p.is_file()]
    for log in logs:
        said = log.read_bytes()
        assert [v for v in values if v in said] == [], log


def test_the_webserver_answers_under_its_own_name_alone(deployment: Deployment) -> None:
    def status(host: str) -> int:
        request = urllib.request.Request(f"{deployment.ui.url}/server_info", headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    assert status("localhost") == 200
    assert status("lake.attacker.test") == 421


def test_no_file_holds_the_password_of_the_database(deployment: Deployment) -> None:
    secret = b"not asked for"
    held = [p for p in deployment.folder.rglob("*") if p.is_file() and secret in p.read_bytes()]
    assert held == []
    assert PASSWORD in (deployment.settings.dagster_home / "dagster.yaml").read_text()


def test_the_command_says_where_the_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", "")
    done = CliRunner().invoke(main, ["deploy", "instance", "--code", "code.internal:4001"])
    assert done.exit_code == 0, done.output
    home = Path(done.output.strip())
    assert "host: code.internal\n" in (home / "workspace.yaml").read_text()
    assert (home / "dagster.yaml").exists()
    wrong = CliRunner().invoke(main, ["deploy", "instance", "--code", "code.internal"])
    assert wrong.exit_code == 2
    assert "HOST:PORT" in wrong.output
