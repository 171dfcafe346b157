"""Hearing a job through numbered chunks of messages: all that are there, whenever somebody looks.

Belongs here: that. Does not belong here: where the chunks are (bucket_messages.py, databricks_pipes.py).

Dagster's reader takes one chunk each time that it looks, and looks less often than a job writes one.
So it falls behind, by minutes in an hour; it goes on for ten seconds when the job has ended; and what it
has not read by then is lost, the report of the job first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagster import PipesBlobStoreMessageReader

if TYPE_CHECKING:
    from dagster_pipes import PipesParams


class EveryChunk(PipesBlobStoreMessageReader):
    """To be put before a reader of one kind of store."""

    def download_messages(self, cursor: Any, params: PipesParams) -> Any:
        """All chunks from the cursor on, and the cursor behind them; None if there is none."""
        chunks = []
        while found := super().download_messages(cursor, params):
            cursor, chunk = found
            chunks.append(chunk)
        return (cursor, "\n".join(chunks)) if chunks else None
