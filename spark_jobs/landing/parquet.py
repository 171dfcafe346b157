"""Reads Parquet files, each by its own schema."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from spark_jobs import storage
from spark_jobs.contract import Contract
from spark_jobs.delta import arrow_type
from spark_jobs.errors import InputError
from spark_jobs.landing.deliveries import Delivery
from spark_jobs.landing.drift import SAMPLES
from spark_jobs.landing.rows import empty
from spark_jobs.landing.text import short

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession


def footer(file: storage.File, known: set[str]) -> tuple[list[str], dict[str, list[str]], int]:
    """The column names, the first values of those that are not known, and the count of rows."""
    fs, path = storage.filesystem(file.uri)
    try:
        with pq.ParquetFile(path, filesystem=fs) as parquet:
            names = parquet.schema_arrow.names
            extra = [n for n in names if n not in known]
            samples = next(parquet.iter_batches(SAMPLES, columns=extra), None) if extra else None
            rows = parquet.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{file.uri}: not a readable Parquet file ({short(error)}). It may be truncated,"
            " or not what its name says; deliver it again."
        ) from error
    values = samples.to_pydict() if samples is not None else {}
    return names, {n: [str(v) for v in values.get(n, [])] for n in extra}, rows


def damage(delivery: Delivery) -> str:
    """What is wrong with the first Parquet file that cannot be read to its end; empty if nothing.

    A footer may be whole and the pages before it not. Reading every page is dear, so this is asked
    only once the engine has failed.
    """
    for file in delivery.files:
        fs, path = storage.filesystem(file.uri)
        try:
            with pq.ParquetFile(path, filesystem=fs) as parquet:
                for _ in parquet.iter_batches():
                    pass
        except (pa.ArrowException, OSError) as error:
            return (
                f"{file.uri}: a damaged Parquet file ({short(error)}). Its footer is whole, its"
                " pages are not; deliver it again."
            )
    return ""


def read_parquet(spark: SparkSession, contract: Contract, deliveries: list[Delivery]) -> DataFrame:
    from pyspark.sql import functions as F

    def one(delivery: Delivery, file: storage.File) -> DataFrame:
        fs, path = storage.filesystem(file.uri)
        types = {f.name: f.type for f in pq.read_schema(path, filesystem=fs)}
        frame = spark.read.parquet(file.uri)
        record = F.to_json(F.struct(*[_written(n, types[n]) for n in types]))
        columns, failures = [], []
        for c in contract.columns:
            if c.name not in types:
                columns.append(F.lit(None).cast(c.type).alias(c.name))
            elif _same(types[c.name], c.type):
                columns.append(F.col(c.name))
            else:
                value = _converted(F.col(c.name), types[c.name], c.type)
                lost = F.col(c.name).isNotNull() & value.isNull()
                failures.append(F.when(lost, F.lit(f"{c.name}_type")))
                columns.append(value.alias(c.name))
        violations = raw = F.lit(None)
        if failures:
            found = F.filter(F.array(*failures), lambda v: v.isNotNull())
            violations = F.when(F.size(found) > 0, found)
            raw = F.when(F.size(found) > 0, record)
        extra = [_written(n, types[n]) for n in types if n not in contract.column]
        return frame.select(
            *columns,
            (F.to_json(F.struct(*extra)) if extra else F.lit(None).cast("string")).alias(
                "_rescued"
            ),
            F.lit(file.name).alias("_source_file"),
            F.lit(delivery.partition).alias("_partition"),
            F.lit(delivery.partition[:10]).cast("date").alias("_arrival_date"),
            violations.cast("array<string>").alias("_violations"),
            raw.cast("string").alias("_raw"),
            F.lit(None).cast("bigint").alias("_records"),
            F.lit(None).cast("string").alias("_file_error"),
            F.lit(None).cast("string").alias("_drift"),
        )

    frames = [one(d, f) for d in deliveries for f in d.files]
    if not frames:
        return empty(spark, contract)
    return reduce(lambda a, b: a.unionByName(b), frames)


def _converted(value: Column, found: pa.DataType, wanted: str) -> Column:
    """A value of another type as the wanted one, null where that loses it. By way of text, on which
    engines agree; 7.0 is the integer 7, and 7.5 is none."""
    from pyspark.sql import functions as F

    from spark_jobs.columns import as_number

    written = value.cast("string")
    fraction = pa.types.is_floating(found) or pa.types.is_decimal(found)
    if fraction and wanted in ("int", "bigint"):
        exact = as_number(written, "decimal(38,10)")
        whole = exact.try_cast(wanted)
        return F.when(whole.cast("decimal(38,10)") == exact, whole)
    if wanted.startswith("decimal"):
        return as_number(written, wanted)
    return written.try_cast(wanted)


def _written(name: str, found: pa.DataType) -> Column:
    """A column as text of one form: doubles have exponents at other sizes on other engines."""
    from pyspark.sql import functions as F

    from spark_jobs.columns import without_exponent

    value = F.col(f"`{name}`").cast("string")
    if pa.types.is_floating(found):
        value = F.regexp_replace(without_exponent(value), r"^(-?)inf\z", "$1Infinity")
    return value.alias(name)


def _same(found: pa.DataType, physical: str) -> bool:
    wanted = arrow_type(physical)
    if pa.types.is_large_string(found) or pa.types.is_string_view(found):
        found = pa.string()
    # Any timestamp in UTC reads as the engine's timestamp, whatever its unit.
    if pa.types.is_timestamp(found) and pa.types.is_timestamp(wanted):
        return found.tz is not None and found.unit in ("us", "ms")
    return found == wanted
