"""A job's PySpark of EMR Serverless reaches a lake in S3 as the others do.

Here: the release of `make conformance-emr`, on its own Hadoop. Not here: this environment's engines
(tests/integration/test_store_engines.py).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from lakehouse.standins.servers.aws import Aws
from spark_jobs.lake.storage import Storage

PROJECT = Path(__file__).parents[2]
SPARK_40 = PROJECT / ".venv-spark40" / "bin" / "python"
JOB = """\
import json, sys
from spark_jobs.engines.session import Engine
from spark_jobs.lake.storage import Storage

store = Storage(json.loads(sys.argv[1]))
with Engine.start("spark", cores=2, store=store, jvm_options=("-XX:TieredStopAtLevel=1",)) as engine:
    rows = engine.spark.range(100).selectExpr("id", "id % 2 as half")
    rows.write.mode("overwrite").partitionBy("half").parquet("s3://one/t/staged")
    print(engine.spark.read.parquet("s3a://one/t/staged").count(), engine.spark.version)
"""


@pytest.mark.jvm
@pytest.mark.spark40
def test_spark_4_0_reads_what_it_wrote_to_a_store_that_only_its_settings_name(aws: Aws) -> None:
    if not SPARK_40.exists():
        # `scripts/test` says what it left out, and fails in CI
        pytest.skip("no environment with PySpark 4.0: make conformance-emr prepares it")
    aws.create_buckets("one")
    done = subprocess.run(
        [SPARK_40, "-c", JOB, json.dumps(aws.storage_options)],
        cwd=PROJECT,
        env={k: v for k, v in os.environ.items() if not k.startswith("SPARK_")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["100", "4.0.2"], done.stderr[-3000:]
    folders = {path.split("/")[0] for path, _ in Storage(aws.storage_options).tree("s3://one/t")}
    assert folders == {"staged"}
