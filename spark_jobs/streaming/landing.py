"""Records of a stream as landing files: each once, however often its batch is repeated.

Belongs here: the form of a line, and a file's name, which its batch decides. Does not belong here:
what the records mean (batch/landing), or when they are read (pipeline.py).
"""

from __future__ import annotations

import collections
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_jobs.lake.storage import Lake
from spark_jobs.window import Scheme

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_PATTERNS = {"hourly": "yyyy-MM-dd'T'HH", "daily": "yyyy-MM-dd"}


@dataclass(frozen=True)
class StreamLanding:
    """Where the records of one stream land. `incarnation` is the checkpoint's: its batches have
    numbers, and those of another checkpoint begin again at 0."""

    lake: Lake
    dataset: str
    scheme: Scheme
    incarnation: str
    arrival: str | None

    def write(self, batch: DataFrame, number: int) -> dict[str, int]:
        """Writes a batch, a file per window of arrival; returns how many records each got. A file
        that is there is whole, and a batch that is repeated has the same records: it stays."""
        from pyspark.sql import functions as F

        arrived, sequence = F.col("approximateArrivalTimestamp"), F.col("sequenceNumber")
        window = F.date_format(arrived, _PATTERNS[self.scheme]).alias("window")
        at = F.date_format(arrived, "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'").alias("at")
        # In the order of the stream; sequence numbers are numbers of many digits.
        rows = batch.select(window, "data", at, "shardId", sequence)
        rows = rows.sort("window", "shardId", F.length(sequence), sequence)
        records = {}
        for key, group in itertools.groupby(rows.toLocalIterator(), key=lambda row: row["window"]):
            uri = f"{self.lake.landing(self.dataset, key)}/{self._file(number)}"
            lines = _Counted(line(row["data"], self._added(row["at"])) for row in group)
            if self.lake.storage.exists(uri):
                collections.deque(lines, maxlen=0)  # they are counted all the same
            else:
                self.lake.storage.write(uri, lines)
            records[key] = lines.number
        return records

    def _file(self, number: int) -> str:
        return f"{self.incarnation}-{number:012}.json"

    def _added(self, at: str) -> tuple[str, str] | None:
        return None if self.arrival is None else (self.arrival, at)


@dataclass
class _Counted:
    """Lines, and how many of them have been taken."""

    lines: Iterable[bytes]
    number: int = 0

    def __iter__(self) -> Iterator[bytes]:
        for taken in self.lines:
            self.number += 1
            yield taken


def line(data: bytes | None, added: tuple[str, str] | None = None) -> bytes:
    """A record as one line, as it was sent. Line breaks in JSON lie between its parts only, where a
    space says the same; a record that is no JSON, an empty one too, is kept for the quarantine. So
    is one that is no UTF-8, with such bytes written as \\xff, which no JSON is: a file with them in it
    would be refused as a whole, and with it all other records of its window.

    `added` is a field and its value for an object that has no such field.
    """
    sent = bytes(data or b"").decode(errors="backslashreplace").encode()
    text = sent.replace(b"\r", b" ").replace(b"\n", b" ").strip(b" ") or b"null"
    if added is not None:
        text = _with(text, *added)
    return text + b"\n"


def _with(text: bytes, name: str, value: str) -> bytes:
    """The object with one more field; what was sent stays, to the letter."""
    record = _parsed(text)
    if not isinstance(record, dict) or name in record:
        return text
    field = f"{json.dumps(name)}: {json.dumps(value)}".encode()
    body = text[: text.rindex(b"}")].rstrip()
    return body + (b", " if record else b"") + field + b"}"


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
