"""A look into a delivered file: its layout, and the first of its rows, read as landing reads them.

Belongs here: what a file says of itself. Does not belong here: what its columns mean (inference.py).
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from spark_jobs import quoting
from spark_jobs.batch.landing import csv as landing_csv
from spark_jobs.batch.landing import parse_csv, parse_json
from spark_jobs.batch.landing.text import Found, Layout, Parse, Part, blocks, short
from spark_jobs.errors import InputError
from spark_jobs.lake.storage import Storage

MOST_BYTES = 8 << 20
"""How much of a file is looked at, to a block more."""

_FORMATS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".json": "json", ".jsonl": "json",
            ".ndjson": "json", ".parquet": "parquet", ".pq": "parquet"}  # fmt: skip
_DELIMITERS = ",;\t|"
_SNIFFED = 16 << 10
# A field that is a value, and no name: a number, a date, a time.
_VALUE = re.compile(r"[+-]?[\d.,:/TZ+ -]*\d[\d.,:/TZ+ -]*")


@dataclass(frozen=True)
class Sample:
    """The first rows of a file. `left_out` are columns that a contract cannot name, and why."""

    path: Path
    format: str
    layout: Layout
    rows: pa.Table
    malformed: int
    whole: bool
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def extent(self) -> str:
        """How much of the file was looked at, in words."""
        rows = f"{self.rows.num_rows:,} rows"
        return f"all {rows}" if self.whole else f"the first {rows} (about {MOST_BYTES >> 20} MiB)"


def look(path: Path, encoding: str | None = None) -> Sample:
    """The first rows of a CSV file with a header, of JSON lines, or of a Parquet file.

    Raises InputError where the file is empty, of no known format, without a header, or is not the
    text that it should be.
    """
    kind = _FORMATS.get(path.suffix.lower())
    try:
        with path.open("rb") as file:
            head = file.read(_SNIFFED)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if kind is None:
        raise InputError(
            f"{path}: a file of unknown format. A draft is made of CSV (.csv, .tsv, .txt), JSON lines"
            " (.json, .jsonl, .ndjson) or Parquet (.parquet): name the file after what it is."
        )
    if not head:
        raise InputError(f"{path}: the file is empty, so there is nothing to see")
    if encoding and kind != "csv":
        raise InputError(f"{path}: only CSV has an encoding; JSON lines are UTF-8")
    if kind == "csv":
        sample = _csv(path, head, encoding)
    else:
        sample = {"json": _json, "parquet": _parquet}[kind](path)
    if not sample.rows.num_rows:
        raise InputError(f"{path}: the file has no rows, so nobody can see what they are")
    return _nameable(sample)


# -- CSV ---------------------------------------------------------------------------------------


def _csv(path: Path, head: bytes, encoding: str | None) -> Sample:
    encoding = encoding or ("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")
    part = Part(str(path), "", Storage())
    try:
        text = next(blocks(part, encoding), b"").decode()[:_SNIFFED]
    except InputError as error:
        raise InputError(f"{error} Or say how it is written: --encoding cp1252.") from None
    except LookupError:
        raise InputError(f"--encoding {encoding}: there is no such text encoding") from None
    if not text.strip():
        raise InputError(f"{path}: the file is empty, so there is nothing to see")
    layout = Layout((), encoding=encoding, delimiter=_delimiter(text))
    if '"' not in text and _wrapped(text, layout.delimiter):
        layout = replace(layout, quote="'")
    return _without_quotes(part, layout, path)


def _without_quotes(part: Part, layout: Layout, path: Path) -> Sample:
    """Reads with the quotes of the layout, or, where that goes wrong, with none if that does not."""
    failed = sample = None
    try:
        sample = _rows(part, layout, path)
        if not sample.malformed:
            return sample
    except InputError as error:
        failed = error
    try:
        bare = _rows(part, replace(layout, quote=None), path)
    except InputError:
        bare = None
    if bare is not None and not bare.malformed and bare.rows.num_rows:
        return bare
    if sample is None:
        assert failed is not None
        raise failed
    return sample


def _rows(part: Part, layout: Layout, path: Path) -> Sample:
    names = landing_csv.first_fields(part, layout)
    _ensure_header(names, path)
    layout = replace(layout, columns=tuple(names))
    rows, malformed, whole = _gathered(parse_csv, part, layout)
    return Sample(path, "csv", layout, rows, malformed, whole)


def _delimiter(text: str) -> str:
    """The delimiter that the sniffer finds, if the header has it; else the header's commonest."""
    first = next(line for line in text.splitlines() if line.strip())
    header = re.sub(r'"[^"]*"', "", first)
    lines = text[: text.rfind("\n") + 1] or text
    try:
        found = csv.Sniffer().sniff(lines, _DELIMITERS).delimiter
    except csv.Error:
        found = ""
    if found and found in header:
        return found
    return max(_DELIMITERS, key=header.count)


def _wrapped(text: str, delimiter: str) -> bool:
    """Whether fields stand within single quotes, in every line below the header."""
    d = re.escape(delimiter)
    lines = [line for line in text.splitlines()[1:-1] or text.splitlines()[1:] if line.strip()]
    return bool(lines) and all(re.search(rf"(^|{d})'[^']*'({d}|$)", line) for line in lines)


def _ensure_header(names: list[str], path: Path) -> None:
    """The first line is not shown: it may be a row."""
    values = sum(1 for n in names if _VALUE.fullmatch(n))
    blank = [i for i, n in enumerate(names, 1) if not n]
    if 2 * (values + len(blank)) > len(names):
        raise InputError(
            f"{path}: no header: the first line has values where names should be. Give the file a"
            " header, or write the contract by hand, with `header: false` in its source."
        )
    if blank:
        raise InputError(f"{path}: column {blank[0]} has no name in the header. Give it one.")
    _ensure_apart(names, path)


def _ensure_apart(names: Iterable[str], path: Path) -> None:
    twice = [n for n, times in Counter(n.lower() for n in names).items() if times > 1]
    if twice:
        raise InputError(
            f"{path}: column names that are equal, or differ only in case: {quoting.names(twice)}."
            " Nobody can tell them apart; give each a name of its own."
        )


# -- JSON lines and Parquet --------------------------------------------------------------------


def _json(path: Path) -> Sample:
    part, keys = Part(str(path), "", Storage()), dict[str, None]()
    for batch, _ in _bounded(parse_json, part, Layout(())):
        rescued = batch.column("_rescued").drop_null()
        for record in {tuple(json.loads(r)) for r in rescued.to_pylist()}:
            keys |= dict.fromkeys(record)
    _ensure_apart(keys, path)
    layout = Layout(tuple(keys))
    rows, malformed, whole = _gathered(parse_json, part, layout)
    if not rows.num_rows and malformed:
        raise InputError(
            f"{path}: no line is a JSON object. Deliver one object per line, not a list and not one"
            " that goes over several lines."
        )
    return Sample(path, "json", layout, rows, malformed, whole)


def _parquet(path: Path) -> Sample:
    batches, size, whole = [], 0, True
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            for batch in file.iter_batches(8192):
                if size >= MOST_BYTES:
                    whole = False
                    break
                batches.append(batch)
                size += batch.nbytes
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file ({short(error)})") from None
    _ensure_apart(schema.names, path)
    rows = pa.Table.from_batches(batches, schema)
    return Sample(path, "parquet", Layout(tuple(schema.names)), rows, 0, whole)


# -- rows --------------------------------------------------------------------------------------


def _bounded(parse: Parse, part: Part, layout: Layout) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """Batches of the first rows of a text file, and with each whether there is more behind it."""
    size, batches = 0, parse(part, layout, Found())
    told = [*layout.columns, "_rescued", "_raw"]  # the others are not of the file
    for batch in batches:
        size += batch.select(told).nbytes
        full = size >= MOST_BYTES
        yield batch, full and next(batches, None) is not None
        if full:
            return


def _gathered(parse: Parse, part: Part, layout: Layout) -> tuple[pa.Table, int, bool]:
    """The well-formed rows, how many records are not, and whether that is the whole file."""
    kept, malformed, more = [], 0, False
    for batch, more in _bounded(parse, part, layout):  # noqa: B007
        bad = batch.num_rows - batch.column("_violations").null_count
        malformed += bad
        if not bad:
            kept.append(batch.select(list(layout.columns)))
    schema = pa.schema([(n, pa.string()) for n in layout.columns])
    return pa.Table.from_batches(kept, schema), malformed, not more


def _nameable(sample: Sample) -> Sample:
    """Without the columns that a contract cannot name: landing keeps them in `_rescued`."""
    out = {}
    for column in sample.rows.schema:
        name = column.name
        if name.startswith("_"):
            out[name] = "names that begin with _ are the platform's"
        elif not name.strip() or re.search(r"[.`*]", name) or quoting.plain(name) != name:
            out[name] = "no engine takes its name: dots, backticks, asterisks, control characters"
        elif "binary" in str(column.type):
            out[name] = "bytes have no type in a contract"
    signs: dict[str, str] = {}
    for column in sample.rows.schema:  # text is what it is: no check is named after it
        bare = re.sub(r"[\x00-\x2f\x3a-\x40\[-`{-\x7f]", "_", column.name)
        if (
            not pa.types.is_string(column.type)
            and signs.setdefault(bare, column.name) != column.name
        ):
            out[column.name] = "another column differs from it in signs only"
    kept = [n for n in sample.rows.column_names if n not in out]
    if not kept:
        raise InputError(f"{sample.path}: no column has a name that a contract can have")
    return replace(sample, rows=sample.rows.select(kept), left_out=tuple(out.items()))
