"""Parses files of JSON objects, one a line (RFC 8259).

Belongs here: what one line says, exactly. Does not belong here: lines that are all alike, of which
many are read at once (json_lines.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from spark_jobs.batch.landing import json_lines
from spark_jobs.batch.landing.rows import batch_of, unparsable
from spark_jobs.batch.landing.text import Batches, Found, Layout, Part, in_turn, whole_lines
from spark_jobs.json_objects import Number, decoded


def parse_json(part: Part, layout: Layout, found: Found) -> Batches:
    """JSON objects, one per line (RFC 8259, UTF-8); blank lines are not records.

    Scalars are kept as the text they were delivered as, nested values as compact JSON. A line
    that is not one object becomes a row with `_raw` and the violation `parsable`; keys beyond the
    contract go to `_rescued`.
    """
    where = {"uri": part.uri, "partition": part.partition}
    known = frozenset(layout.columns)
    seen: set[str] = set()

    def read(block: bytes) -> tuple[list[pa.RecordBatch], set[str]]:
        return _batches(block, layout, where)

    for batches, keys in in_turn(read, whole_lines(part)):
        found.records += sum(b.num_rows for b in batches)
        seen |= keys
        found.seen = bool(seen)
        found.extra = tuple(sorted(seen - known))
        found.missing = tuple(sorted(known - seen))
        yield from batches


def _batches(
    block: bytes, layout: Layout, where: dict[str, str]
) -> tuple[list[pa.RecordBatch], set[str]]:
    """The rows of some lines, and all keys that stand in them."""
    known = frozenset(layout.columns)
    keys: set[str] = set()
    alike, others = json_lines.split(block, is_object=lambda line: _object(line) is not None)
    batches = []
    for group in alike:
        keys.update(group.keys)
        batches.append(batch_of(layout.columns, group.rows(known), group.length, **where))
    lines = [line for line in others.decode().split("\n") if line.strip(" \t\r")]
    batches += _one_by_one(lines, layout, keys, where)
    return batches, keys


def _one_by_one(
    lines: list[str], layout: Layout, seen: set[str], where: dict[str, str]
) -> Iterable[pa.RecordBatch]:
    rows: dict[str, list[Any]] = {n: [] for n in (*layout.columns, "_rescued")}
    bad, known = [], frozenset(layout.columns)
    for line in lines:
        record = _object(line)
        if record is None:
            bad.append(line)
            continue
        for name in layout.columns:
            rows[name].append(record.get(name))
        extra = record.keys() - known
        seen.update(record)
        rows["_rescued"].append(
            _rescued(line, [n for n in record if n in extra]) if extra else None
        )
    if good := len(rows["_rescued"]):
        yield batch_of(layout.columns, rows, good, **where)
    if bad:
        yield unparsable(layout.columns, bad, **where)


def _object(line: str) -> dict[str, str | None] | None:
    """The values of a JSON object as text; None if the line is anything else."""
    try:
        value = decoded(line)
        if not isinstance(value, dict):
            return None
        record = {k: _scalar(v) for k, v in value.items()}
        if "\\u" in line:  # an escaped half of a surrogate pair is no character
            "".join([*record, *filter(None, record.values())]).encode()
    except (ValueError, RecursionError):
        return None
    return record


def _rescued(line: str, names: Iterable[str]) -> str:
    value = decoded(line)
    return compact({name: value[name] for name in names})


def _scalar(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return compact(value)


def compact(value: Any) -> str:
    """Compact JSON, with numbers as they were written."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        pairs = (f"{json.dumps(k, ensure_ascii=False)}:{compact(v)}" for k, v in value.items())
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(compact, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
