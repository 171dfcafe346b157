"""COPY and UNLOAD of the stand-in: Parquet in the object store on one side, text for PostgreSQL on
the other.

Belongs here: what Redshift demands of a manifest and of files, and reading and writing them. Does not
belong here: the statements (statements.py), and what of a file fits a table (functions.sql).
"""

from __future__ import annotations

import csv
import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.standins.servers.redshift.postgres import Postgres
from spark_jobs.lake.storage import Storage

_NULL = "\\N"
_TYPES = {
    pa.bool_(): "boolean",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.date32(): "date",
}
# Of PostgreSQL's descriptions of a result, by the number of the type.
_UNLOADED = {
    16: pa.bool_(),
    20: pa.int64(),
    21: pa.int16(),
    23: pa.int32(),
    701: pa.float64(),
    1082: pa.date32(),
    1114: pa.timestamp("us"),
}
_NUMERIC = 1700


class CopyError(Exception):
    """What Redshift says of a load that cannot be; `detail` is its second line."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


def spool(storage: Storage, folder: Path, location: str, *, nested: bool) -> list[dict[str, Any]]:
    """Reads what a manifest lists into text files that PostgreSQL can load. `nested`: whether lists
    and structs may be kept as JSON."""
    found = []
    for url, size in _entries(storage, location):
        fs, path = storage.filesystem(url)
        info = fs.get_file_info(path)
        if not info.is_file:
            raise CopyError(
                "S3ServiceException:The specified key does not exist.",
                f"Status 404,Error NoSuchKey,Key {url}",
            )
        if info.size != size:
            raise CopyError(
                "Spectrum Scan Error",
                f"code: 15001 context: File {url} has another size than content_length: {size}",
            )
        with fs.open_input_file(path) as stream, pq.ParquetFile(stream) as file:
            schema = file.schema_arrow
            columns = [{"name": f.name, "type": _type(f, url, nested=nested)} for f in schema]
            to = spooled(folder, file.iter_batches())
        found.append({"url": url, "spooled": str(to), "columns": columns})
    return found


def spooled(folder: Path, batches: Iterable[pa.RecordBatch]) -> Path:
    """Rows as a text file that PostgreSQL can load."""
    to = folder / f"{uuid.uuid4().hex}.csv"
    with to.open("w", newline="", encoding="utf-8") as text:
        writer = csv.writer(text, lineterminator="\n")
        for batch in batches:
            writer.writerows(_rows(batch))
    to.chmod(0o644)
    return to


def _entries(storage: Storage, location: str) -> Iterator[tuple[str, int]]:
    fs, path = storage.filesystem(location)
    try:
        with fs.open_input_file(path) as stream:
            document = json.loads(stream.read())
    except FileNotFoundError:
        raise CopyError(
            f"The specified S3 prefix '{path.partition('/')[2]}' does not exist"
        ) from None
    except ValueError:
        raise CopyError("Manifest file is not in correct json format") from None
    if not document.get("entries"):
        raise CopyError("Manifest file does not contain any entries")
    for entry in document["entries"]:
        length = entry.get("meta", {}).get("content_length")
        if length is None:
            raise CopyError(
                "Manifest file is not in correct json format",
                f"Missing meta.content_length for columnar file {entry['url']}",
            )
        yield entry["url"], length


def _type(field: pa.Field, url: str, *, nested: bool) -> str:
    type_ = field.type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return "string"
    if pa.types.is_timestamp(type_):
        return "timestamp"
    if pa.types.is_decimal(type_):
        return f"decimal({type_.precision},{type_.scale})"
    if pa.types.is_nested(type_):
        if nested:
            return "nested"
        raise CopyError(
            "Spectrum Scan Error",
            f"code: 15007 context: File '{url}' has an unsupported nested column '{field.name}'",
        )
    return _TYPES.get(type_, str(type_))


def _rows(batch: pa.RecordBatch) -> Iterator[list[Any]]:
    """The rows as texts; a null is told from an empty text by what stands for it."""
    columns = []
    for column in batch.columns:
        type_ = column.type
        if pa.types.is_timestamp(type_):
            column = column.cast(pa.timestamp("us"))  # UTC, without saying so
        values = column.to_pylist()
        if pa.types.is_nested(type_):
            values = [None if v is None else json.dumps(v, default=str) for v in values]
        columns.append([_NULL if v is None else v for v in values])
    return map(list, zip(*columns, strict=True))


def unload(
    postgres: Postgres, storage: Storage, database: str, user: str, query: str, prefix: str
) -> int:
    """Writes the rows of a query below a prefix, as one Parquet file and a manifest; returns how many.
    Of what sessions have committed: UNLOAD sees no more here."""
    with postgres.connected(database, user) as connection:
        cursor = connection.cursor()
        cursor.execute(query)
        schema = pa.schema([pa.field(c.name, _unloaded(c)) for c in cursor.description])
        rows = [dict(zip(schema.names, row, strict=True)) for row in cursor.fetchall()]
    fs, path = storage.filesystem(f"{prefix}0000_part_00.parquet")
    if fs.get_file_info(path).is_file:
        raise CopyError(
            "Specified unload destination on S3 is not empty.", "Consider using a different bucket"
            " / prefix, manually removing the target files in S3, or using the ALLOWOVERWRITE option."
        )  # fmt: skip
    with fs.open_output_stream(path) as stream:
        pq.write_table(pa.Table.from_pylist(rows, schema), stream)
    url = f"{prefix}0000_part_00.parquet"
    meta = {"content_length": fs.get_file_info(path).size, "record_count": len(rows)}
    _, manifest = storage.filesystem(f"{prefix}manifest")
    with fs.open_output_stream(manifest) as stream:
        stream.write(json.dumps({"entries": [{"url": url, "meta": meta}]}).encode())
    return len(rows)


def _unloaded(column: Any) -> pa.DataType:
    if column.type_code == _NUMERIC:
        if column.precision is None or column.precision > 38:
            return pa.decimal128(38, 10)
        return pa.decimal128(column.precision, column.scale)
    return _UNLOADED.get(column.type_code, pa.string())
