"""The workload with dlt, DuckDB and dbt: dlt loads landing into bronze, dbt does the rest.

Belongs here: the load and the call of dbt. Does not belong here: the transforms, which are the dbt
project in the folder of the same name, nor anything of the platform.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import workload as w

LANDING, OUTPUT, DAYS = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
DATABASE = OUTPUT / "lake.duckdb"
PROJECT = Path(__file__).with_suffix("")
RUN_ID = "dlt"
os.environ |= {
    "BENCHMARK_DUCKDB": str(DATABASE),
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "DLT_DATA_DIR": str(OUTPUT / "dlt"),
}

import dlt  # noqa: E402 - reads the environment when it is imported
import pyarrow as pa  # noqa: E402
import pyarrow.csv as pacsv  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from dbt.cli.main import dbtRunner  # noqa: E402


def rows(name: str) -> Iterator[pa.Table]:
    """Landing files as delivered, with the day and the file that they came in."""
    for day in DAYS:
        for file in sorted((LANDING / name / day).glob("*")):
            if file.suffix == ".csv":
                types = dict.fromkeys(("as_of_date", "base_currency", "ccy", "rate"), pa.string())
                options = pacsv.ConvertOptions(column_types=types, strings_can_be_null=False)
                table = pacsv.read_csv(file, convert_options=options)
            else:
                table = pq.read_table(file)
            n = len(table)
            for column, value in (
                ("_source_file", pa.scalar(file.name)),
                ("_batch_id", pa.scalar(RUN_ID)),
                ("_partition", pa.scalar(day)),
                ("_arrival_date", pa.scalar(day).cast(pa.date32())),
            ):
                table = table.append_column(column, pa.repeat(value, n))
            yield table


def load() -> None:
    pipeline = dlt.pipeline(
        "benchmark",
        pipelines_dir=str(OUTPUT / "dlt"),
        destination=dlt.destinations.duckdb(str(DATABASE)),
        dataset_name="bronze",
    )
    resources = [dlt.resource(rows(n), name=n, write_disposition="replace") for n in w.DATASETS]
    pipeline.run(resources, loader_file_format="parquet").raise_on_failed_jobs()


def transform() -> None:
    folders = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
    kept = ["--target-path", str(OUTPUT / "target"), "--log-path", str(OUTPUT / "logs")]
    result = dbtRunner().invoke(["--quiet", "build", *folders, *kept])
    if not result.success:
        raise SystemExit(f"dbt build failed: {result.exception or result.result}")


OUTPUT.mkdir(parents=True, exist_ok=True)
load()
transform()
