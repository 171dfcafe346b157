"""Reads landing files into rows, file by file, so that one bad file fails only its partition.

Belongs here: formats (Parquet, CSV, JSON lines), drift against the contract, unreadable records.
Does not belong here: typing and cleaning (a table's transform), or what happens to bad rows.

Text is parsed by Arrow and Python inside `mapInArrow`, not by the engine's own readers: those
differ between engines in what they do with a broken line, and drop it or fail the whole read.
Every row of a text source is delivered as strings; typing is the silver table's work.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from spark_jobs import storage
from spark_jobs.contract import Contract
from spark_jobs.delta import arrow_type
from spark_jobs.errors import InputError, SchemaError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

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
_SAMPLES = 3


@dataclass
class Delivery:
    """The files of one partition, and what is already known about them before any row is read."""

    partition: str
    files: list[storage.File]
    expected: bool
    error: str = ""
    drift: dict[str, Any] = field(default_factory=lambda: {"extra": {}, "missing": []})
    records: int = 0

    @property
    def fingerprint(self) -> list[str]:
        return [f"{f.name}:{f.version}" for f in self.files]


def expected(contract: Contract, partition: str) -> bool:
    """Whether the source delivers on this partition's day of the week."""
    import datetime as dt

    assert contract.source is not None
    day = dt.date.fromisoformat(partition[:10])
    return ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[day.weekday()] in contract.source.days


def deliveries(contract: Contract, lake: storage.Lake, partitions: Iterable[str]) -> list[Delivery]:
    """The landing files of each partition. A partition whose delivery is due but missing comes
    back with an error; a file is only listed here, not opened."""
    assert contract.source is not None
    out = []
    for partition in partitions:
        folder = lake.landing(contract.source.dataset, partition)
        delivery = Delivery(partition, storage.files(folder), expected(contract, partition))
        if delivery.expected and not delivery.files:
            delivery.error = (
                f"nothing delivered: no files in {folder}. Deliver the files, or leave the day out"
                " of the contract's source.days if the source never delivers on it."
            )
        out.append(delivery)
    return out


def inspect(contract: Contract, delivery: Delivery) -> None:
    """Opens each file's footer or header; notes drift and the error that fails the partition."""
    try:
        for file in delivery.files:
            _inspect_file(contract, delivery, file)
    except (InputError, SchemaError) as error:
        delivery.error = str(error)


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
                f"{file.uri}: a damaged Parquet file ({_short(error)}). Its footer is whole, its"
                " pages are not; deliver it again."
            )
    return ""


def _inspect_file(contract: Contract, delivery: Delivery, file: storage.File) -> None:
    fs, path = storage.filesystem(file.uri)
    known = set(contract.column)
    kind = contract.source.format  # type: ignore[union-attr]
    if kind == "json" or (file.size == 0 and kind == "csv"):
        return
    if kind == "parquet":
        try:
            with pq.ParquetFile(path, filesystem=fs) as parquet:
                names = parquet.schema_arrow.names
                extra = [n for n in names if n not in known]
                samples = (
                    next(parquet.iter_batches(_SAMPLES, columns=extra), None) if extra else None
                )
                delivery.records += parquet.metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{file.uri}: not a readable Parquet file ({_short(error)}). It may be truncated,"
                " or not what its name says; deliver it again."
            ) from error
        values = samples.to_pydict() if samples is not None else {}
        found = {n: [str(v) for v in values.get(n, [])] for n in extra}
    else:
        names = csv_header(fs.open_input_stream(path).read(1 << 16), file.uri)
        found = {n: [] for n in names if n not in known}
    _note_drift(contract, delivery.drift, names, found, file.uri)


def _note_drift(
    contract: Contract, drift: dict[str, Any], names: Iterable[str], extra: Any, where: str
) -> None:
    present = set(names)
    missing = [c for c in contract.columns if c.name not in present]
    required = [c.name for c in missing if c.required]
    if required:
        raise SchemaError(
            f"{where}: required column(s) missing: {', '.join(required)}. Found:"
            f" {', '.join(sorted(present)) or 'none'}. Deliver them, or change the contract."
        )
    drift["missing"] = sorted({*drift["missing"], *(c.name for c in missing)})
    for name, samples in extra.items():
        drift["extra"].setdefault(name, samples[:_SAMPLES])


def csv_header(head: bytes, where: str) -> list[str]:
    """The column names in the first record of a CSV file; a UTF-8 byte order mark and blank lines
    before it are skipped. Raises InputError if it is no text, or names a column twice."""
    _ensure_text(head, where)
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A character cut at the end of the sample is not a wrong encoding.
        if error.start < len(head) - 4:
            raise _wrong_encoding(where, error.start) from None
        text = head[: error.start].decode("utf-8-sig")
    if "\x00" in text:
        raise _wrong_encoding(where, text.index("\x00"))
    try:
        names = next((r for r in csv.reader(io.StringIO(text, newline=None)) if r), [])
    except csv.Error as error:
        raise InputError(
            f"{where}: the header cannot be read ({error}). Deliver it again."
        ) from None
    names = [name.strip() for name in names]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(
            f"{where}: column(s) named twice in the header: {', '.join(twice)}. Nobody can tell them"
            " apart; deliver the file with a name for each."
        )
    return names


# How files begin that are sometimes delivered as text by mistake.
_FORMATS = {b"PAR1": "Parquet", b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x00asm": "binary"}


def _ensure_text(data: bytes, where: str) -> None:
    for magic, name in _FORMATS.items():
        if data.startswith(magic):
            raise InputError(
                f"{where}: a {name} file, whatever its name says. Deliver it as text, in UTF-8."
            )


def _wrong_encoding(where: str, position: int) -> InputError:
    return InputError(f"{where}: not UTF-8 text (byte {position}). Deliver the file as UTF-8.")


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0][:200]


def read(spark: SparkSession, contract: Contract, deliveries: list[Delivery]) -> DataFrame:
    """Rows of all files: the contract's columns and READER_COLUMNS.

    The files must have been inspected. Shape: one row per record, and for text files one summary
    row per file (`_records` set) that carries the count taken at the source.
    """
    if contract.source.format == "parquet":  # type: ignore[union-attr]
        return _read_parquet(spark, contract, deliveries)
    return _read_text(spark, contract, deliveries)


def _read_parquet(spark: SparkSession, contract: Contract, deliveries: list[Delivery]) -> DataFrame:
    from functools import reduce

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
        return _empty(spark, contract)
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


def _schema(contract: Contract) -> str:
    columns = [(c.name, c.type) for c in contract.columns] + list(READER_COLUMNS)
    return ", ".join(f"`{n}` {t}" for n, t in columns)


def _empty(spark: SparkSession, contract: Contract) -> DataFrame:
    return spark.createDataFrame([], _schema(contract))


def _read_text(spark: SparkSession, contract: Contract, deliveries: list[Delivery]) -> DataFrame:
    listed = [(f.uri, d.partition) for d in deliveries for f in d.files]
    if not listed:
        return _empty(spark, contract)
    parse = {"csv": parse_csv, "json": parse_json}[contract.source.format]  # type: ignore[union-attr]
    columns = tuple(c.name for c in contract.columns)
    required = frozenset(c.name for c in contract.columns if c.required)

    def parse_files(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for uri, partition in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                yield parse(uri, partition, columns, required)

    paths = spark.createDataFrame(listed, "uri string, partition string")
    return paths.mapInArrow(parse_files, _schema(contract))


def _batch(
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


def _failed(columns: tuple[str, ...], uri: str, partition: str, error: str) -> pa.RecordBatch:
    summary = {"_records": 0, "_file_error": error}
    return _batch(columns, {}, 0, uri=uri, partition=partition, summary=summary)


def parse_csv(
    uri: str, partition: str, columns: tuple[str, ...], required: frozenset[str]
) -> pa.RecordBatch:
    """One RFC 4180 file (header, quotes, newlines inside quotes, optional byte order mark).

    A record with too few or too many fields becomes a row with `_raw` and the violation
    `parsable`; columns beyond the contract go to `_rescued` as JSON text.
    """
    fs, path = storage.filesystem(uri)
    data = fs.open_input_stream(path).read().removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n")
    if not data.strip():
        summary = {"_records": 0}
        return _batch(columns, {}, 0, uri=uri, partition=partition, summary=summary)
    unparsable: list[str] = []

    def keep(row: pacsv.InvalidRow) -> str:
        unparsable.append(row.text)
        return "skip"

    try:
        names = csv_header(data, uri)
        table = _csv_table(data, names, keep)
        if data.count(b'"') % 2 and _ends_within_quotes(data, names, table.num_rows):
            raise InputError(
                f"{uri}: a quoted field is never closed, so the rows after it are lost in it. The"
                " file may be truncated; deliver it again."
            )
    except InputError as error:
        return _failed(columns, uri, partition, str(error))
    except pa.ArrowException as error:
        wrong = "not UTF-8 text" if "UTF8" in str(error) else "not readable as CSV"
        text = f"{uri}: {wrong} ({_short(error)}). Deliver the file again, as UTF-8."
        return _failed(columns, uri, partition, text)
    bad, total = len(unparsable), table.num_rows + len(unparsable)
    rows: dict[str, Any] = {}
    for name in columns:
        if name in names:
            good = table.column(name).combine_chunks()
            rows[name] = pa.concat_arrays([good, pa.nulls(bad, pa.string())])
    extra = [n for n in names if n not in columns]
    if extra:
        kept = table.select(extra).to_pylist()
        rows["_rescued"] = [_compact(r) for r in kept] + [None] * bad
    rows["_violations"] = [None] * table.num_rows + [["parsable"]] * bad
    rows["_raw"] = [None] * table.num_rows + unparsable
    samples = {n: table.column(n).slice(0, _SAMPLES).to_pylist() for n in extra}
    drift = {"extra": samples, "missing": sorted(set(columns) - set(names))}
    summary = {"_records": total, "_drift": json.dumps(drift)}
    return _batch(columns, rows, total, uri=uri, partition=partition, summary=summary)


def _csv_table(data: bytes, names: list[str], keep: Callable[[Any], str]) -> pa.Table:
    """The records below the header, all columns as text; `keep` gets those that do not fit."""
    return pacsv.read_csv(
        io.BytesIO(data),
        read_options=pacsv.ReadOptions(
            use_threads=False, column_names=names, skip_rows_after_names=1, block_size=len(data) + 1
        ),
        parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=keep),
        convert_options=pacsv.ConvertOptions(
            column_types={n: pa.string() for n in names}, strings_can_be_null=False
        ),
    )


def _ends_within_quotes(data: bytes, names: list[str], rows: int) -> bool:
    """Whether the last record swallows one more that is put after it."""
    one_more = data.rstrip(b"\r\n") + b"\n" + b",".join([b"x"] * len(names)) + b"\n"
    return _csv_table(one_more, names, lambda _: "skip").num_rows == rows


def parse_json(
    uri: str, partition: str, columns: tuple[str, ...], required: frozenset[str]
) -> pa.RecordBatch:
    """One file of JSON objects, one per line (RFC 8259, UTF-8); blank lines are not records.

    Scalars are kept as the text they were delivered as, nested values as compact JSON. A line
    that is not one object becomes a row with `_raw` and the violation `parsable`; keys beyond the
    contract go to `_rescued`.
    """
    fs, path = storage.filesystem(uri)
    data = fs.open_input_stream(path).read()
    try:
        _ensure_text(data, uri)
        lines = [line for line in data.decode("utf-8-sig").split("\n") if line.strip()]
    except InputError as error:
        return _failed(columns, uri, partition, str(error))
    except UnicodeDecodeError as error:
        return _failed(columns, uri, partition, str(_wrong_encoding(uri, error.start)))
    rows: dict[str, list[Any]] = {n: [] for n in (*columns, "_rescued", "_violations", "_raw")}
    known, seen, samples = set(columns), set(), {}
    for line in lines:
        record = _object(line)
        for name in columns:
            rows[name].append((record or {}).get(name))
        extra = {k: v for k, v in (record or {}).items() if k not in known}
        for key, value in extra.items():
            samples.setdefault(key, [])
            if len(samples[key]) < _SAMPLES:
                samples[key].append(value)
        seen.update(record or ())
        rows["_rescued"].append(_rescued(line, extra) if extra else None)
        rows["_violations"].append(None if record is not None else ["parsable"])
        rows["_raw"].append(None if record is not None else line)
    if seen and required - seen:
        absent = ", ".join(sorted(required - seen))
        text = (
            f"{uri}: required column(s) missing: {absent}. Found: {', '.join(sorted(seen))}."
            " Deliver them, or change the contract."
        )
        return _failed(columns, uri, partition, text)
    drift = {"extra": samples, "missing": sorted(known - seen) if seen else []}
    summary = {"_records": len(lines), "_drift": json.dumps(drift)}
    return _batch(columns, rows, len(lines), uri=uri, partition=partition, summary=summary)


class _Number(str):
    """A number as it was written: 1.10 is not 1.1, and 12345678901234567890 fits no double."""

    __slots__ = ()


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")  # Python would read NaN and Infinity


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")  # one of its values would be lost
    return found


def _load(line: str) -> Any:
    return json.loads(
        line,
        parse_float=_Number,
        parse_int=_Number,
        parse_constant=_no_number,
        object_pairs_hook=_unique,
    )


def _object(line: str) -> dict[str, str | None] | None:
    """The values of a JSON object as text; None if the line is anything else."""
    try:
        value = _load(line)
        if not isinstance(value, dict):
            return None
        record = {k: _scalar(v) for k, v in value.items()}
        if "\\u" in line:  # an escaped half of a surrogate pair is no character
            "".join([*record, *filter(None, record.values())]).encode()
    except (ValueError, RecursionError):
        return None
    return record


def _rescued(line: str, names: Iterable[str]) -> str:
    value = _load(line)
    return _compact({name: value[name] for name in names})


def _scalar(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return _compact(value)


def _compact(value: Any) -> str:
    """Compact JSON, with numbers as they were written."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        pairs = (f"{json.dumps(k, ensure_ascii=False)}:{_compact(v)}" for k, v in value.items())
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_compact, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
