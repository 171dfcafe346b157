"""Records of a stream as landing files: each once, however often its batch is repeated.

Belongs here: a file's name, which its batch decides. Does not belong here: the form of a line
(stream_records.py), or when records are read (pipeline.py).
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spark_jobs.lake.storage import Lake
from spark_jobs.stream_records import StreamRecord, line
from spark_jobs.window import Scheme

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row

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
        rows = batch.select(window, "data", at, "shardId", sequence, "partitionKey")
        rows = rows.sort("window", "shardId", F.length(sequence), sequence)
        records = {}
        for key, group in itertools.groupby(rows.toLocalIterator(), key=lambda row: row["window"]):
            uri = f"{self.lake.landing(self.dataset, key)}/{self._file(number)}"
            lines = _Counted(self._line(row) for row in group)
            if self.lake.storage.exists(uri):
                collections.deque(lines, maxlen=0)  # they are counted all the same
            else:
                self.lake.storage.write(uri, lines)
            records[key] = lines.number
        return records

    def _file(self, number: int) -> str:
        return f"{self.incarnation}-{number:012}.json"

    def _line(self, row: Row) -> bytes:
        data, shard, position = bytes(row["data"] or b""), row["shardId"], row["sequenceNumber"]
        record = StreamRecord(data, shard, position, row["at"], row["partitionKey"])
        added = {} if self.arrival is None else {self.arrival: record.arrived}
        return line(record, added).text + b"\n"


@dataclass
class _Counted:
    """Lines, and how many of them have been taken."""

    lines: Iterable[bytes]
    number: int = 0

    def __iter__(self) -> Iterator[bytes]:
        for taken in self.lines:
            self.number += 1
            yield taken
