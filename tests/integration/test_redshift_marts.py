"""The marts in Redshift are those in DuckDB, row by row, built by dbt through Dagster from one lake."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner

from lakehouse.cli import main
from lakehouse.definitions import build_definitions
from lakehouse.governance.masking import MASK
from lakehouse.keys import range_tags
from lakehouse.marts.dbt import dbt_environment
from lakehouse.marts.recompute import comparable, differences
from lakehouse.marts.sources import STAGED
from lakehouse.settings.lake import LakeSettings
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.settings.operations import RetrySettings
from lakehouse.settings.sources import SourceSettings
from lakehouse.sources.cursors import cursors_of
from lakehouse.sources.extract import extract
from lakehouse.sources.registry import dataset_of
from spark_jobs.contract.reader import load_contract, load_contracts
from tests.integration.synthetic_lake import FIRST_DAY, SyntheticLake
from tests.integration.test_canaries import CANARY
from tests.integration.test_mart_canaries import canaries, spoil
from tests.integration.test_marts_build import PROJECT, TABLES, Marts
from tests.lakes import bronze, column
from tests.warehouse import PASSWORD, Cloud, settings_of, source_of

pytestmark = pytest.mark.slow
CONTRACTS = load_contracts(PROJECT / "contracts")


class RedshiftMarts:
    """The marts over a lake on S3, loaded and built through Dagster."""

    def __init__(
        self, cloud: Cloud, home: Path, name: str, project: Path = PROJECT, **changes: Any
    ) -> None:
        self.cloud = cloud
        self.roles = {r: f"{name}-{r}" for r in ("raw", "processed", "curated")}
        for bucket in self.roles.values():
            cloud.bucket(bucket)
        local = load_settings("local", home=home, project=project)
        options = dict(cloud.storage.options)
        self.settings: Settings = local.model_copy(
            update={
                "lake": LakeSettings(buckets=self.roles, storage_options=options),
                "warehouse": settings_of(cloud, readers=("loader",), **changes),
                "retries": RetrySettings(max=0),
                "partitions": local.partitions.model_copy(update={"start": FIRST_DAY}),
            }
        )
        self.definitions = build_definitions(self.settings, contracts=CONTRACTS)

    def deliver(self, lake: SyntheticLake) -> None:
        """Brings the lake on S3 to what a local one is: logs name files by relative paths."""
        for table in STAGED:
            here = Path(lake.uri(table))
            layer, _, name = table.partition(".")
            for path in sorted(p for p in here.rglob("*") if p.is_file()):
                uri = f"{self.settings.zones[layer]}/{name}/{path.relative_to(here)}"
                fs, there = self.cloud.storage.filesystem(uri)
                with fs.open_output_stream(there) as stream:
                    stream.write(path.read_bytes())

    def build(
        self, *keys: str, days: tuple[str, str] | None = None, **config: Any
    ) -> dg.ExecuteInProcessResult:
        job = self.definitions.resolve_job_def("all_marts")
        return job.execute_in_process(
            asset_selection=[dg.AssetKey(k.split(".")) for k in keys] or None,
            run_config={"ops": {"marts": {"config": config}}} if config else None,
            tags=range_tags(*days) if days else None,
            raise_on_error=False,
        )

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        found = {}
        for table in TABLES:
            rows = self.cloud.redshift.execute(f"select * from {table}")
            found[table] = sorted(repr(tuple(map(_plain, r))) for r in rows)
        return found


def _plain(value: Any) -> Any:
    return value.replace(tzinfo=None) if hasattr(value, "tzinfo") else value


class Both:
    """One lake, the marts of it in DuckDB and in Redshift."""

    def __init__(self, cloud: Cloud, home: Path) -> None:
        self.duckdb = Marts(home / "duckdb")
        self.redshift = RedshiftMarts(cloud, home / "redshift", "both")
        self.duckdb.lake.create()
        for day in range(4):
            self.duckdb.lake.deliver(day)

    def build(self) -> dg.ExecuteInProcessResult:
        assert self.duckdb.build().success
        self.redshift.deliver(self.duckdb.lake)
        return self.redshift.build()

    def equal(self) -> bool:
        theirs = {
            t: sorted(repr(tuple(map(_plain, r.values()))) for r in self.duckdb.rows(t))
            for t in TABLES
        }
        return self.redshift.contents() == theirs


@pytest.fixture(scope="module")
def both(
    running_cloud: Cloud, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Both, dg.ExecuteInProcessResult]]:
    running_cloud.redshift.reset()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in running_cloud.environment.items():
            patch.setenv(name, value)
        both = Both(running_cloud, tmp_path_factory.mktemp("both"))
        yield both, both.build()


def test_every_mart_equals_that_of_duckdb_row_by_row(both) -> None:
    marts, result = both
    assert result.success
    assert marts.equal()
    assert all(rows for rows in marts.redshift.contents().values())


def test_dagster_shows_tables_loads_and_marts_with_rows_and_checks(both) -> None:
    marts, result = both
    graph = marts.redshift.definitions.resolve_asset_graph()
    load = dg.AssetKey(["warehouse", "gold", "fact_sales"])
    assert graph.get(load).parent_keys == {dg.AssetKey(["gold", "fact_sales"])}
    assert graph.get(load).child_keys == {dg.AssetKey(["staging", "stg_fact_sales"])}
    made = {e.asset_key: e.materialization for e in result.get_asset_materialization_events()}
    for table in STAGED:
        rows = made[dg.AssetKey(["warehouse", *table.split(".")])].metadata["dagster/row_count"]
        assert rows.value == len(marts.duckdb.lake.rows(table))
    for table in TABLES:
        rows = made[dg.AssetKey(table.split("."))].metadata["dagster/row_count"]
        assert rows.value == len(marts.duckdb.rows(table))
    checks = result.get_asset_check_evaluations()
    assert all(c.passed for c in checks)
    assert {c.check_name for c in checks} >= {"reconciled", "unique_customer_metrics_customer_id"}


def test_a_mart_is_read_back_as_any_dataset_of_redshift_and_after_it_was_built(
    both, tmp_path, monkeypatch
) -> None:
    marts, _ = both
    mine = marts.redshift.settings
    columns = [column(n) for n in ("customer_id", "order_count", "net_revenue_usd")]
    document = bronze("customer_metrics", "csv", *columns)
    for given in document["customProperties"]:
        if given["property"] == "source":
            given["value"] = {"kind": "redshift", "dataset": "customer_metrics", "format": "csv",
                              "table": "sales.customer_metrics"}  # fmt: skip
    path = tmp_path / "bronze/customer_metrics.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(document))
    contract = load_contract(path)
    tempdir = f"{marts.redshift.cloud.bucket('both-temp')}/unloaded"
    there = source_of(marts.redshift.cloud, tempdir)
    settings = mine.model_copy(update={"sources": SourceSettings(redshift=there), "home": tmp_path})
    graph = build_definitions(
        settings, contracts=CONTRACTS | {contract.table: contract}
    ).resolve_asset_graph()
    landing = dg.AssetKey(["landing", "customer_metrics"])
    assert graph.get(landing).parent_keys == {dg.AssetKey(["sales", "customer_metrics"])}
    assert graph.get(landing).child_keys == {dg.AssetKey(["bronze", "customer_metrics"])}
    (dataset, day) = dataset_of(settings, [contract]), FIRST_DAY.isoformat()
    done = extract(dataset, day, cursors_of(settings), datetime.now(UTC))
    (file,) = done.manifest.files
    fs, path = settings.storage.filesystem(f"{dataset.folder(day).uri}/{file.name}")
    with fs.open_input_file(path) as stream:
        rows = list(csv.DictReader(stream.read().decode().splitlines()))
    wanted = [
        {c: str(r[c]) for c in contract.column} for r in marts.duckdb.rows("sales.customer_metrics")
    ]
    assert sorted(rows, key=str) == sorted(wanted, key=str) and rows


def test_rows_lie_where_contracts_and_models_say(both) -> None:
    marts, _ = both
    sent = [" ".join(s.split()) for s in marts.redshift.cloud.redshift.statements]
    [sales] = {s for s in sent if s.startswith('create table if not exists gold."fact_sales"')}
    assert sales.endswith("diststyle key distkey (customer_id) compound sortkey (order_date)")
    metrics = next(s for s in sent if 'create table "analytics"."sales"."customer_metrics' in s)
    assert (
        "diststyle key distkey (customer_id)" in metrics
        and "compound sortkey(customer_id)" in metrics
    )


def test_readers_may_select_from_marts_and_from_nothing_else(both) -> None:
    marts, _ = both

    def may(table: str, what: str) -> bool:
        sql = f"select has_table_privilege('loader', '{table}', '{what}')"
        return marts.redshift.cloud.redshift.execute(sql)[0][0]

    for table in TABLES:
        assert may(table, "SELECT") and not may(table, "INSERT")
    for table in ("silver.orders", "gold.dim_customer", "lakehouse.loads"):
        assert not may(table, "SELECT")


def test_every_connection_has_a_time_limit_and_a_query_group(both) -> None:
    """Those of loads and reports, and of dbt for models, tests and itself."""
    marts, _ = both
    sent = [s.lower() for s in marts.redshift.cloud.redshift.statements]
    limited = [s for s in sent if s == "set statement_timeout to 1800000"]
    grouped = [s for s in sent if s == "set query_group to 'lakehouse'"]
    assert len(limited) == len(grouped) > 10


def test_a_statement_of_dbt_that_takes_too_long_is_cancelled(both) -> None:
    marts, _ = both
    settings = marts.redshift.settings
    environment = dbt_environment(settings) | {
        "DBT_ENV_SECRET_REDSHIFT_PASSWORD": PASSWORD,
        "LAKEHOUSE_REDSHIFT_STATEMENT_TIMEOUT": "300",
    }
    done = _dbt(settings, environment, "show", "--inline", "select pg_sleep(60)")
    assert done.returncode and "canceling statement due to statement timeout" in done.stdout


def test_a_second_run_builds_nothing_and_says_so(both) -> None:
    marts, _ = both
    sent = marts.redshift.cloud.redshift.statements
    before = len(sent)
    result = marts.redshift.build()
    assert result.success
    made = {e.asset_key: e.materialization for e in result.get_asset_materialization_events()}
    assert {m.metadata["status"].value for k, m in made.items() if k.path[0] != "landing"} == {
        "unchanged"
    }
    assert not [
        s
        for s in sent[before:]
        if re.match(r"(/\*.*\*/\s*)?(create (table|view) \"|delete|copy)", s, re.I)
    ]
    for table in TABLES:
        rows = made[dg.AssetKey(table.split("."))].metadata["dagster/row_count"]
        assert rows.value == len(marts.duckdb.rows(table))


def test_a_command_loads_tables_without_dagster(both, monkeypatch: pytest.MonkeyPatch) -> None:
    marts, _ = both
    monkeypatch.setattr("lakehouse.cli.load.load_settings", lambda: marts.redshift.settings)
    rows = len(marts.duckdb.lake.rows("silver.orders"))
    same = CliRunner().invoke(main, ["load"])
    assert same.exit_code == 0 and same.output.count(", unchanged") == len(STAGED)
    whole = CliRunner().invoke(main, ["load", "silver.orders", "--whole"])
    assert whole.exit_code == 0 and f"{rows} rows, {rows} rows in, 0 out" in whole.output
    monkeypatch.setattr("lakehouse.cli.load.load_settings", lambda: marts.duckdb.settings)
    refused = CliRunner().invoke(main, ["load"])
    assert refused.exit_code == 2 and "there is nothing to load" in refused.output


def test_a_range_of_days_is_computed_again_by_one_run_of_dbt(both) -> None:
    marts, _ = both
    redshift, runs = (
        marts.redshift.cloud.redshift,
        list((marts.redshift.settings.home / "dbt").iterdir()),
    )
    redshift.execute("update sales.customer_metrics set order_count = -1")
    names = comparable(marts.redshift.settings)
    found = differences(marts.redshift.settings, names)
    assert {f.table for f in found} == {"sales.customer_metrics"}
    result = marts.redshift.build(
        "sales.customer_metrics",
        days=(str(FIRST_DAY), str(FIRST_DAY + timedelta(days=3))),
        force=True,
    )
    assert result.success
    events = result.get_asset_materialization_events()
    assert [e.partition for e in events] == [str(FIRST_DAY + timedelta(days=d)) for d in range(4)]
    assert len(list((marts.redshift.settings.home / "dbt").iterdir())) == len(runs) + 1
    assert marts.equal()
    assert differences(marts.redshift.settings, names) == []


def _dbt(
    settings: Settings, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """dbt, as a developer runs it."""
    command = [Path(sys.executable).with_name("lakehouse-dbt"), *arguments, "--target", "redshift"]
    command += ["--project-dir", settings.dbt_project, "--profiles-dir", settings.dbt_project]
    command += ["--target-path", settings.home / "unit", "--log-path", settings.home / "unit"]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_unit_tests_of_models_pass(both) -> None:
    marts, _ = both
    settings = marts.redshift.settings
    environment = {**dbt_environment(settings), "DBT_ENV_SECRET_REDSHIFT_PASSWORD": PASSWORD}
    done = _dbt(settings, environment, "test", "--select", "test_type:unit")
    assert done.returncode == 0, done.stdout
    assert "Done. PASS=14 WARN=0 ERROR=0" in done.stdout


def test_an_incremental_build_equals_that_of_duckdb_whatever_happened(both) -> None:
    marts, _ = both
    lake = marts.duckdb.lake
    lake.deliver(4)
    lake.deliver(1)
    lake.delete("silver.orders", "order_id in (4, 105)")
    lake.delete("gold.dim_customer", "customer_id = 2")
    lake.merge("silver.accounts", FIRST_DAY, [lake.account(5, FIRST_DAY, customer_id=8)])
    result = marts.build()
    assert result.success and marts.equal()
    loads = [
        e.materialization.metadata
        for e in result.get_asset_materialization_events()
        if e.asset_key.path[0] == "warehouse"
    ]
    assert not any(m["whole"].value for m in loads if "whole" in m)


def test_no_value_of_a_row_leaves_the_warehouse_when_marts_fail(
    warehouse: Cloud, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil(tmp_path)
    marts = RedshiftMarts(warehouse, tmp_path / "home", "canaries", project=tmp_path)
    lake = SyntheticLake(str(tmp_path / "lake"), {t: CONTRACTS[t] for t in STAGED})
    lake.create()
    lake.deliver(0)
    lake.merge("gold.dim_customer", FIRST_DAY, canaries(lake))
    marts.deliver(lake)
    result = marts.build()
    assert not result.success
    failure = result.failure_data_for_node("marts").user_failure_data
    assert "model spoilt: Database Error in model spoilt" in failure.description
    assert "withheld" in failure.description and "SQLSTATE 22P02" in failure.description
    assert "cast(email as integer)" in failure.metadata["SQL of model spoilt"].md_str
    [check] = [c for c in result.get_asset_check_evaluations() if not c.passed]
    assert check.check_name == "accepted_values_current_customers_name__nobody"
    assert {r["value_field"] for r in check.metadata["sample"].data} == {MASK}
    home = marts.settings.home
    places = {str(p): p.read_bytes() for p in home.rglob("*") if p.is_file()}
    places["output"] = "".join(capfd.readouterr()).encode()
    places["events"] = "".join(map(repr, result.all_events)).encode()
    assert any(name.endswith("dbt.log") for name in places)
    leaks = [name for name, content in places.items() if CANARY.search(content)]
    assert not leaks
    secret = PASSWORD.encode()
    assert not [name for name, content in places.items() if secret in content]


def test_marts_over_external_tables_equal_those_over_loads(
    warehouse: Cloud, tmp_path: Path
) -> None:
    """Nothing is copied: Redshift reads the files of the version that was published last."""
    duckdb = Marts(tmp_path / "duckdb")
    duckdb.lake.create()
    duckdb.lake.deliver(0)
    marts = RedshiftMarts(
        warehouse, tmp_path / "home", "spectrum", lake="spectrum", glue_prefix="acme_"
    )
    for day in (1, 2):
        duckdb.lake.deliver(day)
        duckdb.lake.delete("gold.fact_sales", f"order_id = {day * 100}")
        if day == 2:  # a partition that is no more
            duckdb.lake.delete("gold.fact_sales", f"order_date = '{FIRST_DAY}'")
        assert duckdb.build().success
        marts.deliver(duckdb.lake)
        result = marts.build()
        assert result.success
        assert marts.contents() == {
            t: sorted(repr(tuple(map(_plain, r.values()))) for r in duckdb.rows(t)) for t in TABLES
        }
    assert not [s for s in warehouse.redshift.statements if s.lower().startswith("copy")]
    made = {e.asset_key: e.materialization for e in result.get_asset_materialization_events()}
    rows = made[dg.AssetKey(["warehouse", "gold", "fact_sales"])].metadata["dagster/row_count"]
    assert rows.value == len(duckdb.lake.rows("gold.fact_sales"))
