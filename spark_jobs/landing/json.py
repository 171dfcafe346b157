"""Parses files of JSON objects, one a line (RFC 8259)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from spark_jobs import storage
from spark_jobs.errors import InputError
from spark_jobs.landing.drift import SAMPLES
from spark_jobs.landing.rows import batch_of, failed
from spark_jobs.landing.text import ensure_text, wrong_encoding


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
        ensure_text(data, uri)
        lines = [line for line in data.decode("utf-8-sig").split("\n") if line.strip()]
    except InputError as error:
        return failed(columns, uri, partition, str(error))
    except UnicodeDecodeError as error:
        return failed(columns, uri, partition, str(wrong_encoding(uri, error.start)))
    rows: dict[str, list[Any]] = {n: [] for n in (*columns, "_rescued", "_violations", "_raw")}
    known, seen, samples = set(columns), set(), {}
    for line in lines:
        record = _object(line)
        for name in columns:
            rows[name].append((record or {}).get(name))
        extra = {k: v for k, v in (record or {}).items() if k not in known}
        for key, value in extra.items():
            samples.setdefault(key, [])
            if len(samples[key]) < SAMPLES:
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
        return failed(columns, uri, partition, text)
    drift = {"extra": samples, "missing": sorted(known - seen) if seen else []}
    summary = {"_records": len(lines), "_drift": json.dumps(drift)}
    return batch_of(columns, rows, len(lines), uri=uri, partition=partition, summary=summary)


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
    return compact({name: value[name] for name in names})


def _scalar(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return compact(value)


def compact(value: Any) -> str:
    """Compact JSON, with numbers as they were written."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        pairs = (f"{json.dumps(k, ensure_ascii=False)}:{compact(v)}" for k, v in value.items())
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(compact, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
