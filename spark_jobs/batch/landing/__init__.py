"""Reads landing files into rows, file by file, so that one bad file fails only its partition.

Belongs here: formats (Parquet, CSV, JSON lines), drift against the contract, unreadable records.
Does not belong here: typing and cleaning (a table's transform), or what happens to bad rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spark_jobs.batch.landing.csv import header, parse_csv
from spark_jobs.batch.landing.deliveries import Delivery, Slice, deliveries, expected, side_by_side
from spark_jobs.batch.landing.drift import note
from spark_jobs.batch.landing.json import parse_json
from spark_jobs.batch.landing.parquet import footer, read_parquet
from spark_jobs.batch.landing.rows import READER_COLUMNS
from spark_jobs.batch.landing.text import read_text
from spark_jobs.contract.model import Contract
from spark_jobs.errors import InputError, SchemaError
from spark_jobs.lake.storage import File, Storage

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = [
    "READER_COLUMNS",
    "Delivery",
    "deliveries",
    "expected",
    "inspect",
    "parse_csv",
    "parse_json",
    "read",
]


def inspect(contract: Contract, deliveries: list[Delivery], storage: Storage) -> None:
    """Opens each file's footer or header; notes drift and the error that fails the partition."""

    def look(
        of: tuple[Delivery, File],
    ) -> tuple[list[Slice], list[str] | None] | InputError:
        try:
            return _opened(contract, *of, storage)
        except InputError as error:
            return error

    asked = [(d, f) for d in deliveries if not d.error for f in d.files]
    for (delivery, file), found in zip(asked, side_by_side(look, asked), strict=True):
        if delivery.error:
            continue
        if isinstance(found, InputError):
            delivery.error = str(found)
            continue
        slices, names = found
        delivery.slices.extend(slices)
        try:
            if names is not None:
                note(contract, delivery.drift, names, file.uri)
        except SchemaError as error:
            delivery.error = str(error)


def _opened(
    contract: Contract, delivery: Delivery, file: File, storage: Storage
) -> tuple[list[Slice], list[str] | None]:
    """What one look into a file tells: its slices, if it has any, and its columns, if it says."""
    kind = contract.delivered.format
    if kind == "json" or (file.size == 0 and kind == "csv"):
        return [], None
    if kind == "parquet":
        return footer(contract, file, delivery.partition, storage)
    return [], header(contract, file, delivery.partition, storage)


def read(
    spark: SparkSession, contract: Contract, deliveries: list[Delivery], storage: Storage
) -> DataFrame:
    """Rows of all files: the contract's columns and READER_COLUMNS.

    The files must have been inspected. Shape: one row per record, and for text files one summary
    row per part of a file (`_records` set) that carries the count taken at the source.
    """
    kind = contract.delivered.format
    if kind == "parquet":
        return read_parquet(spark, contract, deliveries, storage)
    parse = {"csv": parse_csv, "json": parse_json}[kind]
    return read_text(spark, contract, deliveries, storage, parse)
