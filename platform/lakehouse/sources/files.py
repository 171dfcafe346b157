"""Rows become landing files, each of which is there as a whole or not at all.

Belongs here: the three formats, names that follow from content, sizes. Does not belong here: which rows
(extract.py), or which files count (the manifest).
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from spark_jobs.lake.manifest import Landed

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.sources.source import Batch
    from spark_jobs.contract.source import Source as Declared
    from spark_jobs.lake.storage import Storage

FILE_BYTES = 256 << 20
"""A file is closed after it has grown to this, and the next one begun."""
_EXTENSIONS = {"parquet": "parquet", "csv": "csv", "json": "jsonl"}


@dataclass(frozen=True)
class Folder:
    """A partition of a dataset in landing. `columns` are those to be landed, in this order; others that
    rows have are left out."""

    storage: Storage
    uri: str
    declared: Declared
    columns: tuple[str, ...]

    def write(self, batches: Iterable[Batch], stem: str, first: str, last: str) -> list[Landed]:
        """Writes rows under names of the stem, a number and the content's hash. No rows make no file."""
        landed: list[Landed] = []
        rest = iter(batches)
        while (head := next(rest, None)) is not None:
            with self._unfinished() as (name, sink):
                rows = self._fill(sink, itertools.chain([head], rest))
            digest = sink.sha256.hexdigest()
            of = f"{stem}-{len(landed):03}-{digest[:16]}.{_EXTENSIONS[self.declared.format]}"
            self._rename(name, of)
            landed.append(Landed(of, rows, sink.size, digest, first, last))
        return landed

    def _fill(self, sink: _Sink, batches: Iterator[Batch]) -> int:
        writer = _WRITERS[self.declared.format](sink, self)
        rows = 0
        for batch in batches:
            writer.write(batch)
            rows += batch_rows(batch)
            if sink.size >= FILE_BYTES:
                break
        writer.close()
        return rows

    @contextmanager
    def _unfinished(self) -> Iterator[tuple[str, _Sink]]:
        """A file that nobody reads; it is removed if it is given up."""
        name = f"_{uuid.uuid4().hex}"
        fs, path = self.storage.filesystem(f"{self.uri}/{name}")
        if "://" not in self.uri:
            fs.create_dir(path.rpartition("/")[0], recursive=True)
        try:
            with fs.open_output_stream(path) as stream:
                yield name, _Sink(stream)
        except BaseException:
            if fs.get_file_info(path).is_file:
                fs.delete_file(path)
            raise

    def _rename(self, name: str, to: str) -> None:
        fs, source = self.storage.filesystem(f"{self.uri}/{name}")
        fs.move(source, self.storage.filesystem(f"{self.uri}/{to}")[1])


class _Sink(io.RawIOBase):
    """Writes to a stream, and knows what it has written."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.size, self.sha256 = stream, 0, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        block = bytes(data)
        self._stream.write(block)
        self.size += len(block)
        self.sha256.update(block)
        return len(block)


def batch_rows(batch: Batch) -> int:
    """How many rows there are."""
    return len(batch) if isinstance(batch, Sequence) else batch.num_rows


def records(batch: Batch) -> Sequence[Mapping[str, Any]]:
    """The rows as dictionaries."""
    return batch if isinstance(batch, Sequence) else batch.to_pylist()


class _Writer(Protocol):
    def __init__(self, sink: _Sink, folder: Folder) -> None: ...
    def write(self, batch: Batch) -> None: ...
    def close(self) -> None: ...


class _Parquet:
    def __init__(self, sink: _Sink, folder: Folder) -> None:
        self._sink, self._columns = sink, folder.columns
        self._writer: Any = None

    def write(self, batch: Batch) -> None:
        import pyarrow.parquet as pq

        if isinstance(batch, Sequence):
            raise TypeError("a source that yields dictionaries lands as csv or json")
        chosen: pa.RecordBatch = batch.select(list(self._columns))
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._sink, chosen.schema)
        self._writer.write_batch(chosen)

    def close(self) -> None:
        self._writer.close()


class _Json:
    def __init__(self, sink: _Sink, folder: Folder) -> None:
        self._sink, self._columns = sink, folder.columns

    def write(self, batch: Batch) -> None:
        lines = []
        for row in records(batch):
            record = {c: row[c] for c in self._columns if c in row}
            lines.append(json.dumps(record, ensure_ascii=False, default=_text) + "\n")
        self._sink.write("".join(lines).encode())

    def close(self) -> None: ...


class _Csv:
    def __init__(self, sink: _Sink, folder: Folder) -> None:
        d = folder.declared
        self._columns = folder.columns
        self._text = io.TextIOWrapper(io.BufferedWriter(sink, 1 << 20), d.encoding, newline="")
        quoting: dict[str, Any] = {"quotechar": d.quote} if d.quote else {"quoting": csv.QUOTE_NONE}
        self._csv = csv.writer(self._text, delimiter=d.delimiter, lineterminator="\n", **quoting)
        if d.header:
            self._csv.writerow(self._columns)

    def write(self, batch: Batch) -> None:
        self._csv.writerows([_cell(row.get(c)) for c in self._columns] for row in records(batch))

    def close(self) -> None:
        self._text.flush()
        self._text.detach().detach()  # the stream stays open


_WRITERS: Mapping[str, type[_Writer]] = {"parquet": _Parquet, "json": _Json, "csv": _Csv}


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int)) else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, (float, Decimal)):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be landed as text")
