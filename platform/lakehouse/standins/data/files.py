"""How files get to landing: whole or not at all, once.

Here: atomic writes and the text forms of rows. Not here: what is written.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq


def write_once(path: Path, write: Callable[[Path], object]) -> int:
    """Write a file under a hidden name, then give it its own; an existing file stays as it is.

    Returns the size in bytes. Landing is immutable: a source never rewrites what it delivered.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            write(hidden)
            hidden.rename(path)
        finally:
            hidden.unlink(missing_ok=True)
    return path.stat().st_size


def replace(path: Path, data: bytes) -> None:
    """Write a file that may change later (records and the answer sheet), atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.{os.getpid()}")
    hidden.write_bytes(data)
    hidden.replace(path)


def parquet(table: pa.Table) -> Callable[[Path], object]:
    return lambda path: pq.write_table(table, path, compression="snappy", coerce_timestamps="us")


def text(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def json_lines(records: Iterable[dict[str, Any]], cut: Collection[int] = frozenset()) -> bytes:
    """One JSON object a line; the lines at the positions in `cut` end in the middle."""
    lines = []
    for position, record in enumerate(records):
        line = json.dumps(record, ensure_ascii=False)
        lines.append(line[: len(line) * 2 // 3] if position in cut else line)
    return ("\n".join(lines) + "\n").encode()


def csv_lines(table: pa.Table) -> bytes:
    """Records of RFC 4180 text without a header, quoted where needed."""
    out = io.BytesIO()
    pacsv.write_csv(table, out, pacsv.WriteOptions(include_header=False, quoting_style="needed"))
    return out.getvalue()
