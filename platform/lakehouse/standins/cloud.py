"""Everything that the settings of `prod` name, on this machine: S3, EMR Serverless or Databricks,
Redshift, SNS, and PostgreSQL for the run history.

Belongs here: starting the stand-ins together, and what leads production's settings to them. Does not
belong here: any of them (servers/), or what is run there (cli/rehearse.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import boto3
import yaml

from lakehouse.settings.load import FILES, SETTINGS
from lakehouse.standins.servers import redshift
from lakehouse.standins.servers.aws import CREDENTIALS, REGION, Aws, aws
from lakehouse.standins.servers.databricks import runtime
from lakehouse.standins.servers.databricks.server import Workspace, workspace
from lakehouse.standins.servers.emr.server import APPLICATION, ROLE, EmrServerless, emr_serverless
from lakehouse.standins.servers.redshift import postgres
from lakehouse.standins.servers.redshift.server import DATABASE, NAME, USER
from lakehouse.standins.servers.redshift.server import ROLE as WAREHOUSE_ROLE
from spark_jobs.lake.storage import Storage

Service = Literal["emr", "databricks"]

BUCKETS = {
    "LAKEHOUSE_RAW_BUCKET": "lake-raw",
    "LAKEHOUSE_PROCESSED_BUCKET": "lake-processed",
    "LAKEHOUSE_CURATED_BUCKET": "lake-curated",
}
ARTIFACTS = "lake-artifacts"
_MEMORY = "2g"  # of a driver of Databricks here; one of EMR Serverless has as much


@dataclass(frozen=True)
class Cloud:
    """Services that are up: the variables that lead to them, and the one that runs tables."""

    variables: Mapping[str, str]
    jobs: EmrServerless | Workspace


@contextmanager
def cloud(first_day: str, service: Service = "emr") -> Iterator[Cloud]:
    """An environment that is up, with nothing in it yet; its tables are jobs of `service`.

    Raises EngineUnavailable if this machine has no Java, or not the Spark of EMR Serverless.
    """
    jobs = {"emr": _emr, "databricks": _databricks}[service]
    with aws() as store:
        store.create_buckets(*BUCKETS.values(), ARTIFACTS)
        storage = Storage(store.storage_options)
        with (
            jobs(store) as found,
            redshift.serve(storage) as warehouse,
            postgres.running() as history,
        ):
            history.create_database("dagster")
            variables = {
                **CREDENTIALS,
                **BUCKETS,
                **_topics(store),
                **warehouse.environment,
                "AWS_REGION": REGION,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_ENDPOINT_URL": store.url,
                "AWS_ALLOW_HTTP": "true",
                "LAKEHOUSE_DAGSTER_DATABASE": "dagster",
                "LAKEHOUSE_DAGSTER_HOST": str(history.socket.parent),
                "LAKEHOUSE_DAGSTER_PASSWORD": "a socket asks for none",
                "LAKEHOUSE_DAGSTER_USER": postgres.SUPERUSER,
                "LAKEHOUSE_ENGINE": "sail",
                "LAKEHOUSE_ENV": "prod",
                "LAKEHOUSE_FIRST_DAY": first_day,
                "LAKEHOUSE_REDSHIFT_CLUSTER": NAME,
                "LAKEHOUSE_REDSHIFT_DATABASE": DATABASE,
                "LAKEHOUSE_REDSHIFT_HOST": warehouse.host,
                "LAKEHOUSE_REDSHIFT_PORT": str(warehouse.port),
                "LAKEHOUSE_REDSHIFT_ROLE": WAREHOUSE_ROLE,
                "LAKEHOUSE_REDSHIFT_USER": USER,
            }
            yield Cloud({**variables, **found.variables}, found.jobs)


@contextmanager
def _emr(store: Aws) -> Iterator[Cloud]:
    with emr_serverless(store.url) as service:
        variables = {
            "AWS_ENDPOINT_URL_EMR_SERVERLESS": service.url,
            "LAKEHOUSE_ARTIFACTS": f"s3://{ARTIFACTS}",
            "LAKEHOUSE_EMR_APPLICATION": APPLICATION,
            "LAKEHOUSE_EMR_ROLE": ROLE,
        }
        yield Cloud(variables, service)


@contextmanager
def _databricks(store: Aws) -> Iterator[Cloud]:
    spark = runtime.of_this_machine(Storage(store.storage_options), _MEMORY)
    with tempfile.TemporaryDirectory(prefix="lakehouse-databricks-") as scratch:
        folder = Path(scratch)
        written = on_databricks(yaml.safe_load((FILES / "prod.yaml").read_text(encoding="utf-8")))
        (folder / "prod.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
        with workspace(folder, spark.jars, spark.spark_conf, spark.environment) as found:
            variables = {"LAKEHOUSE_ARTIFACTS": found.volume, SETTINGS: scratch}
            yield Cloud(found.environment | variables, found)


def on_databricks(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of an environment with its tables on Databricks in the place of EMR Serverless."""
    together = settings.pop("emr")["together"]
    databricks = {"together": together, "poll_seconds": 1, "timeout_minutes": 60}
    return {**settings, "runner": {"name": "databricks"}, "databricks": databricks}


def _topics(store: Aws) -> dict[str, str]:
    sns = boto3.client(
        "sns",
        endpoint_url=store.url,
        region_name=REGION,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )
    return {
        f"LAKEHOUSE_{name}_TOPIC": sns.create_topic(Name=name.lower())["TopicArn"]
        for name in ("CRITICAL", "ALERT")
    }
