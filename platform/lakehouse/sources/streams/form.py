"""How records become files: by the window in which they arrived, in their order.

Belongs here: the form of a dataset's files, and files that are not written yet. Does not belong here:
the line of a record (stream_records.py), or when a file is written (drain.py).

Records are judged a few at a time, as they are read, and their lines are kept alone: many thousands of
records that live on would have the interpreter look through all of its objects again and again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spark_jobs.stream_records import StreamRecord, lines
from spark_jobs.window import Scheme

_FILE_BYTES = 8 << 20
_KEY_LENGTH: Mapping[Scheme, int] = {"daily": 10, "hourly": 13}


@dataclass(frozen=True)
class Form:
    """How records become files. `fields` are names of fields that a record gets if it has none such:
    for its arrival, position, shard and key."""

    scheme: Scheme = "hourly"
    fields: Mapping[str, str] = field(default_factory=dict)
    file_bytes: int = _FILE_BYTES

    def by_partition(self, records: Sequence[StreamRecord]) -> Mapping[str, Sequence[StreamRecord]]:
        """Some records by the window in which they arrived: nearly always one."""
        length = _KEY_LENGTH[self.scheme]
        found: dict[str, list[StreamRecord]] = {r.arrived[:length]: [] for r in records}
        if len(found) == 1:
            return dict.fromkeys(found, records)
        for record in records:
            found[record.arrived[:length]].append(record)
        return found


@dataclass
class File:
    """Lines of one window, from the record at `first` to that at `last`; `dead` are its dead letters."""

    first: str
    last: str = ""
    blocks: list[bytes] = field(default_factory=list)
    records: int = 0
    dead: list[tuple[StreamRecord, str]] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(map(len, self.blocks))

    def add(self, records: Sequence[StreamRecord], form: Form) -> None:
        block, dead = lines(records, form.fields)
        self.blocks.append(block)
        self.dead += dead
        self.records += len(records)
        self.last = records[-1].position


@dataclass
class Held:
    """Records of a shard that have been read, by the window in which they arrived, from the `first` to
    the `last`."""

    form: Form
    files: dict[str, File] = field(default_factory=dict)
    first: StreamRecord | None = None
    last: StreamRecord | None = None

    @property
    def full(self) -> bool:
        return sum(file.bytes for file in self.files.values()) >= self.form.file_bytes

    def add(self, records: Sequence[StreamRecord]) -> None:
        if not records:
            return
        self.first, self.last = self.first or records[0], records[-1]
        for partition, several in self.form.by_partition(records).items():
            file = self.files.setdefault(partition, File(several[0].position))
            file.add(several, self.form)
