"""Reads text files: parsed by Arrow and Python inside `mapInArrow`, not by the engine's own
readers: those differ between engines in what they do with a broken line, and drop it or fail the
whole read. Every row of a text source is delivered as strings; typing is the silver table's work.

Belongs here: what CSV and JSON lines have in common. Does not belong here: their grammars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from spark_jobs.contract import Contract
from spark_jobs.errors import InputError
from spark_jobs.landing.deliveries import Delivery
from spark_jobs.landing.rows import empty, schema

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


# How files begin that are sometimes delivered as text by mistake.
_FORMATS = {b"PAR1": "Parquet", b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x00asm": "binary"}


def ensure_text(data: bytes, where: str) -> None:
    for magic, name in _FORMATS.items():
        if data.startswith(magic):
            raise InputError(
                f"{where}: a {name} file, whatever its name says. Deliver it as text, in UTF-8."
            )


def wrong_encoding(where: str, position: int) -> InputError:
    return InputError(f"{where}: not UTF-8 text (byte {position}). Deliver the file as UTF-8.")


def short(error: BaseException) -> str:
    return str(error).splitlines()[0][:200]


def read_text(
    spark: SparkSession,
    contract: Contract,
    deliveries: list[Delivery],
    parse: Callable[[str, str, tuple[str, ...], frozenset[str]], pa.RecordBatch],
) -> DataFrame:
    """Rows of all files, each parsed by `parse(uri, partition, columns, required)`."""
    listed = [(f.uri, d.partition) for d in deliveries for f in d.files]
    if not listed:
        return empty(spark, contract)
    columns = tuple(c.name for c in contract.columns)
    required = frozenset(c.name for c in contract.columns if c.required)

    def parse_files(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for uri, partition in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                yield parse(uri, partition, columns, required)

    paths = spark.createDataFrame(listed, "uri string, partition string")
    return paths.mapInArrow(parse_files, schema(contract))
