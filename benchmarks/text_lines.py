"""Files of lines for the comparison of readers: eight columns, some empty, some quoted.

Belongs here: writing them. Does not belong here: reading them (contenders/text_reader.py).
"""

from __future__ import annotations

import json
import random
from pathlib import Path

COLUMNS = ("id", "customer", "name", "price", "quantity", "paid", "day", "note")


def written(work: Path, kind: str, lines: int) -> Path:
    """A file of so many lines, the same at each call."""
    path = work / f"lines-{lines}.{kind}"
    if path.exists():
        return path
    drawn = random.Random(1)
    unfinished = path.with_suffix(".part")
    with unfinished.open("w") as file:
        if kind == "csv":
            file.write(",".join(COLUMNS) + "\n")
        for i in range(lines):
            values = (
                i, f"C{drawn.randrange(10**6):07}", None if i % 7 == 0 else f"name {i}",
                round(drawn.random() * 1000, 2), drawn.randrange(9), i % 2 == 0,
                f"2026-10-{i % 28 + 1:02}", f"a note, of forty characters or so, {i}",
            )  # fmt: skip
            if kind == "json":
                record = dict(zip(COLUMNS, values, strict=True))
                file.write(json.dumps(record, separators=(",", ":")) + "\n")
            else:
                *plain, note = ("" if v is None else str(v) for v in values)
                file.write(",".join(plain) + f',"{note}"\n')
    return unfinished.rename(path)
