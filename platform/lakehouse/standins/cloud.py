"""Everything that the settings of `prod` name, on this machine: S3, EMR Serverless, Redshift, SNS, and
PostgreSQL for the run history.

Belongs here: starting the stand-ins together, and the variables that lead production's settings to
them. Does not belong here: any of them (servers/), or what is run there (cli/rehearse.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import boto3

from lakehouse.standins.servers import redshift
from lakehouse.standins.servers.aws import CREDENTIALS, REGION, Aws, aws
from lakehouse.standins.servers.emr.server import APPLICATION, ROLE, emr_serverless
from lakehouse.standins.servers.redshift import postgres
from lakehouse.standins.servers.redshift.server import DATABASE, NAME, USER
from lakehouse.standins.servers.redshift.server import ROLE as WAREHOUSE_ROLE
from spark_jobs.lake.storage import Storage

BUCKETS = {
    "LAKEHOUSE_RAW_BUCKET": "lake-raw",
    "LAKEHOUSE_PROCESSED_BUCKET": "lake-processed",
    "LAKEHOUSE_CURATED_BUCKET": "lake-curated",
}
ARTIFACTS = "lake-artifacts"


@contextmanager
def cloud(first_day: str) -> Iterator[Mapping[str, str]]:
    """The variables of an environment that is up, with nothing in it yet.

    Raises EngineUnavailable if this machine has no Java, or not the Spark of EMR Serverless.
    """
    with aws() as store:
        store.create_buckets(*BUCKETS.values(), ARTIFACTS)
        storage = Storage(store.storage_options)
        with (
            emr_serverless(store.url) as emr,
            redshift.serve(storage) as warehouse,
            postgres.running() as history,
        ):
            history.create_database("dagster")
            yield {
                **CREDENTIALS,
                **BUCKETS,
                **_topics(store),
                **warehouse.environment,
                "AWS_REGION": REGION,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_ENDPOINT_URL": store.url,
                "AWS_ALLOW_HTTP": "true",
                "AWS_ENDPOINT_URL_EMR_SERVERLESS": emr.url,
                "LAKEHOUSE_ARTIFACTS": f"s3://{ARTIFACTS}",
                "LAKEHOUSE_DAGSTER_DATABASE": "dagster",
                "LAKEHOUSE_DAGSTER_HOST": str(history.socket.parent),
                "LAKEHOUSE_DAGSTER_PASSWORD": "a socket asks for none",
                "LAKEHOUSE_DAGSTER_USER": postgres.SUPERUSER,
                "LAKEHOUSE_EMR_APPLICATION": APPLICATION,
                "LAKEHOUSE_EMR_ROLE": ROLE,
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
