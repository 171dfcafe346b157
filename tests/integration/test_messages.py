"""What a job has written by its end is read, however much it is and whoever comes late.

Here: readers before a bucket and a volume with the messages of a long job. Not here: the jobs.
"""

from __future__ import annotations

import json
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
from databricks.sdk import WorkspaceClient

from lakehouse.engines import databricks_pipes
from lakehouse.engines.bucket_messages import BucketMessages
from lakehouse.standins.servers.aws import REGION, Aws
from lakehouse.standins.servers.databricks.server import workspace
from tests import workspace as workspaces

CHUNKS = 200  # a job of half an hour has about as many
FOLDER = "s3://messages/of/a/job"


def written(n: int, of: int = CHUNKS) -> bytes:
    """A chunk, of which the last one says that the job has closed."""
    method = "opened" if n == 1 else "closed" if n == of else "report_custom_message"
    params = {"payload": n} if method == "report_custom_message" else {"extras": {}}
    said = {"__dagster_pipes_version": "0.1", "method": method, "params": params}
    return json.dumps(said if method != "closed" else {**said, "params": None}).encode()


def heard(reader: Any) -> list[Any]:
    """What a step hears that comes when the job has ended."""
    found: list[Any] = []

    @dg.op
    def step(context) -> None:
        injector = dg.PipesEnvContextInjector()
        with dg.open_pipes_session(context, injector, reader) as session:
            pass
        found.extend(session.get_custom_messages())

    @dg.job
    def job() -> None:
        step()

    assert job.execute_in_process().success
    return found


@pytest.fixture
def bucket(aws: Aws) -> Any:
    aws.create_buckets("messages")
    return boto3.client("s3", endpoint_url=aws.url, region_name=REGION)


def put(bucket: Any, n: int, of: int) -> None:
    bucket.put_object(Bucket="messages", Key=f"of/a/job/{n}.json", Body=written(n, of))


def test_a_step_that_comes_late_hears_all_of_a_long_job(bucket: Any) -> None:
    for n in range(1, CHUNKS + 1):
        put(bucket, n, CHUNKS)
    assert heard(BucketMessages(bucket, FOLDER, 10)) == list(range(2, CHUNKS))


def test_a_step_that_looks_at_the_end_hears_what_comes_a_moment_later(bucket: Any) -> None:
    for n in range(1, 5):
        put(bucket, n, 5)
    last_words = threading.Timer(1.5, put, (bucket, 5, 5))
    last_words.start()
    assert heard(BucketMessages(bucket, FOLDER, 10, at_the_end=True)) == [2, 3, 4]
    last_words.join()


def test_the_same_through_a_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running: AbstractContextManager[Any] = workspace(tmp_path, (), {})
    with running as found:
        for name, value in workspaces.environment(found).items():
            monkeypatch.setenv(name, value)
        for n in range(1, CHUNKS + 1):
            found.volumes.write(f"{found.volume}/messages/{n}.json", written(n), overwrite=False)
        made = databricks_pipes.client(WorkspaceClient(), found.volume, 10, serverless=True)
        assert heard(made.message_reader) == list(range(2, CHUNKS))
