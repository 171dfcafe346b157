"""Reads JSON lines that are all alike, thousands at once.

Programs write the keys of each record in one order and with one spacing. Where lines differ from the
first of them in their values only, and none of these holds an escape, an object or an array, the
places of the quotes say all about them. What is taken here is what a parser of one line after the
other would find, byte for byte; every line about which that is not certain is left to it.

Belongs here: finding such lines and cutting their values out. Does not belong here: JSON in general
(json.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Numbers = np.ndarray
# Lines of one file may be of several kinds (a key left out where it has no value).
_KINDS = 4
# Bytes below which it does not pay.
_FEWEST = 4096
_QUOTE, _NEWLINE, _RETURN, _ESCAPE, _COLON, _COMMA, _SPACE, _OPEN, _CLOSE = b'"\n\r\\:, {}'
_BARE = r"^(-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|true|false|null)$"
_KEY = re.compile(rb'[{,] ?"([^"\\]*)"(:) ?(?:"[^"\\]*"|[^",{}\[\]]+)')


@dataclass(frozen=True)
class Alike:
    """Lines that differ in their values alone: for each line and key, where the value begins and
    ends in `text` (a string without its quotes), and whether it is a string."""

    keys: tuple[str, ...]
    text: Numbers
    starts: Numbers
    ends: Numbers
    quoted: Numbers

    @property
    def length(self) -> int:
        return len(self.starts)

    def rows(self, known: frozenset[str]) -> Mapping[str, pa.Array]:
        found = {}
        for j, key in enumerate(self.keys):
            if key in known:
                values = _cut(self.text, self.starts[:, j], self.ends[:, j])
                null = pc.and_(pc.equal(values, "null"), pa.array(~self.quoted[:, j]))
                found[key] = pc.if_else(null, pa.scalar(None, pa.string()), values)
        extra = [j for j, key in enumerate(self.keys) if key not in known]
        if extra:
            found["_rescued"] = self._object(extra)
        return found

    def _object(self, extra: list[int]) -> pa.Array:
        pieces: list[pa.Array | str] = []
        for j in extra:
            name = json.dumps(self.keys[j], ensure_ascii=False)
            quotes = self.quoted[:, j].astype(np.int64)
            pieces.append(("," if pieces else "{") + name + ":")
            pieces.append(_cut(self.text, self.starts[:, j] - quotes, self.ends[:, j] + quotes))
        return pc.binary_join_element_wise(*pieces, "}", "")


def split(block: bytes, is_object: Callable[[str], bool]) -> tuple[list[Alike], bytes]:
    """The lines that are alike, by their kind, and the text of all others, in their order."""
    groups: list[Alike] = []
    text, aside = _without_escapes(np.frombuffer(block, np.uint8))
    for _ in range(_KINDS):
        layout = _layout(text, is_object)
        if layout is None:
            break
        group, text = _of_layout(text, *layout)
        if group is None:
            break
        groups.append(group)
    return groups, aside + text.tobytes()


def _lines(text: Numbers) -> tuple[Numbers, Numbers]:
    """Where lines begin, and where they end: the place of their line end."""
    ends = np.flatnonzero(text == _NEWLINE)
    return np.concatenate(([0], ends[:-1] + 1)), ends


def _without_escapes(text: Numbers) -> tuple[Numbers, bytes]:
    """The lines of which each quote opens or closes a string, and all others."""
    if not text.size or text[-1] != _NEWLINE:
        return text[:0], text.tobytes()
    starts, ends = _lines(text)
    odd = np.flatnonzero((text < _SPACE) | (text == _ESCAPE))
    odd = odd[text[odd] != _NEWLINE]
    before_end = (text[odd] == _RETURN) & (text[np.minimum(odd + 1, text.size - 1)] == _NEWLINE)
    bad = np.zeros(len(ends), bool)
    bad[np.searchsorted(ends, odd[~before_end])] = True
    quotes = np.flatnonzero(text == _QUOTE)
    counts = np.diff(np.searchsorted(quotes, np.concatenate(([0], ends))))
    bad |= counts % 2 == 1
    return _parted(text, starts, ends, ~bad)


def _parted(text: Numbers, starts: Numbers, ends: Numbers, kept: Numbers) -> tuple[Numbers, bytes]:
    if kept.all():
        return text, b""
    mask = np.repeat(kept, ends + 1 - starts)
    return text[mask], text[~mask].tobytes()


def _layout(
    text: Numbers, is_object: Callable[[str], bool]
) -> tuple[tuple[bytes, ...], int, int] | None:
    """The keys of the first line, and how many spaces follow its colons and its commas."""
    if text.size < _FEWEST:
        return None
    end = int(np.argmax(text == _NEWLINE))
    line = text[:end].tobytes().rstrip(b"\r")
    pairs = list(_KEY.finditer(line))
    joined = b"".join(p[0] for p in pairs) + b"}"
    if not pairs or joined != line or not is_object(line.decode()):
        return None
    after_colon = int(line[pairs[0].end(2) : pairs[0].end(2) + 1] == b" ")
    after_comma = int(len(pairs) > 1 and pairs[1][0][1:2] == b" ")
    return tuple(p[1] for p in pairs), after_colon, after_comma


def _of_layout(
    text: Numbers, keys: tuple[bytes, ...], after_colon: int, after_comma: int
) -> tuple[Alike | None, Numbers]:
    """The lines of one layout, and the text of the rest.

    A line is of it if its pieces follow one another without a gap from its first byte to its last:
    `{`, key, colon, value, comma, key, ... `}`.
    """
    starts, ends = _lines(text)
    last = ends - (text[np.maximum(ends - 1, 0)] == _RETURN) - 1  # where `}` should be
    quotes = np.flatnonzero(text == _QUOTE)
    opens, closes = quotes[::2], quotes[1::2]
    line = np.searchsorted(ends, opens)
    is_key = text[closes + 1] == _COLON
    fits = np.bincount(line[is_key], minlength=len(ends)) == len(keys)
    places = np.flatnonzero(is_key & fits[line]).reshape(-1, len(keys))
    if not places.size:
        return None, text
    lines = np.flatnonzero(fits)
    key_open, key_close = opens[places], closes[places]
    good = (text[starts[lines]] == _OPEN) & (text[last[lines]] == _CLOSE)
    good &= key_open[:, 0] == starts[lines] + 1
    for j, key in enumerate(keys):
        good &= key_close[:, j] - key_open[:, j] == len(key) + 1
        within = np.minimum(key_open[:, j, None] + 1 + np.arange(len(key)), text.size - 1)
        good &= (text[within] == np.frombuffer(key, np.uint8)).all(axis=1)
    value = key_close + 2 + after_colon
    if after_colon:
        good &= (text[key_close + 2] == _SPACE).all(axis=1)
    quoted = text[np.minimum(value, text.size - 1)] == _QUOTE
    # A piece ends where the next one begins, or with the line.
    gap = 1 + after_comma
    stop = np.concatenate([key_open[:, 1:] - gap, last[lines][:, None]], axis=1)
    good &= (text[stop[:, :-1]] == _COMMA).all(axis=1)
    if after_comma:
        good &= (text[stop[:, :-1] + 1] == _SPACE).all(axis=1)
    begin, end = value + quoted, stop - quoted
    # The string after its key is the value, and the value's quote is the last byte before the stop.
    following = np.minimum(places + 1, len(opens) - 1)
    whole = (opens[following] == value) & (closes[following] == stop - 1)
    good &= (np.where(quoted, whole, end > begin)).all(axis=1)
    good[good] = _bare(text, begin[good], end[good], quoted[good])
    kept = np.zeros(len(ends), bool)
    kept[lines[good]] = True
    rest = text[~np.repeat(kept, ends + 1 - starts)]
    if not good.any():
        return None, text
    names = tuple(k.decode() for k in keys)
    return Alike(names, text, begin[good], end[good], quoted[good]), rest


def _bare(text: Numbers, begin: Numbers, end: Numbers, quoted: Numbers) -> Numbers:
    """Whether all values of a line that stand there without quotes are values of JSON."""
    good = np.ones(len(begin), bool)
    for j in range(begin.shape[1]):
        bare = np.flatnonzero(~quoted[:, j])
        if bare.size:
            values = _cut(text, begin[bare, j], end[bare, j])
            good[bare] &= pc.match_substring_regex(values, _BARE).to_numpy(zero_copy_only=False)
    return good


def _cut(text: Numbers, begin: Numbers, end: Numbers) -> pa.Array:
    """Pieces of the text, in its order, as an array of strings."""
    offsets = np.empty(2 * len(begin), np.int32)
    offsets[::2], offsets[1::2] = begin, end
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(text))]
    pieces = pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)
    return pieces.take(pa.array(np.arange(0, len(offsets), 2))).cast(pa.string())
