"""The shape of what a reader returns: the contract's columns, and what is said of each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from spark_jobs.contract import Contract
from spark_jobs.delta import arrow_type

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


# What a reader adds to the contract's columns. `_raw` holds the original record of rows that
# break a reader rule (`_violations`); a row with `_records` set is a file's summary, not data.
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


def batch_of(
    columns: tuple[str, ...],
    rows: dict[str, list[Any] | pa.Array],
    length: int,
    *,
    uri: str,
    partition: str,
    summary: dict[str, Any],
) -> pa.RecordBatch:
    """Rows of one file and its summary row as one batch; absent columns are null."""
    fields = [pa.field(c, pa.string()) for c in columns]
    fields += [pa.field(n, arrow_type(t)) for n, t in READER_COLUMNS]
    name = uri.rsplit("/", 1)[-1]
    arrays = []
    for f in fields:
        if f.name in ("_source_file", "_partition"):
            value = name if f.name == "_source_file" else partition
            arrays.append(pa.array([value] * (length + 1), f.type))
            continue
        data = rows.get(f.name)
        head = pa.nulls(length, f.type) if data is None else pa.array(data, f.type)
        tail = pa.array([summary.get(f.name)], f.type)
        arrays.append(pa.concat_arrays([head, tail]))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def failed(columns: tuple[str, ...], uri: str, partition: str, error: str) -> pa.RecordBatch:
    summary = {"_records": 0, "_file_error": error}
    return batch_of(columns, {}, 0, uri=uri, partition=partition, summary=summary)
