"""Landing in S3 whose objects a queue of SQS tells of: what is asked for, and when a message goes.

Here: the sensor against S3, SNS, EventBridge and SQS, look by look, with the cursor kept as the daemon
keeps it: after the runs are asked for. Not here: what a listing asks for
(tests/unit/test_landing_sensor.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
from botocore.exceptions import ClientError
from pydantic import ValidationError

from lakehouse.automation import landing_looks
from lakehouse.automation.landing_sensor import NAME
from lakehouse.definitions import build_definitions
from lakehouse.keys import DATASETS_TAG, RANGE_END_TAG, RANGE_START_TAG, SENSOR_TAG
from lakehouse.settings.lake import LakeSettings
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.settings.operations import LandingQueue
from lakehouse.sources import notifications
from lakehouse.sources.notifications import Notice, Queue, told
from lakehouse.standins.servers.aws import CREDENTIALS, REGION, Aws
from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contracts
from tests.documents import PROJECT

BUCKET, ACCOUNT = "raw-of-the-test", "123456789012"


@pytest.fixture(scope="module")
def contracts() -> dict[str, Contract]:
    return load_contracts(PROJECT / "contracts")


@dataclass
class Told:
    """The sensor over a bucket, with an instance of Dagster and the cursor of its last look."""

    aws: Aws
    settings: Settings
    definitions: dg.Definitions
    url: str
    instance: dg.DagsterInstance
    cursor: str | None = None
    launched: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)

    def client(self, service: str) -> Any:
        names = {n.lower(): v for n, v in CREDENTIALS.items()}
        return boto3.client(service, region_name=REGION, endpoint_url=self.aws.url, **names)

    def put(self, key: str, content: str = "x") -> None:
        self.client("s3").put_object(Bucket=BUCKET, Key=f"landing/{key}", Body=content.encode())

    def look(self, *, dies: bool = False) -> Any:
        """A look, whose runs are launched once for each key. One that `dies` keeps no cursor."""
        with dg.build_sensor_context(
            cursor=self.cursor,
            instance=self.instance,
            repository_def=self.definitions.get_repository_def(),
        ) as context:
            tick = self.definitions.resolve_sensor_def(NAME).evaluate_tick(context)
        for r in tick.run_requests:
            of = (r.tags[RANGE_START_TAG], r.tags[RANGE_END_TAG], r.tags[DATASETS_TAG])
            self.launched.setdefault(r.run_key, of)
        if not dies:
            self.cursor = tick.cursor
        self.show_all()
        return tick

    def show_all(self) -> None:
        """The time for which received messages are hidden is over."""
        queue = self.client("sqs")
        for receipt in self.hidden:
            with suppress(ClientError):  # of a message that is gone
                queue.change_message_visibility(
                    QueueUrl=self.url, ReceiptHandle=receipt, VisibilityTimeout=0
                )
        self.hidden.clear()

    @property
    def waiting(self) -> int:
        asked = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.client("sqs").get_queue_attributes(QueueUrl=self.url, AttributeNames=asked)
        return sum(map(int, found["Attributes"].values()))


def arn(name: str, service: str = "sqs") -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{name}"


@pytest.fixture(scope="module")
def settings(aws_server: Aws, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    local = load_settings("local", home=tmp_path_factory.mktemp("home"), project=PROJECT)
    lake = LakeSettings(
        buckets={"raw": BUCKET, "processed": BUCKET, "curated": BUCKET},
        storage_options=dict(aws_server.storage_options),
    )
    url = f"{aws_server.url}/{ACCOUNT}/landing"
    queue = LandingQueue(url=url, region=REGION, endpoint=aws_server.url)
    changed = {"lake": lake, "landing": local.landing.model_copy(update={"queue": queue})}
    return local.model_copy(update=changed)


@pytest.fixture(scope="module")
def definitions(settings: Settings, contracts: dict[str, Contract]) -> dg.Definitions:
    return build_definitions(settings, contracts=contracts, marts=False)


@pytest.fixture
def landing(
    aws: Aws, settings: Settings, definitions: dg.Definitions, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Told]:
    assert settings.landing.queue is not None
    with dg.DagsterInstance.ephemeral() as instance:
        of = Told(aws, settings, definitions, settings.landing.queue.url, instance)
        of.client("s3").create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        made = of.client("sqs").create_queue(QueueName="landing")
        assert made["QueueUrl"] == of.url
        received = Queue.receive

        def receive(queue: Queue, hidden_seconds: int) -> Iterator[Notice]:
            for notice in received(queue, hidden_seconds):
                of.hidden.append(notice.receipt)
                yield notice

        monkeypatch.setattr(Queue, "receive", receive)
        monkeypatch.setattr(notifications, "_ALL_SERVERS_SECONDS", 0)
        yield of


def notify(landing: Told, **how: Any) -> None:
    landing.client("s3").put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration=how
    )


def by_queue(landing: Told) -> None:
    notify(
        landing,
        QueueConfigurations=[{"QueueArn": arn("landing"), "Events": ["s3:ObjectCreated:*"]}],
    )


def by_topic(landing: Told) -> None:
    sns = landing.client("sns")
    topic = sns.create_topic(Name="objects")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn("landing"))
    notify(landing, TopicConfigurations=[{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}])


def by_event_bus(landing: Told) -> None:
    events = landing.client("events")
    pattern = json.dumps({"source": ["aws.s3"], "detail-type": ["Object Created"]})
    events.put_rule(Name="objects", EventPattern=pattern)
    events.put_targets(Rule="objects", Targets=[{"Id": "queue", "Arn": arn("landing")}])
    notify(landing, EventBridgeConfiguration={})


@pytest.mark.parametrize("way", [by_queue, by_topic, by_event_bus])
def test_an_object_that_s3_tells_of_asks_for_its_partition_once(landing: Told, way: Any) -> None:
    landing.look()  # all of landing, in which nothing is
    way(landing)
    landing.put("orders/2026-10-06/a name+with=signs & spaces.parquet")
    landing.look()
    assert list(landing.launched.values()) == [("2026-10-06", "2026-10-06", "orders")]
    assert landing.waiting >= 1, "the cursor has not been stored when the look ends"
    landing.look()
    assert (landing.waiting, len(landing.launched)) == (0, 1)
    landing.put("orders/2026-10-06/late.parquet")
    landing.look()
    landing.look()
    assert (landing.waiting, len(landing.launched)) == (0, 2)


def test_a_look_lists_what_it_was_told_of_and_nothing_else(
    landing: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_queue(landing)
    landing.put("orders/2026-10-05/f")
    landing.look()
    looked: list[tuple[str, str]] = []
    digest = landing_looks.digest_of

    def counted(storage: Any, root: str, dataset: str, partition: str) -> str | None:
        looked.append((dataset, partition))
        return digest(storage, root, dataset, partition)

    monkeypatch.setattr(landing_looks, "digest_of", counted)
    monkeypatch.setattr(landing_looks, "snapshot", lambda *_: pytest.fail("listed all of landing"))
    landing.look()
    assert looked == [("orders", "2026-10-05")], "the message of what the first look had listed"
    looked.clear()
    for n in range(30):
        landing.put(f"products/2026-10-{5 + n % 2:02}/part-{n}")
    landing.look()
    assert looked == [("products", "2026-10-05"), ("products", "2026-10-06")]
    assert list(landing.launched.values())[1:] == [("2026-10-05", "2026-10-06", "products")]
    looked.clear()
    landing.look()
    landing.look()
    assert landing.waiting == 0 and len(looked) == 2


def test_a_crash_before_the_cursor_is_stored_loses_no_message_and_launches_nothing_twice(
    landing: Told,
) -> None:
    landing.look()
    by_queue(landing)
    landing.put("orders/2026-10-06/f")
    for _ in range(3):
        landing.look(dies=True)
    assert len(landing.launched) == landing.waiting == 1
    landing.put("products/2026-10-07/f")
    landing.look()
    landing.look()
    assert (landing.waiting, len(landing.launched)) == (0, 2)


def test_what_has_to_wait_for_a_queued_run_waits_in_the_cursor_and_not_in_the_queue(
    landing: Told,
) -> None:
    landing.look()
    by_queue(landing)
    landing.put("orders/2026-10-05/f")
    (request,) = landing.look().run_requests
    run = landing.instance.create_run_for_job(
        landing.definitions.resolve_job_def(request.job_name),
        tags={**request.tags, SENSOR_TAG: NAME},
        status=dg.DagsterRunStatus.NOT_STARTED,
    )
    landing.put("orders/2026-10-05/more")
    assert landing.look().skip_message.endswith("queued: orders")
    landing.look()
    assert (landing.waiting, len(landing.launched)) == (0, 1)
    landing.instance.report_run_failed(run)
    landing.look()
    assert len(landing.launched) == 2


def test_a_storm_is_grouped_and_what_one_look_does_not_ask_for_the_next_one_does(
    landing: Told, contracts: dict[str, Contract]
) -> None:
    few = landing.settings.landing.model_copy(update={"requests_per_look": 2})
    landing.settings = landing.settings.model_copy(update={"landing": few})
    landing.definitions = build_definitions(landing.settings, contracts=contracts, marts=False)
    landing.look()
    by_queue(landing)
    for day in (5, 6, 7, 9, 12, 13):
        for n in range(10):
            landing.put(f"orders/2026-10-{day:02}/part-{n}")
    assert [len(landing.look().run_requests) for _ in range(3)] == [2, 1, 0]
    assert [of[:2] for of in landing.launched.values()] == [
        ("2026-10-05", "2026-10-07"), ("2026-10-09", "2026-10-09"), ("2026-10-12", "2026-10-13"),
    ]  # fmt: skip
    assert landing.waiting == 0


def test_strange_messages_and_objects_are_named_and_only_those_of_s3_are_removed(
    landing: Told, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    landing.look()
    by_queue(landing)
    for key in ("nobody/2026-10-05/f", "orders/backup/f", "orders/2026-10-05/_unfinished", "f"):
        landing.put(key)
    landing.client("s3").put_object(Bucket=BUCKET, Key="bronze/orders/f", Body=b"x")
    landing.client("sqs").send_message(QueueUrl=landing.url, MessageBody="no event")
    landing.look()
    said = capfd.readouterr().err + caplog.text
    unknown = [
        f"{BUCKET}/{k}" for k in ("landing/nobody/2026-10-05/f", "landing/f", "bronze/orders/f")
    ]
    assert all(name in said for name in unknown), said
    assert "no such partition, left alone: orders/backup" in said
    assert "no events of S3, left in the queue" in said
    assert (landing.waiting, landing.launched) == (1, {})


def test_what_no_message_told_of_is_found_when_all_of_landing_is_listed_again(
    landing: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing.look()
    landing.put("orders/2026-10-05/f")
    landing.look()
    assert not landing.launched, "nobody was told"
    text, _, at = str(landing.cursor).partition("@")
    landing.cursor = f"{text}@{at.replace('2026', '2025', 1)}"
    landing.look()
    assert list(landing.launched.values()) == [("2026-10-05", "2026-10-05", "orders")]


@pytest.mark.parametrize(
    "body", ["", "[]", "null", '"text"', '{"Records": [{}]}', '{"Type": "Notification"}', "{"]
)
def test_what_is_no_event_of_s3_is_told_apart(body: str) -> None:
    assert told(body) is None


def test_a_queue_is_for_landing_in_s3(tmp_path: Path) -> None:
    local = load_settings("local", home=tmp_path, project=PROJECT)
    queue = LandingQueue(url="https://sqs.eu-central-1.amazonaws.com/1/landing", region=REGION)
    given = {n: getattr(local, n) for n in Settings.model_fields}
    with pytest.raises(ValidationError, match=r"landing\.queue: S3 tells"):
        Settings(**{**given, "landing": local.landing.model_copy(update={"queue": queue})})
