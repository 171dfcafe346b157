"""The whole sample, all planted faults in it, through every table on both engines.

Here: that each table, its accounting and its quarantine are the same, row by row. Not here: that
they are right; the end-to-end tests compare them with the answer sheet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest

from lakehouse.standins.data.delivery import DEFAULT_START, deliver
from spark_jobs.contract.reader import load_contracts
from spark_jobs.engines.session import Engine
from spark_jobs.lake.delta import open_table
from spark_jobs.lake.storage import ZONES
from spark_jobs.report import TableReport
from spark_jobs.run import run_table
from tests.conformance.agreement import accounted, differences, published, rejected
from tests.lakes import TinyLake

pytestmark = [pytest.mark.jvm, pytest.mark.slow]
PROJECT = Path(__file__).parents[2]
CONTRACTS = load_contracts(PROJECT / "contracts")  # in the order of their inputs
DAYS = 6  # by then nine of ten kinds of fault have been delivered


@dataclass(frozen=True)
class Sample:
    """One delivery in two lakes, and what each run of a table in them said."""

    lakes: dict[str, TinyLake]
    reports: dict[str, dict[str, TableReport]]
    expected_rows: dict[str, int]


@pytest.fixture(scope="module")
def sample(sail: Engine, spark: Engine, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    root = tmp_path_factory.mktemp("sample")
    deliver(root / "landing", root / "answers.json", days=DAYS, scale=0.002)
    answers = json.loads((root / "answers.json").read_text())
    made = Sample({}, {}, answers["final"])
    for engine in (sail, spark):
        zones = {z: str(root / engine.name / z) for z in ZONES} | {"landing": str(root / "landing")}
        lake = TinyLake(root, engine, zones=zones)
        made.lakes[engine.name] = lake
        made.reports[engine.name] = {
            table: run_table(lake.spec(table, *_partitions(table)), engine, CONTRACTS)
            for table in CONTRACTS
        }
    return made


def _partitions(table: str) -> list[str]:
    days = [date.isoformat(DEFAULT_START + timedelta(n)) for n in range(DAYS)]
    hours = [f"{day}T{hour:02d}" for day in days for hour in range(24)]
    return {"daily": days, "hourly": hours, None: []}[CONTRACTS[table].partitioning]


@pytest.mark.parametrize("table", CONTRACTS)
def test_a_table_of_the_sample_is_the_same_on_both_engines(sample, table):
    ours, reference = (sample.reports[e][table] for e in ("sail", "spark"))
    assert accounted(ours) == accounted(reference)
    assert not ours.failed
    ours, reference = sample.lakes["sail"], sample.lakes["spark"]
    assert not differences(sail=published(ours, table), spark=published(reference, table))
    assert not differences(sail=rejected(ours, table), spark=rejected(reference, table))


@pytest.mark.parametrize("table", CONTRACTS)
def test_a_table_of_the_sample_has_the_same_columns_and_rows_as_its_contract(sample, table):
    types = {}
    for engine, lake in sample.lakes.items():
        opened = open_table(lake.lake.table(table), lake.lake.storage)
        types[engine] = opened.schema().to_json()
        assert opened.count() == sample.expected_rows.get(table, opened.count())
    assert types["sail"] == types["spark"]


def test_most_kinds_of_fault_are_in_the_sample(sample):
    """Else the comparison would compare little."""
    fired = {
        check.name
        for report in sample.reports["sail"].values()
        for partition in report.partitions
        for check in partition.checks
        if check.failing_rows
    }
    kinds = {
        "_not_null",
        "_type",
        "_range",
        "_reference",
        "_accepted_values",
        "parsable",
        "_pattern",
    }
    assert {kind for kind in kinds if any(name.endswith(kind) for name in fired)} == kinds
