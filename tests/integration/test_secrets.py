"""The passwords of Kafka and of the warehouse are in no byte that a run leaves behind, and in no word of
the doctor, who says whether they are good.

Here: servers that ask for a login. Not here: what a run does that gets one (test_kafka.py,
test_redshift_loads.py), or the warehouse's password in a build of marts (test_redshift_marts.py).
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from lakehouse.cli.doctor import doctor
from lakehouse.definitions import build_definitions
from lakehouse.keys import landing_key
from lakehouse.local.execution import execute
from lakehouse.local.instance import open_instance
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.sources.kafka import topic as kafka_topic
from lakehouse.standins.servers.kafka.broker import USER, Broker
from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contracts
from tests.warehouse import PASSWORD, PASSWORD_IN, Cloud, settings_of

BRONZE, WRONG = "bronze.orders_events", "a-password-that-no-broker-takes"


def said(settings: Settings, contracts: dict[str, Contract], patch: pytest.MonkeyPatch) -> str:
    patch.setattr("lakehouse.cli.doctor.load_settings", lambda: settings)
    patch.setattr("spark_jobs.contract.reader.load_contracts", lambda folder: contracts)
    return CliRunner().invoke(doctor).output


def settings_at(home: Path, patch: pytest.MonkeyPatch, sources: dict[str, Any]) -> Settings:
    for name in ("DAGSTER_HOME", "DAGSTER_EVENT_BATCH_SIZE"):
        patch.setenv(name, "")  # so that they are put back afterwards
        patch.delenv(name)
    (home / "sources.yaml").write_text(yaml.safe_dump(sources))
    patch.setenv("LAKEHOUSE_SOURCES", str(home / "sources.yaml"))
    read = load_settings("local", home=home)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    days = read.partitions.model_copy(update={"start": yesterday, "end": None})
    retries = read.retries.model_copy(update={"max": 0})
    return read.model_copy(update={"partitions": days, "retries": retries})


@pytest.mark.jvm
def test_the_password_of_kafka_is_in_no_byte_that_runs_and_the_doctor_leave_behind(
    kafka: Broker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    topic = f"orders_events.{uuid.uuid4().hex[:8]}"
    append = {"message.timestamp.type": "LogAppendTime"}
    admin = AdminClient({"bootstrap.servers": kafka.plain})
    admin.create_topics([NewTopic(topic, 1, 1, config=append)])[topic].result()
    producer = Producer({"bootstrap.servers": kafka.plain})
    for body in (b'{"order_id": "1"}', b"\xff is a dead letter"):
        producer.produce(topic, body)
    assert producer.flush(30) == 0

    monkeypatch.setenv("KAFKA_API_KEY", USER)
    monkeypatch.setenv("KAFKA_API_SECRET", kafka.password)
    login = {"user": {"secret": "KAFKA_API_KEY"}, "password": {"secret": "KAFKA_API_SECRET"}}
    connection = {"bootstrap": kafka.guarded, "protocol": "SASL_PLAINTEXT", **login}
    settings = settings_at(tmp_path, monkeypatch, {"kafka": connection})
    declared = load_contracts(settings.contracts)[BRONZE]
    source = declared.delivered.model_copy(update={"topic": topic})
    contracts = {BRONZE: replace(declared, source=source)}
    definitions = build_definitions(settings, contracts=contracts, marts=False)
    yesterday = settings.partitions.start.isoformat()
    outputs = [said(settings, contracts, monkeypatch)]
    with open_instance(settings) as instance:

        def run() -> bool:
            asked = {"partitions": (yesterday, yesterday), "assets": [landing_key("orders_events")]}
            done = execute(definitions, "lake_daily", instance, **asked)
            outputs.append(repr(done))
            return done.success

        assert run()
        monkeypatch.setattr(kafka_topic, "_SECONDS", 4.0)
        monkeypatch.setenv("KAFKA_API_SECRET", WRONG)
        assert not run()
        outputs.append(said(settings, contracts, monkeypatch))
    assert "kafka orders_events: ok" in outputs[0]
    assert f"kafka orders_events: topic {topic}: its cluster did not answer" in outputs[-1]
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) > 5
    left = {str(p): p.read_bytes() for p in files}
    left["output"] = "".join([*outputs, *capfd.readouterr()]).encode()
    assert any(b"dead letter" in content or b"base64" in content for content in left.values())
    for password in (kafka.password, WRONG):
        assert not [name for name, content in left.items() if password.encode() in content]


def test_the_doctor_tries_the_warehouse_and_says_no_password(
    warehouse: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_at(tmp_path, monkeypatch, {})
    settings = settings.model_copy(update={"warehouse": settings_of(warehouse)})
    assert "warehouse redshift: ok" in said(settings, {}, monkeypatch).splitlines()
    assert warehouse.redshift.passwords.logins[-1] == "lakehouse"
    monkeypatch.setenv(PASSWORD_IN, WRONG)
    output = said(settings, {}, monkeypatch)
    assert "warehouse redshift: " in output and "password authentication failed" in output
    assert WRONG not in output and PASSWORD not in output
