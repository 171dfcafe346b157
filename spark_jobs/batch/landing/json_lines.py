"""Reads JSON lines that are all alike, thousands at once.

Programs write the keys of each record in one order and with one spacing. Where lines differ from the
first of them in their values only, and none of these holds an escape, an object or an array, a line
is its keys, each with the signs around it, and between them values that need no parser. What is taken
here is what a parser of one line after the other would find, byte for byte; every line about which
that is not certain is left to it.

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
_QUOTE, _NEWLINE, _RETURN, _ESCAPE, _COLON, _SPACE, _CLOSE = b'"\n\r\\: }'
_NULL = int.from_bytes(b"null", "little")
_BARE = r"^(-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|true|false|null)$"
_KEY = re.compile(rb'([{,] ?"([^"\\]*)": ?)(?:"[^"\\]*"|[^",{}\[\]]+)')


@dataclass(frozen=True)
class Alike:
    """Lines that differ in their values alone. By key, and for each line: where the value begins and
    ends in `text` (a string without its quotes), whether it is a string, and whether it is null."""

    keys: tuple[str, ...]
    text: Numbers
    begins: Numbers
    ends: Numbers
    quoted: Numbers
    null: Numbers

    @property
    def length(self) -> int:
        return self.begins.shape[1]

    def rows(self, known: frozenset[str]) -> Mapping[str, pa.Array]:
        pieces = _pieces(self.text, self.begins, self.ends)
        found = {
            key: _of_key(pieces, j, len(self.keys), ~self.null[j])
            for j, key in enumerate(self.keys)
            if key in known
        }
        extra = [j for j, key in enumerate(self.keys) if key not in known]
        if extra:
            found["_rescued"] = self._object(extra)
        return found

    def _object(self, extra: list[int]) -> pa.Array:
        quotes = self.quoted[extra]
        values = _pieces(self.text, self.begins[extra] - quotes, self.ends[extra] + quotes)
        pieces: list[pa.Array | str] = []
        for i, j in enumerate(extra):
            name = json.dumps(self.keys[j], ensure_ascii=False)
            pieces += [("," if pieces else "{") + name + ":", _of_key(values, i, len(extra))]
        return pc.binary_join_element_wise(*pieces, "}", "")


def split(block: bytes, is_object: Callable[[str], bool]) -> tuple[list[Alike], bytes]:
    """The lines that are alike, by their kind, and the text of all others, in their order."""
    if not block.endswith(b"\n"):
        block += b"\n"
    groups: list[Alike] = []
    text, aside = _without_escapes(np.frombuffer(block, np.uint8))
    for _ in range(_KINDS):
        layout = _layout(text, is_object)
        if not layout:
            break
        group, text = _of_layout(text, layout)
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
    controls, escapes = text < _SPACE, text == _ESCAPE
    if np.count_nonzero(controls) == np.count_nonzero(text == _NEWLINE) and not escapes.any():
        return text, b""
    starts, ends = _lines(text)
    places = np.flatnonzero(controls | escapes)
    places = places[text[places] != _NEWLINE]
    before_end = (text[places] == _RETURN) & (text[places + 1] == _NEWLINE)
    kept = np.ones(len(ends), bool)
    kept[np.searchsorted(ends, places[~before_end])] = False
    return _parted(text, starts, ends, kept)


def _parted(text: Numbers, starts: Numbers, ends: Numbers, kept: Numbers) -> tuple[Numbers, bytes]:
    if kept.all():
        return text, b""
    mask = np.repeat(kept, ends + 1 - starts)
    return text[mask], text[~mask].tobytes()


def _layout(text: Numbers, is_object: Callable[[str], bool]) -> tuple[tuple[bytes, bytes], ...]:
    """The keys of the first line, each with the text from where the value before it ends to where
    its own begins; none if the line has values that are not looked for here."""
    if text.size < _FEWEST:
        return ()
    line = text[: int(np.argmax(text == _NEWLINE))].tobytes().rstrip(b"\r")
    pairs = list(_KEY.finditer(line))
    if b"".join(p[0] for p in pairs) + b"}" != line or not is_object(line.decode()):
        return ()
    return tuple((p[2], p[1]) for p in pairs)


def _of_layout(
    text: Numbers, layout: tuple[tuple[bytes, bytes], ...]
) -> tuple[Alike | None, Numbers]:
    """The lines of one layout, and the text of the rest.

    A line is of it if the texts of its keys stand there one after the other, from its first byte on,
    with a value behind each, and `}` at its end. Between them they are the whole line: of its quotes
    those that are not theirs are the first and last bytes of its strings, if their number says so.
    """
    starts, ends = _lines(text)
    last = ends - (text[np.maximum(ends - 1, 0)] == _RETURN) - 1  # where `}` should be
    lines, key_ends = _keyed(text, starts, ends, len(layout))
    before = np.array([[len(t)] for _, t in layout])
    begins = key_ends + np.array([[2 + t.endswith(b" ")] for _, t in layout])
    places = begins - before
    stops = np.concatenate([places[1:], last[None, lines]])
    good = (places[0] == starts[lines]) & (stops > begins).all(axis=0)
    lines, begins, stops, places = _only(good, lines, begins, stops, places)
    good = text[last[lines]] == _CLOSE
    for (_, wanted), at in zip(layout, places, strict=True):
        good &= _reads(text, at, wanted)
    lines, begins, stops = _only(good, lines, begins, stops)

    first = text[begins]
    quoted = first == _QUOTE
    good = (~quoted | ((text[stops - 1] == _QUOTE) & (stops - begins > 1))).all(axis=0)
    expected = 2 * (len(layout) + np.count_nonzero(quoted, axis=0))
    if len(lines) < len(ends) or expected.sum() != np.count_nonzero(text == _QUOTE):
        quotes = np.flatnonzero(text == _QUOTE)
        good &= np.diff(np.searchsorted(quotes, ends), prepend=0)[lines] == expected
    lines, begins, stops, quoted, first = _only(good, lines, begins, stops, quoted, first)
    null = _nulls(text, begins, stops, first)
    good = _bare(text, begins, stops, ~(quoted | null))
    lines, begins, stops, quoted, null = _only(good, lines, begins, stops, quoted, null)
    if not len(lines):
        return None, text
    kept = np.zeros(len(ends), bool)
    kept[lines] = True
    rest = text[:0] if kept.all() else text[~np.repeat(kept, ends + 1 - starts)]
    names = tuple(k.decode() for k, _ in layout)
    return Alike(names, text, begins + quoted, stops - quoted, quoted, null), rest


def _keyed(text: Numbers, starts: Numbers, ends: Numbers, keys: int) -> tuple[Numbers, Numbers]:
    """The lines in which so many keys end, and where, by key and line."""
    is_end = text[:-1] == _QUOTE
    is_end &= text[1:] == _COLON
    found = np.flatnonzero(is_end)
    if len(found) == keys * len(ends):
        table = found.reshape(-1, keys)
        if (table[:, 0] > starts).all() and (table[:, -1] < ends).all():
            return np.arange(len(ends)), np.ascontiguousarray(table.T)
    upto = np.searchsorted(found, ends)
    before = np.concatenate(([0], upto[:-1]))
    lines = np.flatnonzero(upto - before == keys)
    return lines, found[before[lines] + np.arange(keys)[:, None]]


def _only(good: Numbers, *arrays: Numbers) -> tuple[Numbers, ...]:
    """The lines of each array that are good."""
    return arrays if good.all() else tuple(a[..., good] for a in arrays)


def _reads(text: Numbers, at: Numbers, wanted: bytes) -> Numbers:
    """Whether the text at each place is the wanted one, which is of four bytes at least."""
    size = 8 if len(wanted) >= 8 else 4
    words = np.ndarray((text.size - size + 1,), f"<u{size}", text, strides=(1,))
    good = np.ones(len(at), bool)
    for i in {*range(0, len(wanted) - size, size), len(wanted) - size}:
        good &= words[at + i] == int.from_bytes(wanted[i : i + size], "little")
    return good


def _nulls(text: Numbers, begins: Numbers, stops: Numbers, first: Numbers) -> Numbers:
    null = (first == _NULL & 0xFF) & (stops - begins == 4)
    if null.any():
        words = np.ndarray((text.size - 3,), "<u4", text, strides=(1,))
        null[null] = words[begins[null]] == _NULL
    return null


def _bare(text: Numbers, begins: Numbers, ends: Numbers, bare: Numbers) -> Numbers:
    """Whether all values of a line that stand there without quotes are values of JSON."""
    good = np.ones(begins.shape[1], bool)
    pieces = _pieces(text, begins, ends)
    for j in np.flatnonzero(bare.any(axis=1)).tolist():
        values = _of_key(pieces, j, len(bare), bare[j])
        if not (bare[j].all() and _whole_numbers(values)):
            fits = pc.match_substring_regex(values, _BARE)
            good &= pc.fill_null(fits, True).to_numpy(zero_copy_only=False)
    return good


def _whole_numbers(values: pa.Array) -> bool:
    """Whether all values are digits, of which the first is no zero if there are more."""
    _, offsets, text = values.buffers()
    starts = np.frombuffer(offsets, np.int32, len(values) + 1)
    digits = np.frombuffer(text, np.uint8, starts[-1])
    if (digits - ord("0") > 9).any():
        return False
    return not ((digits[starts[:-1]] == ord("0")) & (np.diff(starts) > 1)).any()


def _pieces(text: Numbers, begins: Numbers, ends: Numbers) -> pa.Array:
    """The text cut where values begin and end, line by line: every other piece is a value."""
    offsets = np.empty((begins.shape[1], 2 * len(begins)), np.int32)
    offsets[:, ::2], offsets[:, 1::2] = begins.T, ends.T
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.string(), max(offsets.size - 1, 0), buffers)


def _of_key(pieces: pa.Array, key: int, keys: int, valid: Numbers | None = None) -> pa.Array:
    """The values of one key; null where they are not valid."""
    places = np.arange(2 * key, len(pieces), 2 * keys, dtype=np.int32)
    missing = None if valid is None or valid.all() else ~valid
    return pieces.take(pa.array(places, mask=missing))
