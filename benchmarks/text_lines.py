"""Files of lines for the comparison of readers: eight columns, some empty, some quoted.

Belongs here: writing them. Does not belong here: reading them (contenders/text_reader.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

COLUMNS = ("id", "customer", "name", "price", "quantity", "paid", "day", "note")
_QUOTED = frozenset({"customer", "name", "day", "note"})  # in JSON
_AT_ONCE = 100_000


def written(work: Path, kind: str, lines: int) -> Path:
    """A file of so many lines, the same at each call."""

    def write(file: BinaryIO) -> None:
        file.write(_header(kind))
        for text in _text(kind, lines):
            file.write(text)

    return _kept(work / f"lines-{lines}.{kind}", write)


def written_of_size(work: Path, kind: str, size: int) -> Path:
    """A file of at least so many bytes: the same million lines again and again."""

    def write(file: BinaryIO) -> None:
        file.write(_header(kind))
        again = b"".join(_text(kind, 1_000_000))
        while file.tell() < size:
            file.write(again)

    return _kept(work / f"bytes-{size}.{kind}", write)


def _kept(path: Path, write: Callable[[BinaryIO], None]) -> Path:
    if path.exists():
        return path
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        write(file)
    return unfinished.rename(path)


def _header(kind: str) -> bytes:
    return ",".join(COLUMNS).encode() + b"\n" if kind == "csv" else b""


def _text(kind: str, lines: int) -> Iterator[pa.Buffer]:
    drawn = np.random.default_rng(1)
    for first in range(0, lines, _AT_ONCE):
        columns = _columns(np.arange(first, min(first + _AT_ONCE, lines)), drawn)
        text = _csv(columns) if kind == "csv" else _json(columns)
        start, stop = np.frombuffer(text.buffers()[1], np.int32)[[0, len(text)]]
        yield text.buffers()[2][start:stop]


def _columns(ids: np.ndarray, drawn: np.random.Generator) -> dict[str, pa.Array]:
    number = pa.array(ids).cast(pa.string())
    customer = pa.array(drawn.integers(0, 10**6, len(ids))).cast(pa.string())
    day = pa.array(ids % 28 + 1).cast(pa.string())
    cents = pa.array(drawn.integers(0, 10**5, len(ids)) / 100).cast(pa.string())
    return {
        "id": number,
        "customer": pc.binary_join_element_wise("C", pc.utf8_lpad(customer, 7, "0"), ""),
        "name": pc.if_else(
            pa.array(ids % 7 == 0), None, pc.binary_join_element_wise("name", number, " ")
        ),
        "price": cents,
        "quantity": pa.array(drawn.integers(0, 9, len(ids))).cast(pa.string()),
        "paid": pa.array(ids % 2 == 0).cast(pa.string()),
        "day": pc.binary_join_element_wise("2026-10-", pc.utf8_lpad(day, 2, "0"), ""),
        "note": pc.binary_join_element_wise("a note, of forty characters or so,", number, " "),
    }


def _csv(columns: dict[str, pa.Array]) -> pa.Array:
    *plain, note = columns.values()
    quoted = pc.binary_join_element_wise('"', note, '"\n', "")
    return pc.binary_join_element_wise(*(pc.fill_null(v, "") for v in plain), quoted, ",")


def _json(columns: dict[str, pa.Array]) -> pa.Array:
    pieces: list[pa.Array | str] = []
    for name, values in columns.items():
        if name in _QUOTED:
            values = pc.binary_join_element_wise('"', values, '"', "")
        pieces += [("," if pieces else "{") + f'"{name}":', pc.fill_null(values, "null")]
    return pc.binary_join_element_wise(*pieces, "}\n", "")
