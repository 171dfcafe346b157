"""Bad days alert the right people, once: real runs, a real instance, a real SNS server.

Belongs here: from a run in Dagster's event log to what arrived. The words of an alert are tested
without Dagster, in tests/unit/test_alerts.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import boto3
import dagster as dg
import pytest

from lakehouse.definitions import build_definitions
from lakehouse.settings.alerts import AlertSettings, AlertTopics, FileTopic, SnsTopic
from lakehouse.signals.alerts import NAME
from lakehouse.signals.topics import AlertError
from lakehouse.standins.servers.aws import REGION, Aws
from tests.integration.dagster_lake import DagsterLake, people
from tests.lakes import MONDAY, TUESDAY, WEDNESDAY

CANARY = "canary.ada@lovelace.org"
DAMAGED = b"id,email,updated\n1,\xff\xfe,2026\n"


@dataclass
class Watch:
    """The alert sensor over a lake, as the daemon calls it: the cursor of a tick that failed is
    that of the tick before."""

    lake: DagsterLake
    cursor: str | None = None
    alerts: AlertSettings | None = None

    def tick(self) -> None:
        settings = self.lake.settings
        if self.alerts:
            settings = settings.model_copy(update={"alerts": self.alerts})
        definitions = build_definitions(settings, contracts=self.lake.lake.parsed(), marts=False)
        sensor = definitions.resolve_sensor_def(NAME)
        with dg.build_sensor_context(self.lake.instance, cursor=self.cursor) as context:
            self.cursor = sensor.evaluate_tick(context).cursor

    @property
    def written(self) -> list[dict[str, Any]]:
        path = self.lake.settings.home / "alerts.jsonl"
        return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []

    @property
    def critical(self) -> list[dict[str, Any]]:
        return [a for a in self.written if a["severity"] == "critical"]


@pytest.fixture
def watch(dagster: DagsterLake) -> Watch:
    """The sensor, switched on before anything has run."""
    watch = Watch(dagster)
    watch.tick()
    return watch


# -- what alerts -----------------------------------------------------------------------------------


def test_a_good_day_alerts_nobody(watch: Watch) -> None:
    assert watch.lake.run(MONDAY, MONDAY).success
    watch.tick()
    assert watch.critical == []


def test_a_bad_day_is_one_critical_alert_that_names_day_table_and_reason(watch: Watch) -> None:
    watch.lake.lake.land("people", TUESDAY, "people.csv", DAMAGED)
    outcome = watch.lake.run(MONDAY, WEDNESDAY)
    watch.tick()
    (alert,) = watch.critical
    assert alert["run_id"] == outcome.run_id
    assert alert["job"] == "lake_daily"
    assert alert["assets"] == ["bronze.people"]
    assert alert["subject"] == f"[local] critical: lake_daily {MONDAY} to {WEDNESDAY} failed"
    for said in (
        "1 of 3 partitions failed",
        f"{TUESDAY}: ",
        "UTF-8",
        "row_count",
        "lakehouse gaps",
    ):
        assert said in alert["text"], alert["text"]


def test_a_run_is_announced_once_however_often_it_is_seen(watch: Watch) -> None:
    watch.lake.lake.land("people", TUESDAY, "people.csv", DAMAGED)
    before = watch.cursor
    watch.lake.run(TUESDAY, TUESDAY)
    watch.tick()
    first = watch.written
    watch.tick()
    watch.cursor = before  # as after a crash between sending and storing the cursor
    watch.tick()
    assert watch.written == first != []


def test_what_ended_before_the_sensor_was_switched_on_is_past(dagster: DagsterLake) -> None:
    dagster.lake.land("people", TUESDAY, "people.csv", DAMAGED)
    dagster.run(TUESDAY, TUESDAY)
    watch = Watch(dagster)
    watch.tick()
    watch.tick()
    assert watch.written == []


def test_rows_that_break_a_rule_are_a_warning_without_their_values(watch: Watch) -> None:
    bad = CANARY.replace("@", "-at-")
    rows = [(i, f"p{i}@x.org", MONDAY) for i in range(9)]
    watch.lake.lake.land("people", MONDAY, "people.csv", people(*rows, (9, bad, MONDAY)))
    assert watch.lake.run(MONDAY, MONDAY).success
    watch.tick()
    (alert,) = watch.written
    assert alert["severity"] == "warning"
    assert "silver.people email_pattern" in alert["text"]
    assert f"lakehouse quarantine show silver.people --partition {MONDAY}" in alert["text"]
    assert bad not in json.dumps(alert)


def test_a_day_that_stays_bad_is_not_announced_with_every_other_day(watch: Watch) -> None:
    watch.lake.lake.land("people", MONDAY, "people.csv", DAMAGED)
    watch.lake.run(MONDAY, MONDAY)
    watch.tick()
    before = watch.critical
    assert before
    outcome = watch.lake.run(WEDNESDAY, WEDNESDAY)
    failing = {c.name for c in outcome.checks if not c.passed and c.asset == "bronze.people"}
    assert "row_count" in failing, "in Dagster the check stays red"
    watch.tick()
    assert watch.critical == before


def test_an_error_of_the_engine_is_named_and_not_quoted(watch: Watch) -> None:
    """Its message may hold values of rows; Dagster shows it to those who may see the run."""
    watch.lake.lake.write_transform(
        "silver", "people", f"def transform(people):\n    raise ValueError('{CANARY}')\n"
    )
    assert not watch.lake.run(MONDAY, MONDAY).success
    watch.tick()
    (alert,) = watch.critical
    assert "silver__people: ValueError; its message is in the run" in alert["text"]
    assert CANARY not in json.dumps(alert)


def test_an_engine_that_fails_again_and_again_is_announced_once_with_how_often(
    watch: Watch,
) -> None:
    watch.lake.lake.write_transform(
        "silver",
        "people",
        "from spark_jobs.errors import EngineError\n\n\n"
        "def transform(people):\n    raise EngineError('no driver', permanent=False)\n",
    )
    (failure,) = watch.lake.run(MONDAY, MONDAY).failures
    tried = watch.lake.settings.retries.max + 1
    assert f"This was attempt {tried} of {tried}." in failure.reason
    watch.tick()
    (alert,) = watch.critical
    assert f"silver__people, tried {tried} times: " in alert["text"]


def test_a_run_whose_process_died_is_announced(watch: Watch) -> None:
    instance = watch.lake.instance
    definitions = build_definitions(
        watch.lake.settings, contracts=watch.lake.lake.parsed(), marts=False
    )
    run = instance.create_run_for_job(definitions.resolve_job_def("lake_daily"))
    instance.report_run_failed(run, "process 7 ended without finishing the run")
    watch.tick()
    (alert,) = watch.written
    assert "process 7 ended without finishing the run" in alert["text"]


def test_runs_of_other_code_locations_are_left_to_them(watch: Watch) -> None:
    @dg.asset
    def other() -> None:
        raise ValueError("no")

    assert not dg.materialize([other], instance=watch.lake.instance, raise_on_error=False).success
    watch.tick()
    assert watch.written == []


# -- SNS -------------------------------------------------------------------------------------------


@dataclass
class Topics:
    """SNS topics with a queue that is subscribed to each, and what has arrived there."""

    endpoint: str

    def client(self, service: str) -> Any:
        return boto3.client(service, region_name=REGION, endpoint_url=self.endpoint)

    def topic(self, name: str) -> SnsTopic:
        arn = self.client("sns").create_topic(Name=name)["TopicArn"]
        queue = self.client("sqs").create_queue(QueueName=name)["QueueUrl"]
        owner = arn.split(":")[4]
        self.client("sns").subscribe(
            TopicArn=arn, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{owner}:{name}"
        )
        assert queue
        return SnsTopic(target="sns", arn=arn)

    def arrived(self, name: str) -> list[dict[str, Any]]:
        queue = self.client("sqs").get_queue_url(QueueName=name)["QueueUrl"]
        got = self.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
        return [json.loads(m["Body"]) for m in got.get("Messages", ())]


@pytest.fixture
def topics(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Topics:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    return Topics(aws.url)


def test_each_severity_arrives_at_its_own_topic(watch: Watch, topics: Topics) -> None:
    critical, warning = topics.topic("on-call"), topics.topic("team")
    watch.alerts = AlertSettings(topics=AlertTopics(critical=critical, warning=warning))
    rows = [(i, f"p{i}@x.org", MONDAY) for i in range(9)]
    watch.lake.lake.land("people", MONDAY, "people.csv", people(*rows, (9, "none", MONDAY)))
    watch.lake.run(MONDAY, MONDAY)
    watch.lake.lake.land("people", TUESDAY, "people.csv", DAMAGED)
    watch.lake.run(TUESDAY, TUESDAY)
    watch.tick()
    (page,) = topics.arrived("on-call")
    assert page["Subject"] == f"[local] critical: lake_daily {TUESDAY} failed"
    assert "UTF-8" in page["Message"]
    assert page["MessageAttributes"]["severity"]["Value"] == "critical"
    (note,) = topics.arrived("team")
    assert note["MessageAttributes"]["severity"]["Value"] == "warning"
    assert "email_pattern" in note["Message"]
    assert watch.written == [], "the file is another topic"


def test_a_tick_that_cannot_send_fails_and_the_next_one_sends_what_is_left(
    watch: Watch, topics: Topics
) -> None:
    """The first of two runs has been announced when the topic turns out to be missing for the
    second: the next tick announces the second one only."""
    there = topics.topic("on-call")
    missing = SnsTopic(target="sns", arn=there.arn.replace("on-call", "gone"))
    file = FileTopic(target="file", path="alerts.jsonl")
    watch.lake.lake.land("people", MONDAY, "people.csv", DAMAGED)
    failed = watch.lake.run(MONDAY, MONDAY)
    rows = [(i, f"p{i}@x.org", TUESDAY) for i in range(9)]
    watch.lake.lake.land("people", TUESDAY, "people.csv", people(*rows, (9, "none", TUESDAY)))
    warned = watch.lake.run(TUESDAY, TUESDAY)

    watch.alerts = AlertSettings(topics=AlertTopics(critical=file, warning=missing))
    for _ in range(2):
        with pytest.raises(AlertError, match=rf"warning alert of run {warned.run_id} .*:gone"):
            watch.tick()
    assert [a["run_id"] for a in watch.written] == [failed.run_id]

    watch.alerts = AlertSettings(topics=AlertTopics(critical=file, warning=there))
    watch.tick()
    (note,) = topics.arrived("on-call")
    assert f"run         {warned.run_id}" in note["Message"]
    assert [a["run_id"] for a in watch.written] == [failed.run_id]
