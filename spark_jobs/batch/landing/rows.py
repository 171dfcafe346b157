"""The shape of what a reader returns: the contract's columns, and what is said of each row."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from spark_jobs.contract.model import Contract
from spark_jobs.lake.delta import arrow_type

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# What a reader adds to the contract's columns. `_raw` holds the original record of rows that
# break a reader rule (`_violations`); a row with `_records` set sums up a file, or a part of one.
READER_COLUMNS = (
    ("_rescued", "string"),
    ("_source_file", "string"),
    ("_partition", "string"),
    ("_violations", "array<string>"),
    ("_raw", "string"),
    ("_records", "bigint"),
    ("_file_error", "string"),
    ("_drift", "string"),
)


def schema(contract: Contract) -> str:
    columns = [(c.name, c.type) for c in contract.columns] + list(READER_COLUMNS)
    return ", ".join(f"`{n}` {t}" for n, t in columns)


def empty(spark: SparkSession, contract: Contract) -> DataFrame:
    return spark.createDataFrame([], schema(contract))


def spread(paths: DataFrame, rows: int) -> DataFrame:
    """Paths over as many tasks as there are cores: Sail gives them all to one, however many."""
    return paths.repartition(min(rows, os.cpu_count() or 1)) if rows > 1 else paths


def batch_of(
    columns: tuple[str, ...],
    rows: Mapping[str, list[Any] | pa.Array],
    length: int,
    *,
    uri: str,
    partition: str,
) -> pa.RecordBatch:
    """Rows of one file; columns that are not given are null."""
    fields = [pa.field(c, pa.string()) for c in columns]
    fields += [pa.field(n, arrow_type(t)) for n, t in READER_COLUMNS]
    same = {"_source_file": uri.rsplit("/", 1)[-1], "_partition": partition}
    arrays = []
    for f in fields:
        data = rows.get(f.name)
        if f.name in same:
            arrays.append(pa.repeat(pa.scalar(same[f.name], f.type), length))
        elif data is None:
            arrays.append(pa.nulls(length, f.type))
        else:
            arrays.append(data if isinstance(data, pa.Array) else pa.array(data, f.type))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def unparsable(
    columns: tuple[str, ...], records: list[str], *, uri: str, partition: str
) -> pa.RecordBatch:
    """Records that are not what their format says, each kept as it was delivered."""
    rows = {"_violations": [["parsable"]] * len(records), "_raw": records}
    return batch_of(columns, rows, len(records), uri=uri, partition=partition)


def summary(
    columns: tuple[str, ...], *, uri: str, partition: str, **values: int | str
) -> pa.RecordBatch:
    rows = {name: [value] for name, value in values.items()}
    return batch_of(columns, rows, 1, uri=uri, partition=partition)
