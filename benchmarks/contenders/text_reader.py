"""Reads one text file to its end, every column as text: with the platform's reader, block by block,
or with Polars, whole. `python -m benchmarks.contenders.text_reader platform|polars csv|json FILE`.
"""

from __future__ import annotations

import sys

from benchmarks.text_lines import COLUMNS


def platform(kind: str, path: str) -> int:
    from spark_jobs.batch.landing import parse_csv, parse_json
    from spark_jobs.batch.landing.text import Layout, Part, parsed

    parse = {"csv": parse_csv, "json": parse_json}[kind]
    batches = parsed(parse, Part(path, "2026-10-05"), Layout(COLUMNS))
    return sum(batch.num_rows for batch in batches) - 1  # the last row sums up


def polars(kind: str, path: str) -> int:
    import polars as pl

    if kind == "csv":
        return pl.read_csv(path, infer_schema=False).height
    return pl.read_ndjson(path, schema=dict.fromkeys(COLUMNS, pl.String)).height


if __name__ == "__main__":
    _, who, kind, path = sys.argv
    print({"platform": platform, "polars": polars}[who](kind, path))
