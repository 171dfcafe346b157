"""The folder in which a batch is staged, before a commit names any of its files.

Belongs here: what lies in it, writing to it, and reading it again. Does not belong here: what the rows
are (audit.py), or which files are published (publish.py).

Nobody else writes to it. So it is listed once for each time that the batch has written to it, and the
footer of a file is read once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from spark_jobs.batch import pinned
from spark_jobs.lake import delta
from spark_jobs.lake.storage import Storage

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass
class Folder:
    """`name` within the table's own folder at `uri`, with a folder for each outcome, and in that one
    for each value of the physical partition columns `by`."""

    storage: Storage
    uri: str
    name: str
    by: tuple[str, ...] = ()
    _listed: dict[str, int] | None = field(default_factory=dict)  # nothing yet
    _footers: dict[str, pq.FileMetaData] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"{self.uri}/{self.name}"

    def write(self, rows: DataFrame, outcome: str | None = None) -> None:
        """Adds rows of one outcome, or of the one that each says in a column `outcome`."""
        self._listed = None
        by = self.by if outcome else ("outcome", *self.by)
        # Nothing is replaced here: an engine that may replace looks for what there is.
        writer = rows.write.mode("append")
        if by:
            writer = writer.partitionBy(*by)
        writer.parquet(f"{self.path}/outcome={outcome}" if outcome else self.path)

    def copy(self, other: Folder, outcome: str) -> None:
        """Adds the files of one outcome of another folder, as they are."""
        self._listed = None
        self.storage.copy(f"{other.path}/outcome={outcome}", f"{self.path}/outcome={outcome}")

    def remove(self, outcomes: set[str] | None = None) -> None:
        """Removes the files of some outcomes, or the whole folder; no error if it is not there."""
        if outcomes is None and not self.is_untouched:
            self.storage.remove(self.path)
        for outcome in sorted(outcomes or ()):
            self.storage.remove(f"{self.path}/outcome={outcome}")
        self._listed = {} if outcomes is None else None

    def files(self, *outcomes: str) -> dict[str, int]:
        """The files of some outcomes, or all, as paths within the folder, with their sizes in bytes."""
        if self._listed is None:
            self._listed = dict(self.storage.tree(self.path))
        if not outcomes:
            return self._listed
        wanted = {f"outcome={o}" for o in outcomes}
        return {p: n for p, n in self._listed.items() if p.partition("/")[0] in wanted}

    @property
    def is_untouched(self) -> bool:
        """Whether nothing has been written to it."""
        return self._listed == {}

    @property
    def outcomes(self) -> set[str]:
        """Those that have a file."""
        return {path.partition("/")[0].partition("=")[2] for path in self.files()}

    def frame(self, spark: SparkSession, *outcomes: str) -> DataFrame | None:
        """The staged rows of some outcomes, with a column `outcome`; None if there are none. Columns
        that rows of one outcome have, and of another do not, are null there."""
        from pyspark.sql import functions as F

        there = [o for o in outcomes if o in self.outcomes]
        if not there:
            return None
        files = self.files(*there)
        if "://" in self.uri and pinned.are_few(files.values()):
            what = f"{self.path} {there} {files}"
            return pinned.held(spark, what, lambda: self._read(files))
        frames = [
            spark.read.parquet(f"{self.path}/outcome={o}").withColumn("outcome", F.lit(o))
            for o in there
        ]
        # Their values stand in folder names, and engines guess the type of those.
        typed = {c: F.col(c).cast("string").try_cast("date") for c in self.by}
        frames = [f.withColumns(typed) if typed else f for f in frames]
        return reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), frames)

    def footers(self, *outcomes: str) -> dict[str, pq.FileMetaData]:
        """The footers of the files of some outcomes."""
        files = self.files(*outcomes)
        missing = {p: n for p, n in files.items() if p not in self._footers}
        self._footers |= delta.footers(self.path, missing, self.storage)
        return {path: self._footers[path] for path in files}

    def _read(self, files: dict[str, int]) -> pa.Table:
        found = delta.read_whole(self.path, files, self.storage)
        self._footers |= {path: footer for path, (footer, _) in found.items()}
        return pa.concat_tables(
            [self._with_values(path, rows) for path, (_, rows) in found.items()],
            promote_options="default",
        )

    def _with_values(self, path: str, rows: pa.Table) -> pa.Table:
        """The rows of a file with the columns whose values stand in the names of its folders."""
        values = delta.values_in(path)
        for name, type_ in {"outcome": pa.string(), **dict.fromkeys(self.by, pa.date32())}.items():
            value = pa.scalar(values[name], pa.string()).cast(type_)
            rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
        return rows
