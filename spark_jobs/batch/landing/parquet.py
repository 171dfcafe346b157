"""Reads Parquet files, each by its own schema, through Arrow inside `mapInArrow`.

Belongs here: footers, row groups, values of another type than the contract's. Does not belong here:
what text becomes once it is a value of text (`values.py` writes it, the engine reads it).

Not by the engine's own reader: it takes names for patterns, and a frame for each file makes a query
plan as deep as there are files. Here a plan has one size, a path is a path, and a damaged page fails
its own partition. On Sail this is the faster way too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from spark_jobs import quoting
from spark_jobs.batch.landing.deliveries import Delivery, Slice
from spark_jobs.batch.landing.rows import READER_COLUMNS, empty, schema, spread
from spark_jobs.batch.landing.text import short
from spark_jobs.batch.landing.values import as_text, record, same
from spark_jobs.contract.model import Contract
from spark_jobs.errors import InputError
from spark_jobs.lake.delta import arrow_type
from spark_jobs.lake.storage import File, Storage

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

_BATCH_ROWS = 65_536
_SLICE_BYTES = 256 << 20  # of pages, decompressed: what one task reads
_AS_TEXT = "_as_text_{}"


def footer(
    contract: Contract, file: File, partition: str, storage: Storage
) -> tuple[list[Slice], list[str]]:
    """The row groups of a file in slices of one task each, and the names of its columns."""
    try:
        parquet = storage.parquet(file.uri, file.size)
        found, metadata = parquet.physical_schema, parquet.metadata
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{file.uri}: not a readable Parquet file ({short(error)}). It may be truncated,"
            " or not what its name says; deliver it again."
        ) from error
    spelt = Counter(n.lower() for n in found.names)
    twice = sorted({n for n in found.names if spelt[n.lower()] > 1})
    if twice:
        raise InputError(
            f"{file.uri}: column names that are equal, or differ only in case:"
            f" {quoting.names(twice)}. Nobody can tell them apart; deliver the file"
            " with a name for each."
        )
    converted = frozenset(
        c.name
        for c in contract.columns
        if c.name in found.names and not same(found.field(c.name).type, arrow_type(c.type))
    )
    slices, first, size, rows = [], 0, 0, 0
    for last, group in enumerate(groups):
        size, rows = size + group.total_byte_size, rows + group.num_rows
        if size >= _SLICE_BYTES or last == len(groups) - 1:
            found_in = (file.uri, file.size, partition, first, last + 1)
            slices.append(Slice(*found_in, rows, converted))
            first, size, rows = last + 1, 0, 0
    return slices, found.names


def read_parquet(
    spark: SparkSession, contract: Contract, deliveries: list[Delivery], storage: Storage
) -> DataFrame:
    """The rows of the slices that `footer` found; those of another type are converted, or leave."""
    slices = [s for d in deliveries for s in d.slices]
    if not slices:
        return empty(spark, contract)
    wanted = {c.name: arrow_type(c.type) for c in contract.columns}
    texts = tuple(sorted(frozenset().union(*(s.converted for s in slices))))

    def read_slices(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for uri, size, partition, *groups in zip(*(c.to_pylist() for c in batch), strict=True):
                yield from rows_of((uri, size), partition, range(*groups), wanted, texts, storage)

    listed = [(s.uri, s.size, s.partition, s.first, s.end) for s in slices]
    columns = "uri string, size bigint, partition string, first int, end int"
    frame = spark.createDataFrame(listed, columns)
    shape = schema(contract) + "".join(f", `{_AS_TEXT.format(n)}` string" for n in texts)
    frame = spread(frame, len(listed)).mapInArrow(read_slices, shape)
    return _converted(frame, contract, texts) if texts else frame


def rows_of(
    file: tuple[str, int],
    partition: str,
    groups: range,
    wanted: dict[str, pa.DataType],
    texts: tuple[str, ...],
    storage: Storage,
) -> Iterator[pa.RecordBatch]:
    """Batches of some row groups of a file (its place, and its size in bytes). A file that cannot be
    read to its end closes with a row that says so in `_file_error`."""
    uri, error = file[0], ""
    try:
        some = storage.parquet(*file).subset(row_group_ids=list(groups))
        # Nothing is read ahead but the group itself: a task holds one at a time.
        batches = some.to_batches(batch_size=_BATCH_ROWS, batch_readahead=1, use_threads=False)
        for batch in batches:
            yield _shaped(batch, uri, partition, wanted, texts)
    except InputError as unlike:
        error = str(unlike)
    except (pa.ArrowException, OSError) as damage:
        error = (
            f"{uri}: a damaged Parquet file ({short(damage)}). Its footer is whole, its pages are"
            " not; deliver it again."
        )
    if error:
        told = {
            "_source_file": uri.rpartition("/")[2],
            "_partition": partition,
            "_records": 0,
            "_file_error": error,
        }
        yield _batch({n: pa.array([v], _READER[n]) for n, v in told.items()}, 1, wanted, texts)


_READER = {n: arrow_type(t) for n, t in READER_COLUMNS}


def _batch(
    columns: dict[str, pa.Array], rows: int, wanted: dict[str, pa.DataType], texts: tuple[str, ...]
) -> pa.RecordBatch:
    types = wanted | _READER | {_AS_TEXT.format(n): pa.string() for n in texts}
    arrays = [columns[n] if n in columns else pa.nulls(rows, t) for n, t in types.items()]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(list(types.items())))


def _shaped(
    batch: pa.RecordBatch,
    uri: str,
    partition: str,
    wanted: dict[str, pa.DataType],
    texts: tuple[str, ...],
) -> pa.RecordBatch:
    """A batch of a file as one of the reader: a column of another type comes as the contract's
    where Arrow loses nothing by that, and else as text; columns beyond the contract as JSON."""
    columns: dict[str, pa.Array] = {}
    for name in batch.schema.names:
        if name not in wanted:
            continue
        value, type_ = batch.column(name), wanted[name]
        try:
            exact = _exact(value, type_)
        except (pa.ArrowException, ValueError):
            raise InputError(
                f"{uri}: column {name} is {value.type}, the contract says {type_}, and not every"
                " value can be written as that. Deliver it as the contract says, or change the"
                " contract."
            ) from None
        if exact is None:
            columns[_AS_TEXT.format(name)] = as_text(value)
        else:
            columns[name] = exact
    if any(_AS_TEXT.format(n) in columns for n in texts):
        columns["_raw"] = record(batch, batch.schema.names)
    extra = [n for n in batch.schema.names if n not in wanted]
    if extra:
        columns["_rescued"] = record(batch, extra)
    for name, text in (("_source_file", uri.rpartition("/")[2]), ("_partition", partition)):
        columns[name] = pa.repeat(pa.scalar(text, pa.string()), batch.num_rows)
    return _batch(columns, batch.num_rows, wanted, texts)


def _exact(value: pa.Array, wanted: pa.DataType) -> pa.Array | None:
    """The column as the wanted type; None if that is the engine's to try, by way of text."""
    if pa.types.is_dictionary(value.type):
        value = value.dictionary_decode()
    if same(value.type, wanted) or pa.types.is_nested(wanted):
        return value.cast(wanted)
    if pa.types.is_string(wanted):
        return as_text(value)
    if pa.types.is_timestamp(wanted) and pa.types.is_timestamp(value.type):
        return pc.cast(value, options=pc.CastOptions(wanted, allow_time_truncate=True))
    if pa.types.is_integer(wanted) and (
        pa.types.is_integer(value.type)
        or pa.types.is_floating(value.type)
        or pa.types.is_decimal(value.type)
    ):
        try:
            return value.cast(wanted)
        except pa.ArrowException:
            return None
    return None


def _converted(frame: DataFrame, contract: Contract, texts: tuple[str, ...]) -> DataFrame:
    """Reads what came as text, on which engines agree. What is lost by that is a violation."""
    from pyspark.sql import functions as F

    failures, values = [], {}
    for name in texts:
        text = F.col(_AS_TEXT.format(name))
        column = contract.column[name]
        value = _read(text, column.type)
        failures.append(F.when(text.isNotNull() & value.isNull(), F.lit(column.type_check)))
        values[name] = F.coalesce(F.col(name), value)
    found = F.filter(F.array(*failures), lambda v: v.isNotNull())
    values["_violations"] = F.when(F.size(found) > 0, found)
    values["_raw"] = F.when(F.size(found) > 0, F.col("_raw"))
    columns = [n for n in frame.columns if n not in {_AS_TEXT.format(t) for t in texts}]
    return frame.select(*[values[n].alias(n) if n in values else F.col(n) for n in columns])


def _read(text: Column, wanted: str) -> Column:
    """Text as the wanted type, null if it is none of it; 7.0 is the integer 7, and 7.5 is none."""
    from pyspark.sql import functions as F

    from spark_jobs.columns import as_number

    if wanted in ("int", "bigint"):
        exact = as_number(text, "decimal(38,10)")
        whole = exact.try_cast(wanted)
        fraction = F.when(whole.cast("decimal(38,10)") == exact, whole)
        return F.when(text.rlike(r"[.eE]"), fraction).otherwise(text.try_cast(wanted))
    if wanted.startswith("decimal"):
        return as_number(text, wanted)
    return text.try_cast(wanted)
