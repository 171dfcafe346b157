"""What the values of a delivered column look like: its type, its nulls, its codes, its part in a key.

Belongs here: pure functions over Arrow columns. Does not belong here: reading them (sample.py), or
what is made of it (proposal.py). A proposal is never narrower than what was seen: a column with one
value that is no number is text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from spark_jobs.batch.landing.values import as_text
from spark_jobs.contract.personal import looks_personal, words

# How a transform reads the column: a function of spark_jobs.columns, or as it is.
Read = Literal["text", "number", "boolean", "day", "instant", "copy"]

_INTEGER = r"^[+-]?(0|[1-9][0-9]{0,17})$"
# Leading zeros are not a number's: 007 is a code.
_NUMBER = r"^[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
_DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_INSTANT = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})?$"
)
_ZONE = r"(Z|[+-][0-9]{2}:?[0-9]{2})$"
_CODE = r"^[A-Za-z0-9_+/-]{1,16}$"
_MOST_CODES = 20
_ROWS_PER_CODE = 5
_MOST_DIGITS = 38
_MOST_SCALE = 18
# What a column grows by: three digits before the point, to at least this many.
_HEADROOM, _FEWEST_DIGITS, _FEWEST_SCALE = 3, 12, 2
_KEY_WORDS = ("id", "key", "uuid", "guid", "code", "number", "no", "nr", "sku", "line", "isbn")
_CHANGE_WORDS = {"updated", "modified", "changed", "modstamp", "change", "update", "upd"}
_TIME_WORDS = {
    "created",
    "inserted",
    "loaded",
    "exported",
    "event",
    "timestamp",
    "ts",
    "time",
    "at",
}
_MOST_CANDIDATES = 8
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Column:
    """What was seen of one delivered column: the type that it is delivered in, the one that it
    should have, and how the one becomes the other."""

    name: str
    delivered: str
    type: str
    read: Read
    nulls: int
    personal: bool
    codes: tuple[str, ...] = ()
    note: str = ""


def column(name: str, values: pa.ChunkedArray) -> Column:
    """What a column is, by its values and by its name."""
    personal = looks_personal(name)
    values = _plain(values)
    if not pa.types.is_string(values.type):
        delivered, note = _delivered(values)
        if delivered != "string":
            return Column(
                name, delivered, delivered, "copy", values.null_count, personal, note=note
            )
        values = _as_strings(values)
    texts = pc.utf8_trim(values, " ")
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    seen = pc.unique(texts.drop_null())
    read, type_, note = _text(name, seen, personal)
    codes = () if personal or read != "text" else _codes(name, seen, len(texts) - texts.null_count)
    return Column(name, "string", type_, read, texts.null_count, personal, codes, note)


def _plain(values: pa.ChunkedArray) -> pa.Array:
    array = values.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    return array


def _as_strings(values: pa.Array) -> pa.Array:
    return pa.nulls(len(values), pa.string()) if pa.types.is_null(values.type) else as_text(values)


# -- types -------------------------------------------------------------------------------------


def _delivered(values: pa.Array) -> tuple[str, str]:
    """The contract's type for a column that says its own; text where there is none."""
    type_, is_ = values.type, pa.types
    if is_.is_boolean(type_):
        return "boolean", ""
    if is_.is_integer(type_):
        if type_ == pa.uint64():
            return "decimal(20,0)", ""
        return ("bigint" if type_ in (pa.int64(), pa.uint32()) else "int"), ""
    if is_.is_decimal(type_) and 0 <= type_.scale <= type_.precision <= _MOST_DIGITS:
        return f"decimal({type_.precision},{type_.scale})", ""
    if is_.is_floating(type_):
        finite = values.drop_null()
        finite = finite.filter(pc.is_finite(finite))
        return decimal_type(pc.unique(as_text(finite))) or "string", "delivered as a float"
    if is_.is_date(type_):
        return "date", ""
    if is_.is_timestamp(type_):
        return "timestamp", "" if type_.tz else "no zone: read as UTC"
    if is_.is_list(type_) and is_.is_string(type_.value_type):
        return "array<string>", ""
    return "string", ""


def _text(name: str, seen: pa.Array, personal: bool) -> tuple[Read, str, str]:
    """How a column of text is read, its type, and what a person should know of that."""
    if not len(seen):
        return "text", "string", "no values seen"
    if _all(pc.utf8_lower(seen), "^(true|false)$"):
        return "boolean", "boolean", ""
    if _all(seen, _INTEGER):
        digits = max(len(v.lstrip("+-")) for v in seen.to_pylist())
        if personal and not {"age", "salary"} & set(words(name)):
            return "text", "string", "digits, and no quantity"
        wide = digits > 7 or bool(set(_KEY_WORDS) & set(words(name)))
        return "number", "bigint" if wide else "int", ""
    if _all(seen, _NUMBER):
        if not pc.any(pc.match_substring_regex(seen, "[.eE]")).as_py():
            return "text", "string", "whole numbers of more than 18 digits"
        found = decimal_type(seen)
        return ("number", found, "") if found else ("text", "string", "numbers that fit no decimal")
    if _all(seen, _DAY) and _dates(seen):
        return "day", "date", ""
    if _all(seen, _INSTANT) and _dates(seen):
        zoned = pc.sum(pc.match_substring_regex(seen, _ZONE)).as_py() or 0
        how = {0: "no zone: read as UTC", len(seen): ""}.get(
            zoned, "some without zone: read as UTC"
        )
        return "instant", "timestamp", how
    return "text", "string", _mixed(seen)


def _all(seen: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(seen, pattern)).as_py())


def _dates(seen: pa.Array) -> bool:
    """Whether all are days or times that exist."""
    try:
        for value in seen.to_pylist():
            datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _mixed(seen: pa.Array) -> str:
    """What most values are where not all are that; without any of them."""
    for pattern, what in ((_NUMBER, "numbers"), (_DAY, "ISO dates"), (_INSTANT, "ISO times")):
        alike = pc.sum(pc.match_substring_regex(seen, pattern)).as_py() or 0
        if 2 * alike > len(seen):
            return f"{alike:,} of {len(seen):,} distinct values are {what}, the others are not"
    return ""


def decimal_type(numbers: pa.Array) -> str | None:
    """A decimal type with room for larger numbers than these; None if there is none."""
    digits, scale = 1, 0
    for text in numbers.to_pylist():
        _, figures, exponent = Decimal(text).as_tuple()
        assert isinstance(exponent, int)
        digits = max(digits, len(figures) + exponent)
        scale = max(scale, -exponent)
    if scale > _MOST_SCALE or digits + scale > _MOST_DIGITS:
        return None
    scale = max(scale, _FEWEST_SCALE)
    precision = min(max(digits + _HEADROOM + scale, _FEWEST_DIGITS), _MOST_DIGITS)
    return f"decimal({precision},{min(scale, precision - digits)})"


def _codes(name: str, seen: pa.Array, filled: int) -> tuple[str, ...]:
    """The values of a column of few short codes; none if they might be anything else."""
    few = len(seen) <= _MOST_CODES and len(seen) * _ROWS_PER_CODE <= filled
    if not few or len(seen) < 2 or words(name)[-1:] == ["id"] or not _all(seen, _CODE):
        return ()
    return tuple(sorted(seen.to_pylist()))


# -- keys and sequences ------------------------------------------------------------------------


def key(columns: Sequence[Column], rows: pa.Table, sequence: str | None) -> tuple[str, ...]:
    """The column, or the pair of columns, that looks like a key and is one in these rows."""
    able = [c for c in columns if not c.nulls and c.name != sequence and not c.personal]
    able = [c for c in able if c.type in ("int", "bigint", "string", "date") and not c.codes]
    named = sorted((c for c in able if _key_rank(c) < len(_KEY_WORDS)), key=_key_rank)
    first = [c for c in able if c.name == columns[0].name]
    singles = list(dict.fromkeys([*named, *first]))[:_MOST_CANDIDATES]
    for found in singles:
        if is_unique(rows, (found.name,)):
            return (found.name,)
    days = [c for c in able if c.type == "date"]
    for pair in itertools.combinations(list(dict.fromkeys([*singles, *days])), 2):
        names = tuple(c.name for c in pair)
        if is_unique(rows, names):
            return names
    return ()


def _key_rank(c: Column) -> int:
    """How much a name says key: `id` itself, then what ends in a word for it."""
    found = words(c.name)
    last = found[-1] if found else ""
    return -1 if found == ["id"] else _KEY_WORDS.index(last) if last in _KEY_WORDS else 99


def is_unique(rows: pa.Table, names: Sequence[str]) -> bool:
    chosen = rows.select(list(names)).combine_chunks()
    return chosen.group_by(list(names)).aggregate([]).num_rows == rows.num_rows


def sequence(columns: Sequence[Column]) -> str | None:
    """The column that tells which of two records of a key is the newer one, by its name."""
    able = [c for c in columns if not c.nulls]

    def of(type_: str, among: set[str]) -> list[str]:
        return [c.name for c in able if c.type == type_ and among & set(words(c.name))]

    found = (
        of("timestamp", _CHANGE_WORDS) + of("date", _CHANGE_WORDS) + of("timestamp", _TIME_WORDS)
    )
    return found[0] if found else None


# -- names -------------------------------------------------------------------------------------


def snake_names(names: Sequence[str]) -> Mapping[str, str]:
    """Delivered names in lower snake case, each once."""
    out: dict[str, str] = {}
    for i, name in enumerate(names, 1):
        wanted = snake(name) or f"column_{i}"
        found, n = wanted, 2
        while found in out.values():
            found, n = f"{wanted}_{n}", n + 1
        out[name] = found
    return out


def snake(name: str) -> str:
    """A name in lower snake case of ASCII, of a bearable length; empty if nothing is left."""
    import unicodedata

    text = name.replace("ß", "ss").replace("%", " percent ").replace("#", " number ")
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    found = "_".join(words(text))[:_LONGEST_NAME].strip("_")
    return f"n_{found}" if re.match(r"[0-9]", found) else found
