"""A warehouse in production's place: the stand-in for Redshift beside a store that speaks S3.

Here: starting both, and what leads clients to them. Not here: what is done with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3

from lakehouse.settings.references import Secret
from lakehouse.settings.sources import RedshiftConnection
from lakehouse.settings.warehouse import RedshiftWarehouse
from lakehouse.standins.servers.aws import CREDENTIALS, REGION, aws
from lakehouse.standins.servers.redshift import RedshiftServer, serve
from lakehouse.standins.servers.redshift.server import DATABASE, NAME, ROLE, USER
from spark_jobs.lake.storage import Storage

PASSWORD = "a password that does not change"
PASSWORD_IN = "REDSHIFT_PASSWORD"


def settings_of(cloud: Cloud, **changes: Any) -> RedshiftWarehouse:
    """The settings of the warehouse; with a password, which is quicker than to ask for one."""
    given = {
        "target": "redshift", "host": "127.0.0.1", "port": cloud.redshift.port, "database": DATABASE,
        "user": USER, "region": REGION, "cluster": NAME, "role": ROLE,
        "password": Secret(PASSWORD_IN),
    }  # fmt: skip
    return RedshiftWarehouse(**{**given, **changes})


def source_of(cloud: Cloud, tempdir: str) -> RedshiftConnection:
    """The same as a source."""
    login = settings_of(cloud)
    given = {n: getattr(login, n) for n in RedshiftConnection.model_fields if hasattr(login, n)}
    options = dict(cloud.storage.options)
    return RedshiftConnection(**given, tempdir=tempdir, storage_options=options)


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
    with aws() as store:
        options = store.storage_options
        environment = {
            **options,
            **CREDENTIALS,
            "AWS_DEFAULT_REGION": REGION,
            PASSWORD_IN: PASSWORD,
        }
        storage = Storage(options)
        with serve(storage, {"loader": PASSWORD, USER: PASSWORD}) as redshift:
            yield Cloud(redshift, storage, environment | dict(redshift.environment))
