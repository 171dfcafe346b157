"""Reads one text file to its end, every column as text: through an engine, as a batch of a bronze
table does, with the reader that this calls for each part of a file by itself, or with Polars, whole.
`python -m benchmarks.contenders.text_reader sail|spark|parser|polars csv|json FILE`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.text_lines import COLUMNS


def engine(name: str, kind: str, path: str) -> int:
    from pyspark.sql import functions as F

    from spark_jobs.batch import landing
    from spark_jobs.contract.model import Column, Contract, Publish
    from spark_jobs.contract.source import Files
    from spark_jobs.engines.session import Engine
    from spark_jobs.lake.storage import File, Storage

    contract = Contract(
        "bronze", "lines", "1.0.0", "benchmarks", "benchmarks", "Lines of text",
        tuple(Column(name, "string", False, "internal", "") for name in COLUMNS),
        key=(), rules=(), publish=Publish(mode="replace_partition"), partitioning="daily",
        source=Files.model_validate({"dataset": "lines", "format": kind, "system": "benchmarks"}),
    )  # fmt: skip
    delivery = landing.Delivery("2026-10-05", [File(path, Path(path).stat().st_size, "1")], True)
    landing.inspect(contract, [delivery], Storage())
    with Engine.start(name) as running:  # type: ignore[arg-type]
        rows = landing.read(running.spark, contract, [delivery], Storage())
        lines = F.count("*") - F.count("_records")  # a row with that sums up a part
        counted = rows.agg(lines, F.sum("_records"), F.max("_file_error"))
        (found,) = counted.toArrow().to_pylist()
    lines, told, error = found.values()
    if error or lines != told:
        raise RuntimeError(f"{lines} rows of {told} records: {error}")
    return lines


def parser(kind: str, path: str) -> int:
    from spark_jobs.batch.landing import parse_csv, parse_json
    from spark_jobs.batch.landing.text import Layout, Part, parsed
    from spark_jobs.lake.storage import Storage

    parse = {"csv": parse_csv, "json": parse_json}[kind]
    batches = parsed(parse, Part(path, "2026-10-05", Storage()), Layout(COLUMNS))
    return sum(batch.num_rows for batch in batches) - 1  # the last row sums up


def polars(kind: str, path: str) -> int:
    import polars as pl

    if kind == "csv":
        return pl.read_csv(path, infer_schema=False).height
    return pl.read_ndjson(path, schema=dict.fromkeys(COLUMNS, pl.String)).height


if __name__ == "__main__":
    _, who, kind, path = sys.argv
    if who in ("sail", "spark"):
        print(engine(who, kind, path))
    else:
        print({"parser": parser, "polars": polars}[who](kind, path))
