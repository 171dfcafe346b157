"""A warehouse in production's place: the stand-in for Redshift beside a store that speaks S3.

Here: starting both, and what leads clients to them. Not here: what is done with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import boto3
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from lakehouse.standins.servers.redshift import RedshiftServer, serve
from spark_jobs.lake.storage import Storage

REGION = "eu-central-1"
PASSWORD = "a password that does not change"


@dataclass(frozen=True)
class Cloud:
    """The store and the warehouse; `environment` is what leads clients to both."""

    redshift: RedshiftServer
    storage: Storage
    environment: dict[str, str]

    def bucket(self, name: str) -> str:
        """The location of a new bucket."""
        boto3.client("s3").create_bucket(
            Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        return f"s3://{name}"


@contextmanager
def cloud() -> Iterator[Cloud]:
    """Both servers, for as long as the block lasts."""
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    try:
        host, port = store.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        options = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": REGION,
        }
        environment = options | {
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "not a secret",
            "AWS_DEFAULT_REGION": REGION,
        }
        storage = Storage(options)
        with serve(storage, {"loader": PASSWORD}) as redshift:
            yield Cloud(redshift, storage, environment | dict(redshift.environment))
    finally:
        store.stop()
