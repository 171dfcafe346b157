"""Finds where CSV records end, and which of them have quotes that RFC 4180 does not allow.

Arrow's reader takes `5" disk` and `"a" b` for values, and what a stray quote swallows for one too;
so the quotes are looked at before. Where each stands beside a delimiter, a line end or its twin, that
is done for a whole block at once; record by record only from the first one on that does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spark_jobs.batch.landing.text import Layout, ensure_short
from spark_jobs.errors import InputError


@dataclass(frozen=True)
class Records:
    """Whole records: the well-formed ones as text, and each of the others as it was delivered."""

    text: bytes | memoryview
    quotes: bool
    malformed: tuple[str, ...] = ()


def first_record(
    blocks: Iterator[bytes], layout: Layout, where: str
) -> tuple[str, Iterator[bytes]]:
    """The first record that is not blank, however long, and the text after it."""
    grammar, data, final = _Grammar(layout), b"", False
    while True:
        data = data.lstrip(b"\r\n")
        end = grammar.end(data, 0, final) if data else None
        if end is not None or final:
            break
        block = next(blocks, None)
        final = block is None
        data += block or b""
        ensure_short(data, where)

    def rest() -> Iterator[bytes]:
        if end is not None and data[end:]:
            yield data[end:]
        yield from blocks

    if data and end is None:
        raise _unclosed(where)
    return data[: end or 0].decode().rstrip("\r\n"), rest()


def records(
    blocks: Iterator[bytes], layout: Layout, names: list[str], where: str
) -> Iterator[Records]:
    """All records, in pieces of about a block. Raises InputError for a quote that is never closed,
    and for one that swallows lines which would each be a record."""
    grammar, swallowed = _Grammar(layout), _Swallowed(layout, names, where)
    rest = b""
    for block in blocks:
        rest += block
        piece, end = _piece(rest, grammar, swallowed, final=False)
        rest = rest[end:]
        ensure_short(rest, where)
        if piece.text or piece.malformed:
            yield piece
    if rest:
        piece, end = _piece(rest, grammar, swallowed, final=True)
        if end < len(rest):
            raise _unclosed(where)
        yield piece


def _piece(
    data: bytes, grammar: _Grammar, swallowed: _Swallowed, *, final: bool
) -> tuple[Records, int]:
    """The whole records at the beginning of the data, and where they end."""
    quotes = _places(data, grammar.quote)
    allowed = grammar.allowed(data, quotes, final)
    clean = len(quotes) if allowed.all() else int(np.argmin(allowed))
    # Up to here nothing is wrong; what follows the last record of that is looked at by itself.
    if clean == len(quotes) and final and len(quotes) % 2 == 0:
        end = len(data)
    else:
        end = _last_end(data, quotes, int(quotes[clean]) if clean < len(quotes) else len(data))
    inside = quotes[: int(np.searchsorted(quotes, end))]
    for begin, close in grammar.multiline(data, inside):
        swallowed.check(data, begin, close)
    if clean == len(quotes):
        return Records(memoryview(data)[:end], bool(len(inside))), end
    good, malformed = [data[:end]], []
    while (stop := grammar.end(data, end, final)) is not None and end < len(data):
        record = data[end:stop]
        if grammar.strict(data, end, stop):
            good.append(record)
            for begin, close in grammar.multiline(record, _places(record, grammar.quote)):
                swallowed.check(record, begin, close)
        else:
            record = record.rstrip(b"\r\n")
            malformed.append(record.decode())
            swallowed.check(record, record.find(grammar.quote), len(record))
        end = stop
    return Records(b"".join(good), True, tuple(malformed)), end


def _places(data: bytes, mark: bytes) -> np.ndarray:
    if not mark or mark not in data:
        return np.empty(0, np.int64)
    return np.flatnonzero(np.frombuffer(data, np.uint8) == mark[0])


def _last_end(data: bytes, quotes: np.ndarray, limit: int) -> int:
    """Behind the last line end before the limit that stands outside of quotes."""
    while True:
        at = data.rfind(b"\n", 0, limit)
        if at < 0:  # lines of old Macintoshes; one at the limit may be half of a line end
            at = data.rfind(b"\r", 0, max(limit - 1, 0))
        if at < 0:
            return 0
        before = int(np.searchsorted(quotes, at))
        if before % 2 == 0:
            return at + 1
        limit = int(quotes[before - 1])


def _unclosed(where: str) -> InputError:
    return InputError(
        f"{where}: a quoted field is never closed, so the rows after it are lost in it. The"
        " file may be truncated; deliver it again."
    )


class _Grammar:
    """What a record is, with the contract's delimiter and quote."""

    def __init__(self, layout: Layout) -> None:
        self.delimiter = layout.delimiter.encode()
        self.quote = (layout.quote or "").encode()
        d, q = re.escape(self.delimiter), re.escape(self.quote)
        ends = rb"(?:\r\n|\n|\r(?!\Z))"
        plain = rb"[^" + d + rb"\r\n]*+"
        quoted = q + rb"(?:[^" + q + rb"]++|" + q + q + rb")*+" + q if q else b"(?!)"
        bare = rb"(?!" + q + rb")" + plain if q else plain
        exact = rb"(?:" + quoted + rb"|[^" + d + q + rb"\r\n]*+)"
        loose = rb"(?:" + quoted + plain + rb"|" + bare + rb")"
        self._exact = re.compile(exact + rb"(?:" + d + exact + rb")*+(?:\r\n|\n|\r|\Z)")
        record = loose + rb"(?:" + d + loose + rb")*+"
        self._loose = re.compile(record + ends)
        self._final = re.compile(record + rb"(?:\r\n|\n|\r|\Z)")

    def end(self, data: bytes, start: int, final: bool) -> int | None:
        """Where the record that begins at `start` ends; None if that is not in the data."""
        found = (self._final if final else self._loose).match(data, start)
        return found.end() if found else None

    def strict(self, data: bytes, start: int, stop: int) -> bool:
        found = self._exact.match(data, start, stop)
        return found is not None and found.end() == stop

    def allowed(self, data: bytes, quotes: np.ndarray, final: bool) -> np.ndarray:
        """Whether each quote stands where one may, if all before it do: quotes open and close in
        turn, and two together within a field are one that is meant."""
        if not len(quotes):
            return np.empty(0, bool)
        text = np.frombuffer(data, np.uint8)
        beside = np.zeros(256, bool)
        beside[[*self.delimiter, *b"\r\n"]] = True
        opens, closes = quotes[::2], quotes[1::2]
        allowed = np.empty(len(quotes), bool)
        allowed[::2] = (opens == 0) | beside[text[opens - 1]]
        end = len(data) - 1
        allowed[1::2] = (closes == end) | beside[text[np.minimum(closes + 1, end)]]
        if not allowed.all():
            twin = np.diff(quotes) == 1
            allowed[2::2] |= twin[1::2]
            allowed[1:-1:2] |= twin[1::2]
        return allowed

    def multiline(self, data: bytes, quotes: np.ndarray) -> Iterator[tuple[int, int]]:
        """The quoted fields that hold a line end: the places of their first and last quote."""
        lines = _places(data, b"\n") if len(quotes) else quotes
        if not (np.searchsorted(quotes, lines) % 2).any():  # behind an odd number it is in a field
            return
        opens, closes = quotes[::2], quotes[1::2]
        apart = np.flatnonzero(opens[1:] != closes[:-1] + 1)
        first = opens[np.append(0, apart + 1)]
        last = closes[np.append(apart, len(closes) - 1)]
        held = np.searchsorted(lines, first) != np.searchsorted(lines, last)
        yield from zip(first[held].tolist(), last[held].tolist(), strict=True)


class _Swallowed:
    """Refuses a field that holds lines which would each be a record of the right width: most likely
    a stray quote opened it, and rows would be lost in it without a word. Of the line in which the
    field ends nobody can tell how wide it is; it is judged only where there is no other."""

    def __init__(self, layout: Layout, names: list[str], where: str) -> None:
        self.layout, self.names, self.where = layout, names, where
        self.delimiter = layout.delimiter.encode()

    def check(self, data: bytes, begin: int, close: int) -> None:
        first = data.find(b"\n", begin, close) + 1
        if not first:
            return
        lines = data[first:close].split(b"\n")
        whole = lines[:-1] or lines
        if any(line.count(self.delimiter) + 1 != len(self.names) for line in whole):
            return
        name = self._column(data, begin)
        if name not in self.layout.multiline:
            raise InputError(
                f"{self.where}: a quote in column {name} swallows {len(lines)} line(s), each of"
                f" which would be a record of {len(self.names)} fields. Deliver the file with the"
                " quote doubled; if the column holds such lines of text, name it in"
                " `multiline` of the contract's source."
            )

    def _column(self, data: bytes, begin: int) -> str:
        """The name of the column that a field belongs to, if the contract knows it."""
        line = data[data.rfind(b"\n", 0, begin) + 1 : begin]
        place = line.count(self.delimiter)
        name = self.names[place] if place < len(self.names) else ""
        return name if name in self.layout.columns else f"{place + 1}"
