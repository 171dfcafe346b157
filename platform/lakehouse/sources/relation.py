"""A table or view of a warehouse, as a source.

Belongs here: what every warehouse's relations have in common. Does not belong here: how one is asked
(redshift.py, snowflake.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from lakehouse.sources.source import Reads
from spark_jobs.contract.source import Relation as Declared

CHANGED = "_changed"


@dataclass(frozen=True)
class Relation:
    """Without a column of when a row was modified it is read as a whole. Its times without a zone are
    UTC."""

    declared: Declared
    columns: tuple[str, ...]

    @property
    def reads(self) -> Reads:
        return "changes" if self.declared.modified else "all"

    @property
    def changed(self) -> str | None:
        return CHANGED if self.declared.modified else None
