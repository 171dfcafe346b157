"""Assets follow from contracts, and a run of a range says exactly which partitions are good."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from lakehouse.assets.tables import asset_spec
from lakehouse.definitions import build_definitions
from lakehouse.failures import delay
from lakehouse.keys import KIND_TAG, MART, TABLE, asset_key, landing_key, range_tags
from lakehouse.local.execution import QUIET, MartResult, execute
from lakehouse.local.instance import instance_config
from lakehouse.settings.engines import EngineSettings
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.settings.operations import RetrySettings
from lakehouse.settings.references import SettingsError
from spark_jobs.contract.checks import declared as declared_checks
from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contracts
from spark_jobs.errors import ConflictError, InputError
from spark_jobs.report import Check
from tests.fake_plane import AnyPlane, FakePlane

PROJECT = Path(__file__).parents[2]
ORDERS, DAYS = "bronze.orders", ("2026-10-05", "2026-10-09")
CLOSED = [
    Check(
        name="quarantine_rate",
        passed=False,
        blocking=True,
        observed=0.4,
        threshold="<= 0.05 of rows read",
        failing_rows=4,
    )
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    loaded = load_settings("local", home=tmp_path_factory.mktemp("home"), project=PROJECT)
    return loaded.model_copy(update={"retries": RetrySettings(max=3, delay_seconds=0)})


@pytest.fixture(scope="module")
def contracts(settings: Settings) -> dict[str, Contract]:
    return load_contracts(settings.contracts)


@pytest.fixture(scope="module")
def switch() -> AnyPlane:
    return AnyPlane()


@pytest.fixture(scope="module")
def definitions(
    settings: Settings, contracts: dict[str, Contract], switch: AnyPlane
) -> dg.Definitions:
    return build_definitions(
        settings, contracts=contracts, marts=False, embedded=switch, lake_ledger=switch
    )


@pytest.fixture(scope="module")
def graph(definitions: dg.Definitions) -> Any:
    return definitions.resolve_asset_graph()


@dataclass
class Lake:
    """The definitions over a fake data plane, on an instance of its own."""

    definitions: dg.Definitions
    switch: AnyPlane
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)

    def run(
        self,
        plane: FakePlane,
        tables: tuple[str, ...] = (ORDERS,),
        days: tuple[str, str] = DAYS,
        **tags: str,
    ) -> dg.ExecuteInProcessResult:
        self.switch.plane = plane
        return self.definitions.resolve_job_def("lake_daily").execute_in_process(
            instance=self.instance,
            asset_selection=[asset_key(t) for t in tables],
            tags=range_tags(*days) | tags,
            run_config=QUIET,
            raise_on_error=False,
        )

    def materialized(self, table: str) -> set[str]:
        return self.instance.get_materialized_partitions(asset_key(table))


@pytest.fixture
def lake(definitions: dg.Definitions, switch: AnyPlane) -> Lake:
    return Lake(definitions, switch)


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    found = [
        e.asset_check_evaluation_data
        for e in result.all_events
        if e.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    names = [e.check_name for e in found]
    assert len(names) == len(set(names)), "one evaluation per check and run"
    return {e.check_name: e for e in found}


def step_failure(result: dg.ExecuteInProcessResult) -> Any:
    (failed,) = [e for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_FAILURE]
    return failed.step_failure_data.user_failure_data


# -- what an asset is ------------------------------------------------------------------------


def test_every_contract_and_every_dataset_is_an_asset_and_nothing_else_is(
    graph: Any, contracts: Any
) -> None:
    datasets = {c.source.dataset for c in contracts.values() if c.source}
    tables, landing = {asset_key(t) for t in contracts}, {landing_key(d) for d in datasets}
    assert graph.get_all_asset_keys() == tables | landing
    assert graph.external_asset_keys == landing, "others deliver them"
    orders = graph.get(landing_key("orders"))
    assert orders.child_keys == {asset_key("bronze.orders")}
    assert orders.partitions_def == graph.get(asset_key("bronze.orders")).partitions_def


def test_a_run_tells_a_mart_from_a_table_by_what_it_says_it_is() -> None:
    """And not by what its materialization does not say."""

    @dg.asset(key=["gold", "calendar"], tags={KIND_TAG: TABLE})
    def calendar() -> None: ...

    @dg.asset(key=["sales", "revenue"], tags={KIND_TAG: MART})
    def revenue() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"dagster/row_count": 3, "transform_version": "1"})

    definitions = dg.Definitions([calendar, revenue], jobs=[dg.define_asset_job("both")])
    with dg.instance_for_test() as instance:
        outcome = execute(definitions, "both", instance)
    assert outcome.marts == [MartResult("sales.revenue", 3, None, unchanged=False)]


def test_every_table_says_that_it_is_one(graph: Any, contracts: Any) -> None:
    assert {graph.get(asset_key(t)).tags[KIND_TAG] for t in contracts} == {TABLE}


def test_dependencies_are_the_contracts_inputs_and_references(graph: Any, contracts: Any) -> None:
    for table, contract in contracts.items():
        parents = graph.get(asset_key(table)).parent_keys
        landing = {landing_key(contract.source.dataset)} if contract.source else set()
        assert parents == landing | {asset_key(t) for t in contract.upstream}, table


def test_partitions_are_the_contracts_arrival_windows(graph: Any, contracts: Any) -> None:
    kinds = {
        "daily": dg.DailyPartitionsDefinition,
        "hourly": dg.HourlyPartitionsDefinition,
        None: type(None),
    }
    for table, contract in contracts.items():
        definition = graph.get(asset_key(table)).partitions_def
        assert isinstance(definition, kinds[contract.partitioning]), table
    hours = graph.get(asset_key("bronze.sensor_readings")).partitions_def
    assert hours.get_first_partition_key() == "2026-10-05T00"


def test_backfills_are_one_run_for_a_whole_range(graph: Any, contracts: Any) -> None:
    for table, contract in contracts.items():
        policy = graph.get(asset_key(table)).backfill_policy
        assert (policy == dg.BackfillPolicy.single_run()) == (contract.partitioning is not None)


def test_every_check_of_the_data_plane_is_declared(graph: Any, contracts: Any) -> None:
    for table, contract in contracts.items():
        key = asset_key(table)
        declared = {(k.name, graph.get(k).blocking) for k in graph.get_check_keys_for_assets({key})}
        assert declared == {(c.name, c.blocking) for c in declared_checks(contract)}, table


def test_an_asset_tells_owner_group_kinds_tags_and_description(graph: Any, contracts: Any) -> None:
    for table, contract in contracts.items():
        node = graph.get(asset_key(table))
        assert node.owners == [f"team:{contract.owner}"]
        assert node.group_name == contract.layer
        assert node.kinds == {contract.layer, "deltalake", "pyspark"}
        assert node.tags["domain"] == contract.domain
        assert node.description == contract.description
        assert node.code_version.startswith(f"{contract.version}-")


@pytest.mark.parametrize("runner", ["emr", "databricks"])
def test_an_asset_that_runs_on_a_service_is_of_its_kind(contracts: Any, runner: Any) -> None:
    orders = dataclasses.replace(contracts[ORDERS], runner=runner)
    spec = asset_spec(orders, contracts, load_settings("local"))
    assert spec.kinds == {"bronze", "deltalake", runner}


def test_an_asset_names_its_contract_as_the_project_does(graph: Any, contracts: Any) -> None:
    for table, contract in contracts.items():
        shown = graph.get(asset_key(table)).metadata["contract"]
        path = f"contracts/{contract.layer}/{contract.name}.yaml"
        assert shown == f"{path} {contract.version}", "no path of this machine"


def test_column_schema_has_types_constraints_and_classification(graph: Any, contracts: Any) -> None:
    schema = graph.get(asset_key("silver.customers")).metadata["dagster/column_schema"]
    columns = {c.name: c for c in schema.columns}
    contract = contracts["silver.customers"]
    assert set(columns) == set(contract.column)
    assert columns["email"].tags == {"classification": "pii"}
    assert columns["customer_id"].constraints.nullable is False
    assert any("email_pattern" in c for c in columns["email"].constraints.other)


def test_column_lineage_leads_to_the_source_columns(graph: Any) -> None:
    lineage = graph.get(asset_key("silver.orders")).metadata["dagster/column_lineage"]
    assert {(d.asset_key, d.column_name) for d in lineage.deps_by_column["amount_usd"]} == {
        (asset_key("bronze.orders"), "total_price"),
        (asset_key("silver.fx_rates"), "rate_to_base"),
    }


def test_freshness_is_the_sla(graph: Any) -> None:
    policy = graph.get(asset_key("bronze.orders")).freshness_policy
    assert policy.fail_window.to_timedelta() == timedelta(hours=24 + 2)
    assert graph.get(asset_key("gold.dim_date")).freshness_policy is None


def test_loading_starts_no_engine_and_imports_none() -> None:
    code = (
        "import sys, lakehouse.definitions as d; d.build_definitions(marts=False);"
        "print([m for m in ('pyspark', 'pysail', 'duckdb') if m in sys.modules])"
    )
    path = f"{PROJECT}:{PROJECT / 'platform'}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={"PYTHONPATH": path, "PATH": "", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_there_is_a_job_for_the_lake_each_layer_and_each_domain(
    definitions: dg.Definitions, contracts: Any
) -> None:
    jobs = {job.name for job in definitions.jobs or ()}
    assert {"lake_daily", "lake_hourly"} <= jobs
    assert {f"{layer}_daily" for layer in ("bronze", "silver", "gold")} <= jobs
    for contract in contracts.values():
        assert f"{contract.domain}_{contract.partitioning or 'daily'}" in jobs


def test_run_retries_are_for_crashes_and_not_for_failed_steps(
    settings: Settings, definitions: dg.Definitions
) -> None:
    config = instance_config(settings)["run_retries"]
    assert config == {"enabled": True, "max_retries": 3, "retry_on_asset_or_op_failure": False}
    for job in definitions.jobs or ():
        assert job.tags["dagster/retry_on_asset_or_op_failure"] == "false"


def test_a_table_whose_runner_has_no_settings_fails_when_definitions_load(
    settings: Settings, contracts: Any
) -> None:
    orders = dataclasses.replace(contracts[ORDERS], runner="emr")
    with pytest.raises(SettingsError, match="emr: missing; add it"):
        build_definitions(settings, contracts=contracts | {ORDERS: orders}, marts=False)


def test_the_jvm_engine_lends_its_session_as_dagster_pyspark_does(
    settings: Settings, contracts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster_pyspark import LazyPySparkResource

    from lakehouse.engines import session as spark_session

    jvm = settings.model_copy(update={"engine": EngineSettings(name="spark", memory="1g")})
    definition = build_definitions(jvm, contracts=contracts, marts=False).resources["pyspark"]
    asked = []
    engine = SimpleNamespace(spark="the engine's session")
    monkeypatch.setattr(spark_session, "shared_engine", lambda *key: asked.append(key) or engine)
    with dg.build_resources({"pyspark": definition}) as given:
        assert isinstance(given.pyspark, LazyPySparkResource)
        assert asked == [], "nothing starts before somebody wants it"
        assert given.pyspark.spark_session == "the engine's session"
    assert asked == [("spark", None, "1g", None)]


# -- what a run does -------------------------------------------------------------------------


def test_a_range_is_one_run_of_the_table_for_all_its_partitions(
    lake: Lake, settings: Settings
) -> None:
    plane = FakePlane()
    assert lake.run(plane).success
    (spec,) = plane.specs
    assert spec.partitions == [f"2026-10-{day:02d}" for day in range(5, 10)]
    assert spec.zones == settings.zones
    assert lake.materialized(ORDERS) == set(spec.partitions)


def test_every_partition_gets_its_own_row_accounting(lake: Lake) -> None:
    result = lake.run(FakePlane())
    events = result.asset_materializations_for_node("bronze__orders")
    assert [e.partition for e in events] == [f"2026-10-{day:02d}" for day in range(5, 10)]
    for event in events:
        values = {k: v.value for k, v in event.metadata.items()}
        assert (values["read"], values["published"], values["quarantined"]) == (10, 9, 1)
        assert values["delta_version"] == 3
    assert "quality_report" not in events[0].metadata, "the report is on the newest only"
    newest = events[-1].metadata
    assert "| 50 | 45 | 0 | 0 | 5 | 0 |" in newest["quality_report"].value
    assert "](data:image/svg+xml," in newest["last_partitions"].value


def test_one_bad_day_publishes_the_others_and_fails_naming_the_day(lake: Lake) -> None:
    plane = FakePlane(bad={(ORDERS, "2026-10-07"): CLOSED})
    result = lake.run(plane)
    assert not result.success
    good = {"2026-10-05", "2026-10-06", "2026-10-08", "2026-10-09"}
    assert lake.materialized(ORDERS) == good
    events = result.asset_materializations_for_node("bronze__orders")
    assert sorted(e.partition for e in events) == sorted(good), "each of them once"
    said = step_failure(result).description
    assert "1 of 5 partitions failed" in said
    assert "2026-10-07: quarantine_rate is 0.4, must be <= 0.05" in said


def test_a_failed_gate_shows_as_a_failed_check_with_its_reason(lake: Lake) -> None:
    plane = FakePlane(bad={(ORDERS, "2026-10-07"): CLOSED})
    found = evaluations(lake.run(plane))
    gate = found["quarantine_rate"]
    assert not gate.passed
    assert gate.severity == dg.AssetCheckSeverity.ERROR
    assert gate.description == "2026-10-07: 40% of rows read, must be <= 5%"
    assert "| 2026-10-07 | 4 |" in gate.metadata["failures"].value
    assert found["row_count"].passed


def test_a_partition_that_could_not_be_read_fails_its_row_count(lake: Lake) -> None:
    plane = FakePlane(bad={(ORDERS, "2026-10-07"): "nothing delivered: no files in landing"})
    found = evaluations(lake.run(plane))
    assert not found["row_count"].passed
    assert "2026-10-07: nothing delivered" in found["row_count"].description
    assert found["quarantine_rate"].description.startswith("Not evaluated for 2026-10-07")


def test_a_check_that_was_never_evaluated_has_not_passed(lake: Lake) -> None:
    plane = FakePlane(bad={(ORDERS, "2026-10-05"): "a truncated file"})
    result = lake.run(plane, days=("2026-10-05", "2026-10-05"))
    assert not any(e.passed for e in evaluations(result).values())


def test_a_check_stays_failed_until_the_bad_day_is_mended(lake: Lake) -> None:
    plane = FakePlane(bad={(ORDERS, "2026-10-05"): CLOSED})
    lake.run(plane, days=("2026-10-05", "2026-10-05"))
    plane.bad.clear()
    good = lake.run(plane, days=("2026-10-06", "2026-10-06"))
    assert good.success
    gate = evaluations(good)["quarantine_rate"]
    assert not gate.passed
    assert gate.description == "still failing from earlier runs: 2026-10-05"
    mended = lake.run(plane, days=("2026-10-05", "2026-10-05"))
    assert evaluations(mended)["quarantine_rate"].passed


def test_a_check_of_the_whole_table_is_about_the_table_as_it_was_measured_last(lake: Lake) -> None:
    def measured(files: int) -> Check:
        return Check(name="small_files", passed=files <= 10, severity="warn", observed=files,
                     threshold="<= 10 files per partition")  # fmt: skip

    monday, tuesday = "2026-10-05", "2026-10-06"
    plane = FakePlane(warned={(ORDERS, monday): [measured(12)], (ORDERS, tuesday): [measured(2)]})
    many = evaluations(lake.run(plane, days=(monday, monday)))["small_files"]
    assert not many.passed
    assert many.description == "2026-10-05: 12 files per partition, must be <= 10"
    assert evaluations(lake.run(plane, days=(tuesday, tuesday)))["small_files"].passed


def test_a_broken_rule_of_rows_warns_and_does_not_stop_anything(lake: Lake) -> None:
    drift = Check(name="schema_drift", passed=False, severity="warn", observed=1,
                  threshold="= 0 columns", detail="new column x (samples: 1, 2)")  # fmt: skip
    plane = FakePlane(warned={(ORDERS, "2026-10-06"): [drift]})
    result = lake.run(plane)
    assert result.success
    found = evaluations(result)["schema_drift"]
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert "new column x" in found.description


def test_downstream_of_a_failed_gate_does_not_run_and_other_branches_do(lake: Lake) -> None:
    plane = FakePlane(bad={("bronze.customers", "2026-10-07"): CLOSED})
    tables = ("bronze.customers", "silver.customers", "gold.dim_customer", "bronze.products")
    tables = (*tables, "silver.products")
    assert not lake.run(plane, tables=tables).success
    assert set(plane.tables) == {"bronze.customers", "bronze.products", "silver.products"}


def test_a_permanent_failure_is_not_retried(lake: Lake) -> None:
    plane = FakePlane(raises={ORDERS: [InputError("bronze.orders: no such folder")]})
    result = lake.run(plane)
    assert len(plane.specs) == 1
    assert step_failure(result).description == "bronze.orders: no such folder"


def test_a_defect_in_code_is_not_retried_either(lake: Lake) -> None:
    plane = FakePlane(raises={ORDERS: [TypeError("unhashable")]})
    result = lake.run(plane)
    assert len(plane.specs) == 1
    assert step_failure(result).description == "bronze.orders: TypeError: unhashable"


@pytest.mark.parametrize("error", [ConflictError("busy"), ConnectionError("reset")])
def test_a_transient_error_is_retried(lake: Lake, error: Exception) -> None:
    plane = FakePlane(raises={ORDERS: [error, error]})
    assert lake.run(plane).success
    assert len(plane.specs) == 3


def test_retries_end_after_three(lake: Lake) -> None:
    plane = FakePlane(raises={ORDERS: [ConflictError("busy")] * 9})
    result = lake.run(plane)
    assert len(plane.specs) == 4
    assert step_failure(result).description == "bronze.orders: busy\nThis was attempt 4 of 4."


def test_an_error_that_became_permanent_says_which_attempt_it_was(lake: Lake) -> None:
    plane = FakePlane(raises={ORDERS: [ConflictError("busy"), InputError("it is gone")]})
    result = lake.run(plane)
    assert len(plane.specs) == 2
    assert step_failure(result).description == "bronze.orders: it is gone\nThis was attempt 2 of 4."


def test_retries_wait_longer_each_time() -> None:
    settings = RetrySettings(max=3, delay_seconds=10)
    for attempt, expected in enumerate((10, 20, 40)):
        assert 0.8 * expected <= delay(settings, attempt) <= 1.2 * expected


def test_an_interrupted_step_is_not_begun_again(lake: Lake) -> None:
    plane = FakePlane(raises={ORDERS: [dg.DagsterExecutionInterruptedError()]})
    assert not lake.run(plane, tables=(ORDERS, "bronze.products")).success
    assert plane.tables == [ORDERS], "and nothing after it is"


def test_personal_data_in_a_sample_is_masked(lake: Lake) -> None:
    sample = [
        {
            "partition": "2026-10-05",
            "rules": ["customer_id_not_null"],
            "record": '{"customer_id": null, "email": "ada@lovelace.org", "country": "GB"}',
            "source_file": "/lake/landing/customers/2026-10-05/customers.parquet",
        },
        {"partition": "2026-10-05", "rules": ["parsable"], "record": "{ada@lovelace.org"},
    ]
    table = "silver.customers"
    plane = FakePlane(sample=sample)
    result = lake.run(plane, tables=(table,))
    (*_, newest) = result.asset_materializations_for_node("silver__customers")
    shown = newest.metadata["quarantine_sample"].value
    assert "lovelace" not in shown
    assert '"country": "GB"' in shown
    assert "customer_id_not_null" in shown


def test_a_run_can_be_told_to_do_its_work_again(lake: Lake) -> None:
    plane = FakePlane()
    lake.run(plane, **{"lakehouse/force": "true"})
    assert plane.specs[0].force is True
