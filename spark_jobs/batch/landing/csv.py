"""Parses CSV files (RFC 4180, or as the contract lays them out).

Belongs here: headers, rows, drift. Does not belong here: where a record ends and whether its quotes
are well formed (csv_records.py).
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from spark_jobs import quoting
from spark_jobs.batch.landing.csv_records import Records, first_record, records
from spark_jobs.batch.landing.rows import batch_of, unparsable
from spark_jobs.batch.landing.text import Batches, Found, Layout, Part, blocks, in_turn
from spark_jobs.contract.model import Contract
from spark_jobs.errors import InputError
from spark_jobs.lake.storage import File, Storage


def header(contract: Contract, file: File, partition: str, storage: Storage) -> list[str]:
    """The columns of a file, in its order. Raises InputError if the file does not say them."""
    layout = Layout.of(contract)
    return _opened(Part(file.uri, partition, storage), layout)[0] or list(layout.columns)


def parse_csv(part: Part, layout: Layout, found: Found) -> Batches:
    """The rows of one part of a file. A record with too few or too many fields, or with quotes that
    are not well formed, becomes a row with `_raw` and the violation `parsable`; columns beyond the
    contract go to `_rescued` as JSON text. Raises InputError where nobody can tell records apart.
    """
    names, text = _opened(part, layout)
    if not names:
        return
    if part.start:
        text = blocks(part, layout.encoding)
    where = {"uri": part.uri, "partition": part.partition}
    known = frozenset(layout.columns)
    extra = [n for n in names if n not in known]

    def read(piece: Records) -> list[pa.RecordBatch]:
        return list(_batches(piece, names, extra, layout, where))

    for batches in in_turn(read, records(text, layout, names, part.uri)):
        found.seen = True
        found.extra = tuple(sorted(extra))
        found.missing = tuple(sorted(known.difference(names)))
        found.records += sum(b.num_rows for b in batches)
        yield from batches


def _batches(
    piece: Records, names: list[str], extra: list[str], layout: Layout, where: dict[str, str]
) -> Batches:
    """The rows of some records: the good ones, and those that are not what they should be."""
    bad = list(piece.malformed)
    table = _table(piece, names, layout, bad)
    if table.num_rows:
        columns = dict(zip(names, table.columns, strict=True))
        rows = {n: _whole(columns[n]) for n in layout.columns if n in columns}
        if extra:
            rows["_rescued"] = _objects(table.select(extra))
        yield batch_of(layout.columns, rows, table.num_rows, **where)
    if bad:
        yield unparsable(layout.columns, bad, **where)


def first_fields(part: Part, layout: Layout) -> list[str]:
    """The fields of a file's first record, whatever it is; none if there is nothing in the file."""
    first, _ = first_record(blocks(part, layout.encoding), layout, part.uri)
    return _fields(first, layout)


def _opened(part: Part, layout: Layout) -> tuple[list[str], Iterator[bytes]]:
    """The columns of a file, and the text below them of its first part; no columns if there is
    nothing in it."""
    first_part = replace(part, start=0, end=None if part.start else part.end)
    text = blocks(first_part, layout.encoding)
    if not layout.header:
        return list(layout.columns), text
    first, rest = first_record(text, layout, part.uri)
    names = _fields(first, layout)
    if any(n for n in names):
        _ensure_header(names, layout, part.uri)
        return names, rest
    return [], rest


def _fields(record: str, layout: Layout) -> list[str]:
    previous = csv.field_size_limit(1 << 30)
    try:
        reader = csv.reader(
            io.StringIO(record, newline=""),
            delimiter=layout.delimiter,
            quotechar=layout.quote,
            quoting=csv.QUOTE_NONE if layout.quote is None else csv.QUOTE_MINIMAL,
        )
        return [name.strip() for name in next(reader, [])]
    finally:
        csv.field_size_limit(previous)


def _ensure_header(names: list[str], layout: Layout, where: str) -> None:
    """Names that the contract does not know are never shown: the first line may be a row."""
    known = set(names) & set(layout.columns)
    lacking = [n for n in layout.columns if n in layout.required and n not in known]
    if not known or lacking:
        lacks = f"required column(s) missing: {quoting.names(lacking)}. " if lacking else ""
        found = f"names {quoting.names(sorted(known))} and" if known else "names"
        none = "others" if known else "none of the contract's columns"
        raise InputError(
            f"{where}: {lacks}The first line has {len(names)} fields, {found} {none};"
            f" {len(layout.columns)} columns were expected. Deliver a header with their names, or"
            " say `header: false` in the contract's source if the file has none."
        )
    twice = [n for n, times in Counter(names).items() if times > 1]
    if twice:
        unknown = sum(n not in known for n in twice)
        shown = (
            quoting.names([n for n in twice if n in known])
            or f"{unknown} that the contract does not know"
        )
        raise InputError(
            f"{where}: column(s) named twice in the header: {shown}. Nobody can tell them apart;"
            " deliver the file with a name for each."
        )


def _table(piece: Records, names: list[str], layout: Layout, bad: list[str]) -> pa.Table:
    """The well-formed records, all columns as text; those that do not fit are added to `bad`."""
    if not piece.text:
        return pa.table({n: pa.array([], pa.string()) for n in names})

    def keep(row: pacsv.InvalidRow) -> str:
        bad.append(row.text)
        return "skip"

    return pacsv.read_csv(
        pa.BufferReader(piece.text),
        read_options=pacsv.ReadOptions(
            use_threads=False, column_names=names, block_size=len(piece.text) + 1
        ),
        parse_options=pacsv.ParseOptions(
            delimiter=layout.delimiter,
            quote_char=layout.quote or False,
            double_quote=layout.quote is not None,
            newlines_in_values=piece.quotes,
            # A line with nothing in it is a record of one empty field.
            ignore_empty_lines=len(names) > 1,
            invalid_row_handler=keep,
        ),
        convert_options=pacsv.ConvertOptions(
            column_types={n: pa.string() for n in names},
            strings_can_be_null=False,
            check_utf8=False,  # it was decoded
        ),
    )


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _objects(table: pa.Table) -> pa.Array:
    """Each row as a compact JSON object of strings."""
    names = [json.dumps(n, ensure_ascii=False) for n in table.column_names]
    pieces: list[pa.Array | str] = []
    for name, values in zip(names, table.columns, strict=True):
        pieces += [("," if pieces else "{") + name + ":", _quoted(_whole(values))]
    return pc.binary_join_element_wise(*pieces, "}", "")


def _quoted(values: pa.Array) -> pa.Array:
    if pc.any(pc.match_substring_regex(values, r'["\\\x00-\x1f]')).as_py():
        return pa.array(
            [json.dumps(v, ensure_ascii=False) for v in values.to_pylist()], pa.string()
        )
    return pc.binary_join_element_wise('"', values, '"', "")
