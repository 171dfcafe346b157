"""No value of a row is in what a failing build of marts leaves: results, logs, events, output.

A lake of customers whose names and addresses are canaries is built by dbt with a model that fails
on a value and a test that fails on rows; then every byte outside the lake and the warehouse is
searched. Not here: tables of the lake (test_canaries.py).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from lakehouse.definitions import build_definitions
from lakehouse.local.execution import execute
from lakehouse.local.instance import open_instance
from lakehouse.settings.load import load_settings
from lakehouse.settings.operations import RetrySettings
from lakehouse.signals.alerts import alerts_of, finished_run
from spark_jobs.contract.reader import load_contracts
from tests.integration.synthetic_lake import FIRST_DAY, SyntheticLake
from tests.integration.test_canaries import CANARY

PROJECT = Path(__file__).parents[2]
SPOILT = """
{{ config(materialized='table') }}
select customer_id, cast(email as integer) as spoilt
from {{ ref('stg_dim_customer') }}
where customer_sk <> 0
"""
PROPERTIES = """version: 2
models:
  - name: spoilt
    description: A mart that fails on a value
    config: {meta: {owner: data-platform, fresh_within_hours: 24}}
    columns:
      - {name: customer_id, description: Key}
      - {name: spoilt, description: Not a number, config: {meta: {classification: pii}}}
"""
TESTED = "      - name: name\n        description: Customer name\n"


def spoil(project: Path) -> None:
    """A copy of the dbt project with a model that fails on a value and a test that fails on rows."""
    shutil.copytree(
        PROJECT / "dbt_project",
        project / "dbt_project",
        ignore=shutil.ignore_patterns("target", "logs"),
    )
    models = project / "dbt_project" / "models"
    (models / "sales" / "spoilt.sql").write_text(SPOILT)
    (models / "sales" / "spoilt.yml").write_text(PROPERTIES)
    properties = models / "intermediate" / "intermediate.yml"
    accepted = "        data_tests: [{accepted_values: {arguments: {values: [nobody]}}}]\n"
    text = properties.read_text()
    assert text.count(TESTED) == 1
    properties.write_text(text.replace(TESTED, TESTED + accepted))


def canaries(lake: SyntheticLake) -> list[dict[str, Any]]:
    """Customers whose personal values are searched for."""
    return [
        lake.customer(n, FIRST_DAY, name=f"Canary{n} Canary{n}", email=f"canary{n}@x.org")
        for n in range(1, 9)
    ]


@pytest.mark.slow
def test_no_value_of_a_row_leaves_the_warehouse_when_marts_fail(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil(tmp_path)
    home = tmp_path / "home"
    settings = load_settings("local", home=home, project=tmp_path)
    settings = settings.model_copy(update={"retries": RetrySettings(max=0)})
    contracts = load_contracts(PROJECT / "contracts")
    lake = SyntheticLake(str(home / "lake"), contracts)
    lake.create()
    lake.deliver(0)
    lake.merge("gold.dim_customer", FIRST_DAY, canaries(lake))
    with open_instance(settings) as instance:
        outcome = execute(build_definitions(settings, contracts=contracts), "all_marts", instance)
        run = instance.get_run_by_id(outcome.run_id)
        alerts = alerts_of(finished_run(instance, run, False, ""), "local")
        events = [repr(e) for e in instance.all_logs(outcome.run_id)]
    assert not outcome.success
    failed = {"model spoilt", "accepted_values_current_customers_name__nobody"}
    assert all(any(f in x.reason for x in outcome.failures) for f in failed), outcome.failures
    out, err = capfd.readouterr()
    places = {
        str(path): path.read_bytes()
        for folder in (home / "dbt", home / "dagster", tmp_path / "dbt_project")
        for path in folder.rglob("*")
        if path.is_file()
    }
    places |= {
        "outcome": repr(outcome).encode(),
        "alerts": repr(alerts).encode(),
        "output": (out + err).encode(),
        "events": "".join(events).encode(),
    }
    assert any(name.endswith("run_results.json") for name in places)
    leaks = {name: m.span() for name, content in places.items() if (m := CANARY.search(content))}
    assert not leaks, {n: places[n][max(0, a - 200) : b + 40] for n, (a, b) in leaks.items()}
