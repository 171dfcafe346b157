"""Arrow values as text and as JSON, in one form whatever the engine.

Belongs here: how a value is written. Does not belong here: where it is read from, or goes.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def same(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column is read as it is. Any timestamp in UTC reads as the engine's, whatever its
    unit, if that loses nothing."""
    if pa.types.is_large_string(found) or pa.types.is_string_view(found):
        found = pa.string()
    if pa.types.is_timestamp(found) and pa.types.is_timestamp(wanted):
        return found.tz is not None and found.unit in ("us", "ms")
    return bool(found == wanted)


def as_text(values: pa.Array) -> pa.Array:
    """Values as strings: numbers without exponent, instants in UTC, nested ones as compact JSON.
    Raises ValueError for bytes that are not UTF-8."""
    type_ = values.type
    if pa.types.is_dictionary(type_):
        return as_text(values.dictionary_decode())
    if pa.types.is_nested(type_):
        return pa.array([None if v is None else _json(v) for v in values.to_pylist()], pa.string())
    if pa.types.is_timestamp(type_):
        utc = pa.timestamp("us", "UTC")
        instants = pc.cast(values, options=pc.CastOptions(utc, allow_time_truncate=True))
        text = instants.cast(pa.timestamp("us")).cast(pa.string())
        return pc.replace_substring_regex(text, r"\.?0*$", "")
    if pa.types.is_decimal(type_):
        written = [None if v is None else format(v, "f") for v in values.to_pylist()]
        return pa.array(written, pa.string())
    text = values.cast(pa.string())
    if pa.types.is_floating(type_):
        return pa.array([None if v is None else _plain(v) for v in text.to_pylist()], pa.string())
    return text


def record(batch: pa.RecordBatch, names: list[str]) -> pa.Array:
    """Some columns of each row as a JSON object without its nulls. Scalars stand there as strings,
    as they are delivered by text formats, and nested values as JSON."""
    pairs = []
    for name in names:
        value = _quoted(batch.column(name))
        key = pa.scalar(json.dumps(name, ensure_ascii=False) + ":")
        pairs.append(pc.binary_join_element_wise(key, value, ""))
    # Arrow leaves out a row of which it skips everything: the empty text is never skipped.
    inner = pc.utf8_ltrim(
        pc.binary_join_element_wise("", *pairs, ",", null_handling="skip"), characters=","
    )
    return pc.binary_join_element_wise("{", inner, "}", "")


def _quoted(values: pa.Array) -> pa.Array:
    text = as_text(values) if not _is_bytes(values.type) else _hexadecimal(values)
    if pa.types.is_nested(values.type):
        return text
    if pc.any(pc.match_substring_regex(text, r'[\x00-\x1f"\\]')).as_py():
        return pa.array(
            [None if v is None else json.dumps(v, ensure_ascii=False) for v in text.to_pylist()],
            pa.string(),
        )
    return pc.binary_join_element_wise('"', text, '"', "")


def _is_bytes(type_: pa.DataType) -> bool:
    return (
        pa.types.is_binary(type_)
        or pa.types.is_large_binary(type_)
        or pa.types.is_fixed_size_binary(type_)
        or pa.types.is_binary_view(type_)
    )


def _hexadecimal(values: pa.Array) -> pa.Array:
    """Bytes need not be text."""
    return pa.array([None if v is None else v.hex() for v in values.to_pylist()], pa.string())


def _plain(number: str) -> str:
    """A float's shortest text with its exponent worked in: 1e+16 as 10000000000000000.0."""
    if number in ("nan", "inf", "-inf"):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[number]
    if "e" in number:
        number = format(Decimal(number), "f")
    return number if "." in number else f"{number}.0"


def _json(value: Any) -> str:
    return json.dumps(_jsonable(value), ensure_ascii=False, separators=(",", ":"))


def _jsonable(value: Any) -> Any:
    """What JSON has no form for becomes a string; a map is a list of its pairs, as it may have a
    key twice."""
    if isinstance(value, dict):
        return {k: _jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(v) for v in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value.hex() if isinstance(value, bytes) else str(value)
