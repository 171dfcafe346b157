"""Jobs of EMR Serverless as values: their settings, what they are started with, what their logs say.

Not here: jobs that run (tests/integration/test_emr_runner.py).
"""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
import yaml

from lakehouse.artifacts.artifact import Artifact
from lakehouse.artifacts.store import FolderStore
from lakehouse.assets.checks import cost_evaluation
from lakehouse.definitions import build_definitions
from lakehouse.engines.emr import cost_of, start_parameters
from lakehouse.engines.emr_job import _fits
from lakehouse.engines.job_logs import error_in
from lakehouse.engines.remote import Attempt, Shipment
from lakehouse.settings.artifacts import Target
from lakehouse.settings.emr import EmrPrices, EmrSettings, Worker
from lakehouse.settings.load import load_settings
from lakehouse.settings.references import SettingsError
from spark_jobs.contract.reader import load_contracts
from spark_jobs.report import ZONES, Job, PartitionReport, RunSpec, TableReport
from tests import documents
from tests.documents import PROJECT
from tests.unit.test_settings import written

EXAMPLE, TOGETHER = [
    yaml.safe_load(b.text)
    for b in documents.blocks(PROJECT / "docs/how-to/emr-serverless.md")
    if b.language == "yaml"
]


def settings(**more: object) -> EmrSettings:
    return EmrSettings(**{**EXAMPLE["emr"], **more})


def shipment(number: int = 0) -> Shipment:
    artifact = Artifact(
        version="0123456789abcdef",
        target=Target(python="3.12"),
        wheel="dist/w.whl",
        code="dist/c.zip",
        packages="dist/packages/p.tar.gz",
        entry_point="jobs/run.py",
        contracts="dq/v",
        contracts_sha256="0" * 64,
        spark={"spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension"},
    )
    zones = {zone: f"s3://lake/{zone}" for zone in ZONES}
    spec = RunSpec(table="gold.fact_sales", contracts="installed:", zones=zones, run_id="r" * 36)
    attempt = Attempt("r" * 36, "gold__fact_sales", number)
    return Shipment(attempt, artifact, spec, FolderStore("s3://artifacts"))


def test_the_documented_settings_load_and_a_table_may_differ_from_the_others(
    tmp_path: Path,
) -> None:
    loaded = load_settings("local", folder=written(tmp_path, **EXAMPLE), home=tmp_path)
    assert loaded.emr is not None
    others, sales = loaded.emr.job("silver.orders"), loaded.emr.job("gold.fact_sales")
    assert (others.max_executors, sales.max_executors) == (8, 30)
    assert (others.timeout_minutes, sales.timeout_minutes) == (45, 120)
    assert sales.executor == others.executor and sales.application == others.application
    assert loaded.emr.job("bronze.sensor_readings").application == "00f1abcdefgh2k10"
    assert settings(**TOGETHER["emr"]).together == ["bronze", "silver"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"emr": None}, "emr: missing; add it"),
        ({"artifacts": {"location": "artifacts"}}, r"artifacts.location: must be in a bucket"),
    ],
)
def test_what_jobs_need_is_asked_for_when_the_definitions_load(
    tmp_path: Path, changes: dict, said: str
) -> None:
    given = written(tmp_path, **(EXAMPLE | changes))
    with pytest.raises(SettingsError, match=said):
        build_definitions(load_settings("local", folder=given, home=tmp_path), marts=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"execution_role": "lakehouse-jobs"},
        {"driver": {"memory": "6 GB"}},
        {"spark": {"spark.executor.memory": "1g"}},
        {"spark": {"spark.emr-serverless.driverEnv.PYTHONPATH": "."}},
        {"spark": {"hive.metastore": "x"}},
    ],
    ids=str,
)
def test_what_the_service_or_the_platform_would_not_take_is_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match="validation error"):
        settings(**changes)


def test_a_job_is_started_with_lists_and_maps_that_nothing_has_to_take_apart() -> None:
    found = settings()
    given = start_parameters(shipment(), found.job("gold.fact_sales"), found, "s3://logs")
    submit = given["jobDriver"]["sparkSubmit"]
    assert submit["entryPoint"] == "s3://artifacts/jobs/run.py"
    spec = f"s3://artifacts/runs/{'r' * 36}/gold__fact_sales/0/spec.json"
    assert submit["entryPointArguments"] == ["run", "--spec", spec]
    (defaults,) = given["configurationOverrides"]["applicationConfiguration"]
    properties = defaults["properties"]
    assert properties["spark.dynamicAllocation.maxExecutors"] == "30"
    assert properties["spark.executor.memory"] == "14g"
    assert properties["spark.executorEnv.PYSPARK_PYTHON"] == "/usr/bin/python3.12"
    assert properties["spark.archives"] == (
        "s3://artifacts/dist/c.zip#code,s3://artifacts/dist/packages/p.tar.gz#packages"
    )
    assert given["executionTimeoutMinutes"] == 120
    assert given["tags"] == {"team": "data-platform", "lakehouse/table": "gold.fact_sales"}


def test_an_attempt_has_one_token_and_the_next_has_another() -> None:
    assert shipment().attempt.token == shipment().attempt.token != shipment(1).attempt.token
    assert 1 <= len(shipment().attempt.token) <= 64


def test_a_job_costs_what_it_was_billed_for_and_nobody_knows_what_if_it_was_not() -> None:
    prices = EmrPrices(vcpu=0.05, memory_gb=0.005, storage_gb=0.0001)
    billed = {"vCPUHour": 2.0, "memoryGBHour": 8.0, "storageGBHour": 40.0}
    assert cost_of(billed, prices) == pytest.approx(0.144)
    assert cost_of({}, prices) is None


@pytest.mark.parametrize(
    ("cost", "passed"), [(0.3, True), (0.301, False), (None, False)], ids=["within", "over", "none"]
)
def test_a_budget_is_that_of_a_partition_and_an_unknown_cost_is_over_it(
    cost: float | None, passed: bool
) -> None:
    contract = load_contracts(PROJECT / "contracts")["silver.orders"]
    days = [PartitionReport(partition=f"2026-10-0{n}", status="published") for n in (5, 6, 7)]
    report = TableReport(
        table="silver.orders", run_id="r", batch_id="b", engine="ambient", contract_version="1",
        transform_version="t", partitions=days,
        job=Job(service="EMR Serverless", id="j", cost=cost, currency="USD"),
    )  # fmt: skip
    found = cost_evaluation(contract, report, budget=0.1)
    assert (found.passed, found.severity) == (passed, dg.AssetCheckSeverity.WARN)


@pytest.mark.parametrize(
    ("cpu", "memory", "fits"),
    [("2 vCPU", "8 GB", True), ("2 vCPU", "6 GB", False), ("1 vCPU", "8 GB", False)],
)
def test_a_worker_fits_a_pre_initialized_one_with_its_overhead(
    cpu: str, memory: str, fits: bool
) -> None:
    assert _fits(Worker(cores=2, memory="6g"), {"cpu": cpu, "memory": memory}) == fits


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("26/11 WARN a: b\nINFO fine\n", ""),
        (
            "Traceback (most recent call last):\n  File 'run.py', line 1\nValueError: no\nINFO bye",
            "Traceback (most recent call last):\n  File 'run.py', line 1\nValueError: no\nINFO bye",
        ),
        (
            "java.lang.OutOfMemoryError: Java heap space\n\tat java.base/java.util.Arrays\n",
            "java.lang.OutOfMemoryError: Java heap space",
        ),
        ("error: first\nmore\nerror: --spec is none\n", "error: --spec is none"),
    ],
    ids=["none", "python", "memory", "ours"],
)
def test_the_error_in_a_log_is_the_last_one_without_the_frames_of_a_jvm(
    log: str, said: str
) -> None:
    assert error_in(log) == said
