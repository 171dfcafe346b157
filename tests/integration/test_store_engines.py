"""Every engine reads and writes an object store that the settings name, and no variable does.

Here: the engines against a server that speaks S3. Not here: the other clients
(test_landing_files.py, test_lost_stores.py), or a table's whole life there.
"""

from __future__ import annotations

import os

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lakehouse.standins.servers.aws import Aws
from lakehouse.standins.servers.aws import aws as another
from spark_jobs.engines import s3a
from spark_jobs.engines.session import Engine
from spark_jobs.errors import EngineUnavailable
from spark_jobs.lake.storage import Lake, Storage
from spark_jobs.report import ZONES
from tests.small_spark import JVM_OPTIONS

ENGINES = ["sail", pytest.param("spark", marks=pytest.mark.jvm)]


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_reaches_a_store_that_only_the_settings_name(aws: Aws, name: str) -> None:
    aws.create_buckets("one", "two")
    store = Storage(aws.storage_options)
    before = dict(os.environ)
    with Engine.start(name, cores=2, store=store, jvm_options=JVM_OPTIONS) as engine:
        rows = engine.spark.range(100).selectExpr("id", "id % 2 as half")
        rows.write.mode("overwrite").partitionBy("half").parquet("s3://one/t/staged")
        assert {path.split("/")[0] for path, _ in store.tree("s3://one/t/staged")} == {
            "half=0",
            "half=1",
        }
        for scheme in ("s3", "s3a"):
            assert engine.spark.read.parquet(f"{scheme}://one/t/staged").count() == 100
        at = "s3://two/t"
        write_deltalake(at, pa.table({"id": [1, 2]}), storage_options=store.delta_options(at))
        assert engine.spark.read.format("delta").load(at).count() == 2
    assert dict(os.environ) == before


def test_an_engine_of_another_store_is_refused_beside_one_that_runs(aws: Aws) -> None:
    with another() as there, Engine.start("sail", store=Storage(aws.storage_options)):
        with pytest.raises(EngineUnavailable, match="another object store"):
            Engine.start("sail", store=Storage(there.storage_options))
        with Engine.start("sail", store=Storage(aws.storage_options)) as second:
            assert second.spark.range(2).count() == 2


def test_engines_are_told_of_a_store_only_if_the_lake_is_in_one(aws: Aws) -> None:
    reached = Storage(aws.storage_options)
    assert Lake({zone: f"/lake/{zone}" for zone in ZONES}, reached).store is None
    zones = {zone: f"/lake/{zone}" for zone in ZONES} | {"gold": "s3://curated/gold"}
    assert Lake(zones, reached).store is reached


def test_spark_on_a_jvm_is_told_of_a_store_what_every_client_is_told() -> None:
    options = {
        "AWS_ENDPOINT_URL": "https://lake.store.internal:9000/",
        "AWS_REGION": "eu-west-1",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "max_retries": "3",
    }
    said = s3a.conf(Storage(options))
    assert said["spark.hadoop.fs.s3a.endpoint"] == "https://store.internal:9000"
    assert said["spark.hadoop.fs.s3a.endpoint.region"] == "eu-west-1"
    assert said["spark.hadoop.fs.s3a.path.style.access"] == "false"
    assert said["spark.hadoop.fs.s3a.attempts.maximum"] == "3"
    assert not any("amazonaws" in value for value in said.values()), "no class of the first SDK"
    with pytest.raises(ValueError, match="not encrypted"):
        s3a.conf(Storage({"AWS_ENDPOINT_URL": "http://store.internal"}))
