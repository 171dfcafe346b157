"""Which side of a join is copied to every task.

Belongs here: the only hints to the planner that the data plane gives. Does not belong here: joins.

A hint takes the decision from the planner, which sees the sizes of a run. One that was right for the
sample fills the memory of every worker when the table has grown. So a hint is given only for rows
that this process has counted; a transform, which cannot count, gives none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Keys of some dozen bytes: a few megabytes per worker.
FEW_ROWS = 200_000


def copied_if_few(frame: DataFrame, rows: int) -> DataFrame:
    """A frame of so many `rows`, to be broadcast if they are few."""
    from pyspark.sql import functions as F

    return F.broadcast(frame) if rows <= FEW_ROWS else frame
