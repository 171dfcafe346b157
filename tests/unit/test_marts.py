"""The dbt project follows from the contracts, is described in full, and compiles for Redshift."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlglot
from click.testing import CliRunner
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, dbt_assets
from sqlglot import exp

from lakehouse.cli import main
from lakehouse.keys import KIND_TAG, MART
from lakehouse.marts import assets as mart_assets
from lakehouse.marts import dbt, sources
from lakehouse.marts.assets import build_marts
from lakehouse.marts.builds import (
    Build,
    CheckOutcome,
    Fingerprint,
    fingerprint,
    needs_full_refresh,
    opened,
    project_digest,
    read_builds,
    source_versions,
    unchanged,
    write_builds,
)
from lakehouse.marts.classification import undeclared
from lakehouse.marts.dbt import DbtProjectError, prepared_project
from lakehouse.marts.specs import asset_key
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.settings.operations import RetrySettings
from lakehouse.settings.references import Secret, SettingsError
from lakehouse.settings.warehouse import RedshiftWarehouse
from spark_jobs.contract.reader import load_contracts
from spark_jobs.errors import InputError
from spark_jobs.lake.storage import Storage

PROJECT = Path(__file__).parents[2]
MARTS = {
    "sales": {"customer_metrics", "top_spenders", "orders_fx"},
    "analytics": {
        "account_overview",
        "customer_360",
        "product_margins",
        "revenue_by_geography",
        "revenue_by_industry",
    },
    "finance": {"fx_week"},
}

REDSHIFT: dict[str, Any] = {
    "target": "redshift",
    "host": "h",
    "database": "d",
    "user": "u",
    "region": "eu-central-1",
    "cluster": "c",
    "role": "arn:aws:iam::123456789012:role/redshift-s3-access",
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings("local", home=tmp_path_factory.mktemp("home"), project=PROJECT)


@pytest.fixture(scope="module")
def manifest(settings: Settings) -> dict[str, Any]:
    return json.loads(prepared_project(settings).manifest_path.read_bytes())


@pytest.fixture(scope="module")
def models(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {n["name"]: n for n in manifest["nodes"].values() if n["resource_type"] == "model"}


@pytest.fixture(scope="module")
def marts(settings: Settings) -> dg.AssetsDefinition:
    assets, _ = build_marts(settings)
    return assets[0]


def test_assets_and_checks_are_those_that_dagster_dbt_derives(
    marts: dg.AssetsDefinition, manifest: dict[str, Any]
) -> None:
    class Keys(DagsterDbtTranslator):
        def get_asset_key(self, dbt_resource_props: dict[str, Any]) -> dg.AssetKey:
            return asset_key(manifest, dbt_resource_props["unique_id"])

    @dbt_assets(
        name="theirs",
        manifest=manifest,
        dagster_dbt_translator=Keys(DagsterDbtTranslatorSettings(enable_source_metadata=False)),
    )
    def theirs(): ...

    def of(spec: dg.AssetSpec) -> tuple[Any, ...]:
        told = ("dagster_dbt/unique_id", "dagster/table_name", "dagster/storage_kind",
                "dagster-dbt/materialization_type")  # fmt: skip
        return (
            spec.key, {d.asset_key for d in spec.deps}, spec.description, spec.code_version,
            spec.skippable, [spec.metadata[name] for name in told],
        )  # fmt: skip

    def of_check(spec: dg.AssetCheckSpec) -> tuple[Any, ...]:
        deps = {d.asset_key for d in spec.additional_deps}  # which theirs have in any order
        return (spec.description, spec.blocking, spec.metadata, deps)

    def by_key(specs: Iterable[Any]) -> dict[Any, Any]:
        return {spec.key: spec for spec in specs}

    assert {k: of(s) for k, s in by_key(marts.specs).items()} == {
        k: of(s) for k, s in by_key(theirs.specs).items()
    }
    assert {k: of_check(s) for k, s in by_key(marts.check_specs).items()} == {
        k: of_check(s) for k, s in by_key(theirs.check_specs).items()
    }
    assert marts.keys_by_output_name == theirs.keys_by_output_name
    assert marts.op.tags == theirs.op.tags
    assert marts.can_subset == theirs.can_subset


def copy_of_the_project(settings: Settings, folder: Path) -> Settings:
    ignored = shutil.ignore_patterns("target", "logs")
    shutil.copytree(settings.dbt_project, folder / "dbt_project", ignore=ignored)
    return settings.model_copy(update={"project": folder})


def test_sources_and_staging_are_what_the_contracts_say() -> None:
    for relative, text in sources.render(load_contracts(PROJECT / "contracts")).items():
        assert (PROJECT / "dbt_project" / relative).read_text() == text, (
            f"{relative} is out of date: run python -m lakehouse.marts.sources"
        )


def test_there_is_no_staging_model_beyond_the_generated_ones(models: dict[str, Any]) -> None:
    staged = {m for m, n in models.items() if n["fqn"][1] == "staging"}
    contracts = load_contracts(PROJECT / "contracts")
    assert staged == {f"stg_{contracts[t].name}" for t in sources.STAGED}


def test_every_mart_is_there_with_an_enforced_contract(models: dict[str, Any]) -> None:
    for schema, names in MARTS.items():
        found = {m: n for m, n in models.items() if n["schema"] == schema}
        assert found.keys() == names
        for node in found.values():
            assert node["config"]["contract"]["enforced"], node["name"]
            assert all(c["data_type"] for c in node["columns"].values()), node["name"]


def test_every_model_and_column_is_described(models: dict[str, Any]) -> None:
    for name, node in models.items():
        assert node["description"], name
        assert node["columns"], name
        for column in node["columns"].values():
            assert column["description"], f"{name}.{column['name']}"


def test_every_mart_has_a_key_test_and_an_exposure(manifest: dict[str, Any]) -> None:
    tests = [n for n in manifest["nodes"].values() if n["resource_type"] == "test"]
    keyed = {t.get("attached_node") for t in tests if t["name"].startswith("unique_")}
    exposed = {m for e in manifest["exposures"].values() for m in e["depends_on"]["nodes"]}
    wanted = {f"model.lakehouse_marts.{m}" for names in MARTS.values() for m in names}
    assert wanted <= keyed
    assert wanted <= exposed


def test_personal_columns_are_classified_where_they_come_from_personal_columns(
    manifest: dict[str, Any], models: dict[str, Any]
) -> None:
    personal = {
        (name, c["name"])
        for name, node in models.items()
        for c in node["columns"].values()
        if c["config"]["meta"].get("classification") == "pii"
    }
    assert {("customer_360", c) for c in ("first_name", "last_name", "email", "phone")} <= personal
    assert ("stg_dim_customer", "address") in personal


LEAK = """
select
    customer_id,
    upper(name) as label,
    substring(email, 1, 3) || country as code,
    count(email) over () as mails,
    'constant' as kind
from {{ ref('current_customers') }}
"""
DECLARED = """version: 2
models:
  - name: leak
    description: A mart
    config: {meta: {owner: data-platform, fresh_within_hours: 24}}
    columns:
      - name: customer_id
        description: Key
      - {name: label, description: Class as it should be, config: {meta: {classification: pii}}}
      - name: code
        description: No class
      - name: mails
        description: How many have an address
        config: {meta: {not_personal: a count over all customers}}
      - {name: kind, description: A constant}
"""


@pytest.mark.slow
def test_a_column_that_reads_a_personal_one_must_be_declared_personal(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = copy_of_the_project(settings, tmp_path)
    shutil.copytree(PROJECT / "contracts", tmp_path / "contracts")
    models = copied.dbt_project / "models"
    (models / "sales" / "leak.sql").write_text(LEAK)
    (models / "sales" / "leak.yml").write_text(DECLARED)
    properties = models / "intermediate" / "intermediate.yml"
    text = properties.read_text()
    phone = "      - name: phone\n        description: Phone number\n"
    assert text.count(phone) == 1
    begin, end = text.split(phone)
    properties.write_text(begin + phone + end.partition("\n")[2])
    with pytest.raises(DbtProjectError) as caught:
        prepared_project(copied)
    line = begin.count("\n") + 1
    said = str(caught.value).splitlines()
    assert [s.partition(": declare it with config")[0] for s in sorted(said)] == [
        f"{properties}:{line}: current_customers.phone reads the personal stg_dim_customer.phone",
        f"{models}/sales/leak.yml:10: leak.code reads the personal current_customers.email",
    ]
    monkeypatch.setattr("lakehouse.cli.check.load_settings", lambda: copied)
    checked = CliRunner().invoke(main, ["check"])
    assert checked.exit_code == 2 and "leak.code reads the personal" in checked.output


def test_columns_that_cannot_be_traced_are_no_columns_without_a_class(tmp_path: Path) -> None:
    node = {
        "resource_type": "model", "name": "m", "schema": "s", "patch_path": None,
        "original_file_path": "models/m.sql", "compiled_code": "select * from elsewhere",
        "columns": {"a": {"name": "a"}},
    }  # fmt: skip
    manifest = {"nodes": {"model.m": node}, "sources": {}, "parent_map": {"model.m": []}}
    manifest["metadata"] = {"adapter_type": "duckdb"}
    for sql in ("select * from elsewhere", "select from where"):
        node["compiled_code"] = sql
        (problem,) = undeclared(manifest, tmp_path)
        assert problem.startswith(f"{tmp_path}/models/m.sql: m: what its columns are made of")


def test_marts_are_assets_that_depend_on_the_tables_they_select_from(
    marts: dg.AssetsDefinition,
) -> None:
    wanted = {dg.AssetKey([s, m]) for s, names in MARTS.items() for m in names}
    assert wanted <= marts.keys
    outside = {d for deps in marts.asset_deps.values() for d in deps} - marts.keys
    assert outside == {dg.AssetKey(t.split(".")) for t in sources.STAGED}


def test_every_mart_says_that_it_is_one(marts: dg.AssetsDefinition) -> None:
    assert {spec.tags[KIND_TAG] for spec in marts.specs} == {MART}


def test_assets_carry_owner_group_kinds_tags_and_checks(marts: dg.AssetsDefinition) -> None:
    key = dg.AssetKey(["analytics", "customer_360"])
    spec = marts.specs_by_key[key]
    assert list(spec.owners) == ["team:data-platform"]
    assert spec.group_name == "marts"
    assert spec.freshness_policy is not None
    assert spec.kinds == {"dbt", "duckdb", "incremental"}
    assert spec.tags["personal-data"] == "true"
    columns = {c.name: c for c in spec.metadata["dagster/column_schema"].columns}
    assert columns["email"].tags == {"classification": "pii"}
    assert columns["total_orders"].constraints.nullable is False
    assert marts.op.pool == "warehouse"
    checks = {c.name for c in marts.check_keys if c.asset_key == key}
    assert {"unique_customer_360_customer_id", "not_null_customer_360_customer_id"} <= checks


def test_a_manifest_that_is_missing_is_made(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = copy_of_the_project(settings, tmp_path)
    parsed: list[Path] = []

    def parse(_: Settings, folder: Path) -> None:
        parsed.append(folder)
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")

    monkeypatch.setattr(dbt, "_prepare", parse)
    project = prepared_project(copied)
    assert parsed == [project.manifest_path.parent]
    prepared_project(copied)
    assert len(parsed) == 1, "a manifest that is up to date is not made again"


@pytest.mark.slow
def test_a_model_that_does_not_parse_is_named(settings: Settings, tmp_path: Path) -> None:
    copied = copy_of_the_project(settings, tmp_path)
    (copied.dbt_project / "models" / "finance" / "fx_week.sql").write_text(
        "select * from {{ ref('no_such_model') }}"
    )
    with pytest.raises(DbtProjectError, match=r"fx_week.*no_such_model"):
        prepared_project(copied)


def test_a_manifest_that_cannot_be_written_says_what_to_do(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Parsed:
        success = True

        def invoke(self, _: list[str]) -> Parsed:
            return self

    copied = copy_of_the_project(settings, tmp_path)
    (copied.dbt_project / "target").write_text("a file where the folder should be")
    monkeypatch.setattr("dbt.cli.main.dbtRunner", Parsed)
    monkeypatch.setattr(dbt, "_check_classes", lambda *_: None)
    with pytest.raises(DbtProjectError, match="build the image with the manifest"):
        prepared_project(copied)


def test_only_the_project_s_own_files_decide_whether_it_has_changed(
    settings: Settings, tmp_path: Path
) -> None:
    folder = copy_of_the_project(settings, tmp_path).dbt_project
    before = project_digest(folder)
    (folder / "target").mkdir()
    (folder / "target" / "manifest.json").write_text("{}")
    assert project_digest(folder) == before
    (folder / "macros" / "rules.sql").write_text("{% macro nothing() %}{% endmacro %}")
    assert project_digest(folder) != before


def test_a_missing_lake_table_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"silver.orders: .* Materialize silver/orders first"):
        source_versions({"silver.orders": str(tmp_path / "silver" / "orders")}, Storage())


def test_a_build_survives_its_record() -> None:
    build = Build(
        "model.lakehouse_marts.fx_week",
        Fingerprint("p", "i"),
        7,
        (CheckOutcome("unique", True, "ERROR"),),
        {"ccy": (("model.lakehouse_marts.stg_fx_rates", "ccy"),)},
    )
    assert Build.from_json(build.to_json()) == build


@pytest.mark.parametrize("missing", ["model", "fingerprint", "checks", "lineage"])
def test_a_record_that_lacks_a_field_is_no_build(missing: str) -> None:
    """An older version of the platform may have written it."""
    record = json.loads(Build("model.m", Fingerprint("p", "i")).to_json())
    del record[missing]
    assert Build.from_json(json.dumps(record)) is None


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"fingerprint": {"project": "p"}}'])
def test_a_record_that_cannot_be_read_is_no_build(text: str) -> None:
    assert Build.from_json(text) is None


def test_a_mart_whose_record_is_of_an_older_version_is_built_again(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    old, new = (Build(f"model.{name}", Fingerprint("p", "i")) for name in ("old", "new"))
    with opened(path) as connection:
        connection.execute("create schema lakehouse; create schema finance")
        connection.execute("create table finance.old (x int); create table finance.new (x int)")
    write_builds(path, [(("finance", "old"), old), (("finance", "new"), new)])
    with opened(path) as connection:
        connection.execute(
            "update lakehouse.verified set build = ? where table_name = 'old'",
            [json.dumps({"model": old.model, "fingerprint": "p"})],
        )
    recorded = read_builds(path)
    assert recorded == {new.model: new}
    wanted = {build.model: build.fingerprint for build in (old, new)}
    assert unchanged(recorded, wanted) is None
    assert needs_full_refresh(recorded, wanted)


@pytest.mark.parametrize(
    ("error", "starts"),
    [
        (dg.DagsterExecutionInterruptedError(), 1),
        (ValueError("a defect"), 1),
        (dg.Failure("IO Error: the file is locked", allow_retries=True), 4),
    ],
    ids=["interrupted", "a defect", "a locked file"],
)
def test_only_what_may_pass_is_tried_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: BaseException, starts: int
) -> None:
    """A cancelled run, above all, does not begin its build again."""
    started = []

    def run(*_: Any) -> tuple[list[Any], BaseException]:
        started.append(1)
        if isinstance(error, dg.Failure):
            return [], error
        raise error

    monkeypatch.setattr(mart_assets, "_run", run)
    monkeypatch.setattr(mart_assets._Builds, "fingerprints", lambda *_: {})  # there is no lake
    assets, resources = build_marts(
        settings.model_copy(update={"retries": RetrySettings(max=3, delay_seconds=0)})
    )
    result = dg.materialize(assets, resources=resources, raise_on_error=False)
    assert not result.success
    assert len(started) == starts
    if starts > 1:
        said = result.failure_data_for_node("marts").user_failure_data
        assert said.description.endswith(f"This was attempt {starts} of 4.")


@pytest.mark.parametrize(
    ("now", "same", "refresh"),
    [
        (fingerprint("p1", {"silver.orders": "a@1"}), True, False),
        (fingerprint("p1", {"silver.orders": "a@2"}), False, False),
        (fingerprint("p2", {"silver.orders": "a@1"}), False, True),
    ],
    ids=["nothing", "a table", "the project"],
)
def test_what_has_changed_decides_what_is_done(now: Fingerprint, same: bool, refresh: bool) -> None:
    before = {"m": Build("m", fingerprint("p1", {"silver.orders": "a@1"}))}
    assert (unchanged(before, {"m": now}) is not None) == same
    assert needs_full_refresh(before, {"m": now}) == refresh


def test_a_mart_of_unknown_origin_is_built_in_full() -> None:
    assert needs_full_refresh({}, {"m": Fingerprint("p", "i")})
    assert unchanged({}, {"m": Fingerprint("p", "i")}) is None


def test_dbt_does_not_start_where_the_warehouses_password_has_gone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GONE", raising=False)
    warehouse = RedshiftWarehouse(**REDSHIFT, password=Secret("GONE"))
    remote = settings.model_copy(update={"warehouse": warehouse})
    resource = dbt.dbt_resource(remote, prepared_project(settings))
    with pytest.raises(SettingsError, match="GONE"):
        resource.cli(["--version"])


@pytest.fixture(scope="module", params=["full refresh", "incremental"])
def redshift_sql(
    request: pytest.FixtureRequest, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The SQL of every model as dbt compiles it for Redshift, without a connection: whether a
    relation exists, the one thing that compiling asks the database, is answered here."""
    from dbt.adapters.redshift import RedshiftAdapter
    from dbt.cli.main import dbtRunner

    warehouse = RedshiftWarehouse(**REDSHIFT, password=Secret("NONE"))
    remote = settings.model_copy(update={"warehouse": warehouse})
    target = tmp_path_factory.mktemp("redshift")

    def relation(self: Any, database: str, schema: str, identifier: str) -> Any:
        if request.param == "full refresh":
            return None
        kind = self.Relation.get_relation_type("table")
        return self.Relation.create(database, schema, identifier, type=kind)

    arguments = ["compile", "--quiet", "--no-introspect", "--no-populate-cache"]
    arguments += ["--target", "redshift", "--target-path", str(target), "--log-path", str(target)]
    arguments += ["--project-dir", str(settings.dbt_project)]
    arguments += ["--profiles-dir", str(settings.dbt_project)]
    environment = {
        **dbt.dbt_environment(remote),
        "DBT_ENV_SECRET_REDSHIFT_PASSWORD": "",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RedshiftAdapter, "get_relation", relation)
        for name, value in environment.items():
            patch.setenv(name, value)
        result = dbtRunner().invoke(arguments)
    assert result.success, result.exception
    compiled = json.loads((target / "manifest.json").read_bytes())
    return {
        n["name"]: n["compiled_code"]
        for n in compiled["nodes"].values()
        if n["resource_type"] == "model"
    }


@pytest.mark.slow
def test_every_model_compiles_for_redshift_to_sql_that_redshift_knows(
    redshift_sql: dict[str, str], models: dict[str, Any]
) -> None:
    assert redshift_sql.keys() == models.keys()
    for name, sql in redshift_sql.items():
        query = sqlglot.parse_one(sql, dialect="redshift")
        assert not list(query.find_all(exp.Qualify, exp.List, exp.Struct, exp.Lambda)), name
        functions = {f.name.lower() for f in query.find_all(exp.Anonymous)}
        assert not functions, f"{name}: {functions} may not exist in Redshift"
        assert "::" not in sql, f"{name}: write cast() instead of ::"
        assert "filter (" not in sql.lower(), name
