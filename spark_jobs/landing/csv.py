"""Parses CSV files (RFC 4180)."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from spark_jobs import storage
from spark_jobs.errors import InputError
from spark_jobs.landing.drift import SAMPLES
from spark_jobs.landing.json import compact
from spark_jobs.landing.rows import batch_of, failed
from spark_jobs.landing.text import ensure_text, short, wrong_encoding


def csv_header(head: bytes, where: str) -> list[str]:
    """The column names in the first record of a CSV file; a UTF-8 byte order mark and blank lines
    before it are skipped. Raises InputError if it is no text, or names a column twice."""
    ensure_text(head, where)
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A character cut at the end of the sample is not a wrong encoding.
        if error.start < len(head) - 4:
            raise wrong_encoding(where, error.start) from None
        text = head[: error.start].decode("utf-8-sig")
    if "\x00" in text:
        raise wrong_encoding(where, text.index("\x00"))
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
        return batch_of(columns, {}, 0, uri=uri, partition=partition, summary=summary)
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
        return failed(columns, uri, partition, str(error))
    except pa.ArrowException as error:
        wrong = "not UTF-8 text" if "UTF8" in str(error) else "not readable as CSV"
        text = f"{uri}: {wrong} ({short(error)}). Deliver the file again, as UTF-8."
        return failed(columns, uri, partition, text)
    bad, total = len(unparsable), table.num_rows + len(unparsable)
    rows: dict[str, Any] = {}
    for name in columns:
        if name in names:
            good = table.column(name).combine_chunks()
            rows[name] = pa.concat_arrays([good, pa.nulls(bad, pa.string())])
    extra = [n for n in names if n not in columns]
    if extra:
        kept = table.select(extra).to_pylist()
        rows["_rescued"] = [compact(r) for r in kept] + [None] * bad
    rows["_violations"] = [None] * table.num_rows + [["parsable"]] * bad
    rows["_raw"] = [None] * table.num_rows + unparsable
    samples = {n: table.column(n).slice(0, SAMPLES).to_pylist() for n in extra}
    drift = {"extra": samples, "missing": sorted(set(columns) - set(names))}
    summary = {"_records": total, "_drift": json.dumps(drift)}
    return batch_of(columns, rows, total, uri=uri, partition=partition, summary=summary)


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
