"""Sensors with Dagster's own daemon: what is sent to streams, or delivered into S3, which tells a queue
of it, is in silver a while later, by no other hand, and once.

Here: processes as they run in production, one of which dies. Not here: what a sensor asks for
(test_stream_assets.py, tests/unit/test_landing_sensor.py).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from lakehouse.automation.landing_sensor import NAME as LANDING_SENSOR
from lakehouse.automation.landing_sensor import listed_at
from lakehouse.automation.stream_sensor import NAME as STREAM_SENSOR
from lakehouse.keys import DATASETS_TAG, SENSOR_TAG
from lakehouse.local.instance import open_instance, write_workspace
from lakehouse.standins.servers.aws import REGION, Aws
from lakehouse.standins.servers.kafka.broker import Broker
from lakehouse.standins.servers.processes import free_port
from tests.documents import PROJECT
from tests.e2e.dagster_ui import wait_for
from tests.integration.kinesis_streams import NAME, client
from tests.integration.stream_lake import Sent, define, differences, settings_of
from tests.lakes import TinyLake

pytestmark = [pytest.mark.slow, pytest.mark.jvm]
CODE = """
from pathlib import Path
from tests.integration.stream_lake import definitions
defs = definitions(Path(__file__).parent)
"""
DAY = 24 * 3600
NEVER = "0 0 1 1 *"
SUCCESS = dg.DagsterRunStatus.SUCCESS


@contextmanager
def process(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the deployment; all below it ends with the test."""
    with (folder / "processes.log").open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def service(aws: Aws, name: str) -> Any:
    return boto3.client(name, endpoint_url=aws.url, region_name=REGION)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def lake(aws: Aws, kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyLake:
    """In S3, of a stream of Kinesis, a topic, and files that somebody delivers."""
    for name in ("DAGSTER_HOME", "DAGSTER_EVENT_BATCH_SIZE"):
        monkeypatch.setenv(name, "")  # so that they are put back afterwards
        monkeypatch.delenv(name)
    service(aws, "s3").create_bucket(
        Bucket="acme-streams", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    queue = service(aws, "sqs").create_queue(QueueName="landing")["QueueUrl"]
    landing = {
        "QueueArn": f"arn:aws:sqs:{REGION}:123456789012:landing",
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "lake/landing/"}]}},
    }
    service(aws, "s3").put_bucket_notification_configuration(
        Bucket="acme-streams", NotificationConfiguration={"QueueConfigurations": [landing]}
    )
    aws.set_kinesis_clock((datetime.now(UTC) - timedelta(days=1)).isoformat())
    client(aws.url).create_stream(StreamName=NAME, ShardCount=2)
    client(aws.url).increase_stream_retention_period(StreamName=NAME, RetentionPeriodHours=72)
    topic = f"orders.{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.plain})
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result()
    (tmp_path / "code_location.py").write_text(CODE)
    return define(
        tmp_path,
        {
            "readings": {"kind": "kinesis", "stream": NAME, "max_lag_seconds": 3 * DAY},
            "orders": {
                "kind": "kafka",
                "topic": topic,
                "clock": "producer",
                "max_lag_seconds": 3 * DAY,
            },
            "prices": {"system": "shop"},
        },
        {
            "kinesis": {"region": REGION, "endpoint": aws.url, "calls_per_second": 1000},
            "kafka": {"bootstrap": kafka.plain, "protocol": "PLAINTEXT"},
            "streams": {"drain_after_seconds": 0.5},
        },
        lake={"root": "s3://acme-streams/lake", "storage_options": aws.storage_options},
        schedules={"active": True, "daily": NEVER, "hourly": NEVER, "gap_fill": NEVER},
        landing={
            "interval_seconds": 5,
            "queue": {"url": queue, "region": REGION, "endpoint": aws.url},
        },
    )


def test_what_is_sent_reaches_silver_once_though_daemons_die_before_their_cursor_is_stored(
    lake: TinyLake, aws: Aws, kafka: Broker
) -> None:
    """The first dies in a look that lists all of landing, the next in one that a queue has told."""
    settings, sent = settings_of(lake.root), defaultdict[str, Sent](Sent)
    queue = settings.landing.queue
    assert queue is not None
    (topic,) = (c.delivered.topic for c in lake.parsed().values() if c.table == "bronze.orders")
    yesterday = datetime.now(UTC) - timedelta(days=1)  # a day is run when it is over
    records = [sent["readings"].next() for _ in range(30)]
    entries = [{"Data": data, "PartitionKey": key} for data, key in records]
    client(aws.url).put_records(StreamName=NAME, Records=entries)
    producer = Producer({"bootstrap.servers": kafka.plain})
    for data, key in (sent["orders"].next() for _ in range(30)):
        producer.produce(topic, data, key, timestamp=int(1000 * yesterday.timestamp()))
    assert producer.flush(30) == 0
    prices: list[bytes] = []

    def deliver(more: int) -> None:
        """The file in S3 once more, with more lines."""
        prices.extend(sent["prices"].next()[0] + b"\n" for _ in range(more))
        day = yesterday - timedelta(days=1)  # on which nothing else has arrived
        folder = f"{lake.zones['landing']}/prices/{day:%Y-%m-%d}"
        lake.storage.write(f"{folder}/prices.json", prices)

    deliver(10)
    with open_instance(settings) as instance:
        port = free_port()
        write_workspace(settings.dagster_home, "127.0.0.1", port)
        workspace = ("run", "-w", str(settings.dagster_home / "workspace.yaml"))
        code = (
            "dagster",
            "api",
            "grpc",
            "-f",
            str(lake.root / "code_location.py"),
            "-d",
            str(PROJECT),
        )

        def unfinished() -> list[dg.DagsterRun]:
            return [r for r in instance.get_runs() if not r.is_finished]

        def arrived() -> bool:
            wrong = [d for name in sent for d in differences(lake, name, sent[name])]
            return not wrong and not unfinished()

        def is_read() -> bool:
            """The queue is empty, so what it told of is in the stored cursor."""
            of = {"QueueUrl": queue.url, "AttributeNames": ["All"]}
            found = service(aws, "sqs").get_queue_attributes(**of)["Attributes"]
            names = ("", "NotVisible")
            return not any(int(found[f"ApproximateNumberOfMessages{n}"]) for n in names)

        def all_listed_at() -> datetime | None:
            of = {s.instigator_name: s.instigator_data for s in instance.all_instigator_state()}
            return listed_at(of[LANDING_SENSOR].cursor)

        with process(lake.root, *code, "-h", "127.0.0.1", "-p", str(port)):
            wait_for("the code location", lambda: answers(port))
            with process(lake.root, "tests.integration.dying_daemon", *workspace) as daemon:
                assert daemon.wait(120) == -signal.SIGKILL
            assert all_listed_at() is None
            with process(lake.root, "tests.integration.dying_daemon", *workspace) as daemon:
                wait_for("all records", arrived, 180)
                begun = all_listed_at()
                assert begun is not None
                deliver(5)
                assert daemon.wait(120) == -signal.SIGKILL
            with process(lake.root, "dagster._daemon", *workspace):
                wait_for("the new version of the file", lambda: arrived() and is_read(), 120)
            assert all_listed_at() == begun, "all since was done by the queue"
        asked = instance.get_run_records()
        assert {r.dagster_run.status for r in asked} == {SUCCESS}
        keys = [k for r in asked if (k := r.dagster_run.tags.get("dagster/run_key"))]
        assert len(keys) == len(set(keys))
        # How many looks ask for what streams have landed is up to the clock.
        of_prices = [r for r in asked if r.dagster_run.tags[DATASETS_TAG] == "prices"]
        assert len(of_prices) == 2, "one for each version of the file"
        drains = defaultdict[str, list[dg.RunRecord]](list)
        for record in sorted(asked, key=lambda r: r.create_timestamp):
            if record.dagster_run.tags[SENSOR_TAG] == STREAM_SENSOR:
                drains[record.dagster_run.tags[DATASETS_TAG]].append(record)
        assert set(drains) == {"readings", "orders"}
        for several in drains.values():
            for one, next_ in pairwise(several):
                assert (one.end_time or 0) <= next_.create_timestamp.timestamp()
