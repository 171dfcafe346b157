"""Settings: one validated file per environment, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import yaml

from lakehouse.settings import load as module
from lakehouse.settings.alerts import SnsTopic
from lakehouse.settings.load import ENVIRONMENTS, load_settings
from lakehouse.settings.names import bucket_name
from lakehouse.settings.references import Secret, SettingsError, resolve
from lakehouse.standins import cloud
from spark_jobs.report import ZONES

FOLDER = Path(module.__file__).parent / "environments"
PRODUCTION = {
    "LAKEHOUSE_RAW_BUCKET": "acme_lake.raw",
    "LAKEHOUSE_PROCESSED_BUCKET": "acme-processed",
    "LAKEHOUSE_CURATED_BUCKET": "acme-curated",
    "AWS_REGION": "eu-central-1",
    "LAKEHOUSE_REDSHIFT_HOST": "warehouse.internal",
    "LAKEHOUSE_REDSHIFT_DATABASE": "lake",
    "LAKEHOUSE_REDSHIFT_USER": "dbt",
    "LAKEHOUSE_DAGSTER_HOST": "history.internal",
    "LAKEHOUSE_DAGSTER_DATABASE": "dagster",
    "LAKEHOUSE_DAGSTER_USER": "dagster",
    "LAKEHOUSE_DAGSTER_PASSWORD": "correct horse",
    "LAKEHOUSE_REDSHIFT_CLUSTER": "warehouse",
    "LAKEHOUSE_REDSHIFT_ROLE": "arn:aws:iam::123456789012:role/redshift-s3-access",
    "LAKEHOUSE_ARTIFACTS": "s3://acme-artifacts",
    "LAKEHOUSE_EMR_APPLICATION": "00f1application2",
    "LAKEHOUSE_EMR_ROLE": "arn:aws:iam::123456789012:role/lakehouse-jobs",
    "LAKEHOUSE_ENGINE": "sail",
    "LAKEHOUSE_FIRST_DAY": "2026-01-01",
    "LAKEHOUSE_CRITICAL_TOPIC": "arn:aws:sns:eu-central-1:123456789012:critical",
    "LAKEHOUSE_ALERT_TOPIC": "arn:aws:sns:eu-central-1:123456789012:warning",
}


REDSHIFT = {
    "target": "redshift",
    "host": "h",
    "database": "d",
    "user": "u",
    "region": "eu-central-1",
    "cluster": "warehouse",
    "role": PRODUCTION["LAKEHOUSE_REDSHIFT_ROLE"],
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PRODUCTION, "LAKEHOUSE_ENV", "LAKEHOUSE_HOME"):
        monkeypatch.delenv(name, raising=False)


def provide(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    for name, value in (PRODUCTION | changes).items():
        monkeypatch.setenv(name, value)


def written(folder: Path, **changes: object) -> Path:
    """The local settings with changes, as the file of another folder."""
    data = yaml.safe_load((FOLDER / "local.yaml").read_text())
    data.update(changes)
    (folder / "local.yaml").write_text(yaml.safe_dump(data))
    return folder


def test_local_settings_need_nothing_from_outside(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    assert settings.environment == "local"
    assert settings.zones["silver"] == f"{tmp_path}/lake/silver"
    assert settings.warehouse_path == tmp_path / "warehouse.duckdb"
    assert settings.partitions.start == date(2026, 10, 5)
    assert settings.partitions.end == date(2026, 10, 30)


def test_the_promised_times_and_retries_are_what_every_environment_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provide(monkeypatch)
    for environment in ENVIRONMENTS:
        settings = load_settings(environment)
        assert settings.schedules.daily == "0 2 * * *"
        assert settings.schedules.hourly == "0 * * * *"
        assert settings.retries.max == 3


def test_the_environment_variable_picks_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    provide(monkeypatch, LAKEHOUSE_ENV="staging")
    assert load_settings().environment == "staging"


def test_files_of_ones_own_take_the_place_of_those_that_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, retries={"max": 7})
    assert load_settings().retries.max == 3
    monkeypatch.setenv("LAKEHOUSE_SETTINGS", str(tmp_path))
    assert load_settings().retries.max == 7
    with pytest.raises(SettingsError, match=rf"{tmp_path}/prod.yaml: settings file not found"):
        load_settings("prod")


def test_production_runs_on_databricks_with_nothing_of_emr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emr = ("LAKEHOUSE_EMR_APPLICATION", "LAKEHOUSE_EMR_ROLE")
    provide(monkeypatch, LAKEHOUSE_ARTIFACTS="/Volumes/main/operations/lakehouse")
    for name in emr:
        monkeypatch.delenv(name)
    changed = cloud.on_databricks(yaml.safe_load((FOLDER / "prod.yaml").read_text()))
    (tmp_path / "prod.yaml").write_text(yaml.safe_dump(changed))
    settings = load_settings("prod", folder=tmp_path)
    assert settings.runner.name == "databricks" and settings.emr is None
    assert settings.databricks and settings.databricks.together == ["bronze", "silver", "gold"]
    assert settings.warehouse.target == "redshift"


def test_an_unknown_environment_fails_and_names_those_that_exist() -> None:
    with pytest.raises(SettingsError, match=r"'qa'.*local, dev, staging, prod"):
        load_settings("qa")


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_a_template_fails_until_every_value_is_given(environment: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environment)
    said = str(caught.value)
    assert (
        f"{environment}.yaml: lake.buckets.raw: environment variable LAKEHOUSE_RAW_BUCKET" in said
    )
    assert "warehouse.role: environment variable LAKEHOUSE_REDSHIFT_ROLE is not set" in said
    assert "partitions.start" in said


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_a_template_with_values_maps_zones_to_buckets(
    environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    provide(monkeypatch)
    settings = load_settings(environment)
    assert settings.zones["landing"] == "s3://acme-lake-raw/landing"
    assert settings.zones["bronze"] == "s3://acme-lake-raw/bronze"
    assert settings.zones["silver"] == "s3://acme-processed/silver"
    assert settings.zones["gold"] == "s3://acme-curated/gold"


def test_a_secret_is_a_reference_whose_value_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = REDSHIFT | {"password": {"secret": "THE_PASSWORD"}}
    folder = written(tmp_path, warehouse=warehouse)
    with pytest.raises(SettingsError, match=r"warehouse\.password: secret THE_PASSWORD is not set"):
        load_settings("local", folder=folder)
    monkeypatch.setenv("THE_PASSWORD", "hunter2")
    settings = load_settings("local", folder=folder)
    assert settings.warehouse.password == Secret("THE_PASSWORD")
    assert settings.warehouse.password.reveal() == "hunter2"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_who_runs_in_production_logs_in_to_the_warehouse_without_a_password(
    environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    provide(monkeypatch)
    warehouse = load_settings(environment).warehouse
    assert warehouse.iam and warehouse.cluster == "warehouse"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cluster": None}, "give either cluster or workgroup"),
        ({"workgroup": "w"}, "give either cluster or workgroup"),
        ({"role": "redshift-s3-access"}, "not the ARN of a role"),
        ({"secret_arn": "warehouse/password"}, "not the ARN of a secret"),
        ({"database": "my lake!"}, "not a name"),
    ],
)
def test_a_warehouse_that_cannot_be_reached_is_refused(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings("local", folder=written(tmp_path, warehouse=REDSHIFT | changes))


def test_a_secret_written_in_the_file_is_refused_without_repeating_it(
    tmp_path: Path,
) -> None:
    warehouse = REDSHIFT | {"password": "hunter2"}
    with pytest.raises(SettingsError) as caught:
        load_settings("local", folder=written(tmp_path, warehouse=warehouse))
    assert "warehouse.password: write a reference such as {secret: NAME}" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["<bucket>", "CHANGE_ME", "s3://example.com/lake", "TODO", "your-bucket", "xxxx"]
)
def test_a_placeholder_fails_at_load(tmp_path: Path, value: str) -> None:
    with pytest.raises(SettingsError, match=r"lake\.root: .* is a placeholder"):
        load_settings("local", folder=written(tmp_path, lake={"root": value}))


def test_a_placeholder_in_an_environment_variable_fails_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provide(monkeypatch, LAKEHOUSE_REDSHIFT_HOST="<host>")
    with pytest.raises(SettingsError, match=r"warehouse\.host: .* holds a placeholder"):
        load_settings("prod")


def test_an_unknown_key_fails_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"local\.yaml: lake\.rooot: unknown key"):
        load_settings("local", folder=written(tmp_path, lake={"root": "lake", "rooot": "x"}))


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    folder = written(tmp_path, engine={"name": "duckdb"}, retries={"max": -1}, colour="blue")
    with pytest.raises(SettingsError) as caught:
        load_settings("local", folder=folder)
    assert {line.split(": ")[1] for line in str(caught.value).splitlines()} == {
        "engine.name",
        "retries.max",
        "colour",
    }


def test_credentials_do_not_belong_in_storage_options(tmp_path: Path) -> None:
    lake = {"root": "lake", "storage_options": {"AWS_SECRET_ACCESS_KEY": "abc"}}
    with pytest.raises(SettingsError, match="AWS_SECRET_ACCESS_KEY is a credential"):
        load_settings("local", folder=written(tmp_path, lake=lake))


def test_a_lake_has_a_root_or_buckets_and_not_both(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="lake: give either root or buckets"):
        load_settings("local", folder=written(tmp_path, lake={}))


def test_others_may_deliver_elsewhere_than_to_the_root_of_a_lake(tmp_path: Path) -> None:
    lake = {"root": "lake", "landing": "s3://acme-raw/landing/"}
    zones = load_settings("local", home=tmp_path, folder=written(tmp_path, lake=lake)).zones
    assert zones["landing"] == "s3://acme-raw/landing"
    assert zones["bronze"] == f"{tmp_path}/lake/bronze"
    with pytest.raises(SettingsError, match="lake: landing: buckets have a place for it"):
        load_settings("local", folder=written(tmp_path, lake={"buckets": BUCKETS, "landing": "x"}))


BUCKETS = {"raw": "acme_raw", "processed": "acme-processed", "curated": "acme-curated"}


def test_every_zone_may_have_a_bucket_of_its_own(tmp_path: Path) -> None:
    lake = {"buckets": {zone: f"acme_{zone}" for zone in ZONES}}
    settings = load_settings("local", folder=written(tmp_path, lake=lake))
    assert settings.zones == {zone: f"s3://acme-{zone}/{zone}" for zone in ZONES}


def test_zones_are_in_buckets_of_any_name(tmp_path: Path) -> None:
    lake = {
        "buckets": {**BUCKETS, "rejected": "acme.rejected"},
        "zones": {"quarantine": "rejected", "ledger": "raw"},
    }
    zones = load_settings("local", folder=written(tmp_path, lake=lake)).zones
    assert zones["quarantine"] == "s3://acme-rejected/quarantine"
    assert zones["ledger"] == "s3://acme-raw/ledger"
    assert zones["gold"] == "s3://acme-curated/gold"


@pytest.mark.parametrize(
    ("lake", "said"),
    [
        ({"buckets": {"raw": "acme"}}, "buckets: curated, processed missing, for silver, gold"),
        ({"buckets": BUCKETS, "zones": {"gold": "glod"}}, "buckets: glod missing, for gold"),
        ({"buckets": {**BUCKETS, "bronce": "acme"}}, "buckets: no zone is in bronce"),
        ({"root": "lake", "zones": {"gold": "raw"}}, "zones: a root has a folder for each"),
    ],
)
def test_zones_and_buckets_that_do_not_fit_fail_at_load(tmp_path: Path, lake, said) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings("local", folder=written(tmp_path, lake=lake))


def test_a_warehouse_with_one_writer_takes_one_run(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"pools\.warehouse is 1 .* has one writer"):
        load_settings("local", folder=written(tmp_path, pools={"warehouse": 2}))


def test_a_cron_expression_that_is_none_fails_at_load(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"schedules\.daily: .* is not a cron expression"):
        load_settings("local", folder=written(tmp_path, schedules={"daily": "2 o'clock"}))


@pytest.mark.parametrize(
    "arn",
    [
        "alerts",
        "arn:aws:sns:eu-central-1:1:alerts",
        "arn:aws:sqs:eu-central-1:123456789012:alerts",
        "arn:aws:sns:eu-central-1:123456789012:alerts.fifo",
    ],
)
def test_a_topic_that_is_no_arn_fails_at_load(monkeypatch: pytest.MonkeyPatch, arn: str) -> None:
    provide(monkeypatch, LAKEHOUSE_CRITICAL_TOPIC=arn)
    with pytest.raises(SettingsError, match=r"alerts\.topics\.critical\.arn: .* is not the ARN"):
        load_settings("prod")


@pytest.mark.parametrize("topic", ["alerts", {"target": "email"}, {"path": "alerts.jsonl"}])
def test_a_topic_of_another_kind_fails_at_load(tmp_path: Path, topic: object) -> None:
    folder = written(tmp_path, alerts={"topics": {"warning": topic}})
    with pytest.raises(SettingsError, match=r"local\.yaml: alerts\.topics\.warning"):
        load_settings("local", folder=folder)


def test_every_environment_has_somebody_to_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    provide(monkeypatch)
    for environment in ENVIRONMENTS:
        topics = load_settings(environment).alerts.topics
        assert topics.warning is not None
        assert topics.critical is not None or environment == "dev"
    assert load_settings("prod").alerts.topics.critical == SnsTopic(
        target="sns", arn=PRODUCTION["LAKEHOUSE_CRITICAL_TOPIC"]
    )


@pytest.mark.parametrize(
    ("name", "normal"), [("My_Lake.Raw", "my-lake-raw"), (" acme ", "acme"), ("a1b", "a1b")]
)
def test_bucket_names_go_through_one_normaliser(name: str, normal: str) -> None:
    assert bucket_name(name) == normal


@pytest.mark.parametrize("name", ["", "ab", "-lake-", "ümlaut", "x" * 64])
def test_a_name_that_can_be_no_bucket_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a bucket name"):
        bucket_name(name)


@pytest.mark.parametrize(
    "value",
    [
        "<changeme>",
        "todo",
        "true",
        "0123",
        "null",
        "a: {b}",
        "two\nlines",
        " \"quoted' ",
        "{env: X}",
    ],
)
def test_a_secret_may_look_like_anything(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("A_SECRET", value)
    problems: list[str] = []
    secret = resolve({"password": {"secret": "A_SECRET"}}, (), problems)["password"]
    assert (problems, secret.reveal()) == ([], value)
    assert value not in repr(secret)


def test_settings_that_are_not_yaml_are_refused_without_quoting_them(tmp_path: Path) -> None:
    (tmp_path / "local.yaml").write_text("environment: local\npassword: hunter2: [")
    with pytest.raises(SettingsError, match=r"local\.yaml:\d: not valid YAML") as caught:
        load_settings("local", folder=tmp_path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("spoil", [Path.mkdir, lambda p: p.write_bytes(b"\xff\xfe\x00")])
def test_a_settings_file_that_cannot_be_read_is_named(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    spoil(tmp_path / "local.yaml")
    with pytest.raises(SettingsError, match=r"local\.yaml"):
        load_settings("local", folder=tmp_path)


HUNTER = "hunter2hunter2"


@pytest.mark.parametrize(
    "value",
    [
        f"s3://me:{HUNTER}@bucket/lake",
        f"see https://{HUNTER}@host/lake",
        f"https://acct.blob.core.windows.net/lake?sv=2024&se=2026-01-01&sig={HUNTER}",
        f"s3://bucket/lake?region=x&X-Amz-Signature={HUNTER}",
        f"s3://bucket/lake?access_key={HUNTER}",
        f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={HUNTER}==;EndpointSuffix=x",
        f'{{"type": "service_account", "private_key": "{HUNTER}"}}',
        f'{{"inner": "{{\\"client_secret\\": \\"{HUNTER}\\"}}"}}',
        f"user=me password={HUNTER} host=h",
        f"Bearer {HUNTER}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{HUNTER}",
        f"eyJhbGciOi.eyJzdWIi.{HUNTER}",
    ],
)
@pytest.mark.parametrize("place", ["root", "option", "variable"])
def test_a_credential_is_refused_wherever_it_is_written_and_never_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, place: str
) -> None:
    lake: dict[str, object] = {"root": value}
    if place == "option":
        lake = {"root": "lake", "storage_options": {"ANY_NAME": value}}
    elif place == "variable":
        monkeypatch.setenv("A_ROOT", value)
        lake = {"root": {"env": "A_ROOT"}}
    key = "storage_options.ANY_NAME" if place == "option" else "root"
    with pytest.raises(SettingsError, match=rf"local\.yaml: lake\.{key}: holds a") as caught:
        load_settings("local", folder=written(tmp_path, lake=lake))
    assert HUNTER not in str(caught.value)


def test_a_storage_option_that_no_client_follows_is_refused(tmp_path: Path) -> None:
    lake = {"root": "lake", "storage_options": {"AWS_REGIO": HUNTER}}
    with pytest.raises(SettingsError, match="AWS_REGIO is no storage option; known are") as caught:
        load_settings("local", folder=written(tmp_path, lake=lake))
    assert HUNTER not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "s3://bucket/lake/token=7/key=a@b",
        "/data/secret lake/passwords: none",
        "s3://my-secret-bucket/lake",
        "file:///srv/key/lake",
    ],
)
def test_a_location_may_be_named_like_a_credential(tmp_path: Path, value: str) -> None:
    load_settings("local", folder=written(tmp_path, lake={"root": value}))


@pytest.mark.parametrize(
    "key", ["sig", "session-cookie", "JWT", "fs.azure.account.key.x", "Encryption Key", "a.pwd"]
)
def test_a_storage_option_whose_name_says_that_it_is_a_credential_is_refused(
    tmp_path: Path, key: str
) -> None:
    lake = {"root": "lake", "storage_options": {key: HUNTER}}
    with pytest.raises(SettingsError, match="is a credential") as caught:
        load_settings("local", folder=written(tmp_path, lake=lake))
    assert HUNTER not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": HUNTER},
        {"lake": {"buckets": {"raw": HUNTER + "_!", "processed": "a" * 5, "curated": "b" * 5}}},
        {"warehouse": {"target": HUNTER}},
        {"warehouse": REDSHIFT | {"password": {"secret": HUNTER}}},
        {"warehouse": REDSHIFT | {"role": HUNTER}},
        {"warehouse": REDSHIFT | {"secret_arn": HUNTER}},
        {"warehouse": REDSHIFT | {"database": HUNTER + "!"}},
        {"engine": {"name": HUNTER}},
        {"partitions": {"start": HUNTER}},
        {"schedules": {"daily": HUNTER, "active": HUNTER}},
        {"alerts": {"topics": {"warning": {"target": "sns", "arn": HUNTER}}}},
        {"alerts": {"topics": {"warning": HUNTER}}},
        {"retries": {"max": HUNTER}},
        {"sample": HUNTER},
    ],
)  # fmt: skip
def test_a_value_that_is_refused_is_not_repeated(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    """Whoever mixes up two variables has written a secret there."""
    with pytest.raises(SettingsError) as caught:
        load_settings("local", folder=written(tmp_path, **changes))
    assert HUNTER not in str(caught.value)


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("x")
    with pytest.raises(SettingsError, match=r"LAKEHOUSE_HOME is .*: a file"):
        load_settings("local", home=tmp_path / "home")
