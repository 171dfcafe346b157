"""Files that others put into a bucket of theirs, in formats that suit them: rows of those that are new,
or were written again.

Belongs here: which files, and their rows. Does not belong here: what rows mean. Tables read what lands,
in one format that every engine knows: no engine needs a reader of workbooks.

A multipart upload that is not complete is no object yet, and an object is the whole of what was sent. So
what is cut was cut before it was sent: such a file is refused by name, and nothing lands.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from lakehouse.settings.sources import BucketConnection
from lakehouse.sources.source import Batch, Meter, Reads
from spark_jobs import quoting
from spark_jobs.contract.source import Bucket
from spark_jobs.errors import InputError
from spark_jobs.json_objects import Number, decoded
from spark_jobs.lake.storage import Storage

if TYPE_CHECKING:
    import pyarrow.fs as pafs

FILE, SHA256, RECEIVED = "source_file", "source_sha256", "received_at"
"""Columns that a row gets: the file below the folder, its content's hash, when it was written."""
_MOST_BYTES = 256 << 20
_AT_ONCE = 2000
Row = dict[str, Any]


@dataclass(frozen=True)
class Folder:
    """A folder with all below it."""

    connection: BucketConnection
    declared: Bucket
    columns: tuple[str, ...]
    reads: Reads = "changes"
    changed: str | None = RECEIVED

    def pull(self, since: datetime | None, until: datetime, meter: Meter) -> Iterator[Batch]:
        storage = Storage(self.connection.storage_options)
        listed, root = storage.below(self._uri, recursive=True)
        meter.requests += 1
        found = sorted((at, name, info) for at, name, info in _files(listed, root) if at < until)
        for at, name, info in found:
            if since is None or at >= since:
                meter.requests += 1
                origin = {FILE: name, RECEIVED: at.isoformat()}
                rows = iter(self._rows(storage, name, info, origin))
                while page := list(itertools.islice(rows, _AT_ONCE)):
                    yield page

    def check(self) -> None:
        Storage(self.connection.storage_options).below(self._uri)

    @property
    def _uri(self) -> str:
        return f"{self.connection.location}/{self.declared.folder}"

    def _rows(self, storage: Storage, name: str, info: pafs.FileInfo, origin: Row) -> Iterator[Row]:
        """Raises InputError for a file that cannot be understood as a whole."""
        where = quoting.plain(f"{self._uri}/{name}")
        fs, _ = storage.filesystem(self._uri)
        if info.size > _MOST_BYTES:
            raise InputError(f"{where}: has {info.size:,} bytes. Deliver parts of 256 MiB at most.")
        with fs.open_input_file(info.path) as stream:
            data = stream.read()
        origin = {**origin, SHA256: hashlib.sha256(data).hexdigest()}
        try:
            rows = self._parsed(name, data)
            missing = sorted({*self.columns} - {*origin} - set().union(*rows)) if rows else ["rows"]
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        except (ValueError, EOFError, OSError, RecursionError, csv.Error, zlib.error) as error:
            raise InputError(
                f"{where}: cannot be read ({type(error).__name__}). It is damaged, was cut before it was"
                " sent, or is of another format than its name says. Have it sent again; nothing landed."
            ) from None
        if missing:
            raise InputError(
                f"{where}: has no {', '.join(missing)}. Have it sent again; nothing landed."
            )
        return ({**row, **origin} for row in rows)

    def _parsed(self, name: str, data: bytes) -> list[Row]:
        if name.endswith(".gz"):
            name, data = name.removesuffix(".gz"), _unpacked(data)
        parse = _FORMATS.get(name.rpartition(".")[2].lower())
        if parse is None:
            raise InputError(
                f"is none of {', '.join(_FORMATS)}, nor one of these with .gz."
                " Move it out of the folder, or begin its name with _ or . if it is not data."
            )
        return parse(data, self.declared)


def source(connection: BucketConnection, declared: Bucket, columns: tuple[str, ...]) -> Folder:
    """The folder that a contract asks for."""
    return Folder(connection, declared, columns)


def _files(listed: list[pafs.FileInfo], root: str) -> Iterator[tuple[datetime, str, Any]]:
    """Each file with when it was written, and its path; what begins with `.` or `_` is none of them."""
    import pyarrow.fs as pafs

    for info in listed:
        name = info.path.removeprefix(root.rstrip("/") + "/")
        if info.type == pafs.FileType.File and not name.rpartition("/")[2].startswith((".", "_")):
            yield info.mtime.astimezone(UTC), name, info


def _unpacked(data: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        found = file.read(_MOST_BYTES + 1)
    if len(found) > _MOST_BYTES:
        raise InputError(
            "has more than 256 MiB when it is unpacked. Deliver parts of that at most."
        )
    return found


def _csv(data: bytes, declared: Bucket) -> list[Row]:
    quoted: dict[str, Any] = (
        {"quotechar": declared.quote} if declared.quote else {"quoting": csv.QUOTE_NONE}
    )
    text = io.StringIO(data.decode(declared.encoding).removeprefix("\ufeff"), newline="")
    names, *lines = csv.reader(text, delimiter=declared.delimiter, strict=True, **quoted)
    return _rows(names, ([v or None for v in line] for line in lines if line))


def _json(data: bytes, declared: Bucket) -> list[Row]:
    """An array of objects, or an object a line. Line ends that Unicode has besides may stand in text."""
    text = data.decode("utf-8-sig")
    whole = text.lstrip().startswith("[")
    lines = io.StringIO(text, newline=None)
    found = decoded(text) if whole else [decoded(line) for line in lines if line.strip()]
    if not all(isinstance(row, dict) for row in found):
        raise ValueError("not objects")
    return [_exact(row) for row in found]


def _exact(value: Any) -> Any:
    """A value with its numbers, which are text where no number of Python is the same."""
    if isinstance(value, dict):
        return {name: _exact(of) for name, of in value.items()}
    if isinstance(value, list):
        return list(map(_exact, value))
    if not isinstance(value, Number):
        return value
    if value.removeprefix("-").isdigit():
        return int(value)
    near = float(value)
    return near if Decimal(repr(near)) == Decimal(value) else str(value)


def _workbook(data: bytes, declared: Bucket) -> list[Row]:
    """The first sheet, whose first row has the names. A cell has the value that was stored with it, for
    a formula the one that it had then, and none for one that is an error."""
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        sheet = CalamineWorkbook.from_filelike(io.BytesIO(data)).get_sheet_by_index(0)
        names, *lines = sheet.to_python(skip_empty_area=True)
    except CalamineError as error:
        raise ValueError("no workbook") from error
    filled = (line for line in lines if any(value != "" for value in line))
    return _rows([str(n).strip() for n in names], (list(map(_cell, line)) for line in filled))


def _cell(value: Any) -> Any:
    """A workbook has no integers, and nothing that is not there."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, (time, timedelta)):
        return str(value)
    return None if value == "" else value


def _rows(names: Sequence[str], lines: Iterator[list[Any]]) -> list[Row]:
    """Lines with the names of their columns. Of two columns of one name, one would be lost."""
    places: dict[str, int] = {}
    for at, name in enumerate(names, start=1):
        if name and places.setdefault(name, at) != at:
            raise InputError(
                f"its columns {places[name]} and {at} have one name. Have it sent with another for one"
                " of them; nothing landed."
            )
    return [dict(zip(names, line, strict=True)) for line in lines]


_FORMATS: Mapping[str, Callable[[bytes, Bucket], list[Row]]] = {
    "csv": _csv,
    "json": _json,
    "jsonl": _json,
    "xlsx": _workbook,
}
