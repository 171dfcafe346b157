"""Hearing a job through numbered chunks of messages: all that are there, whenever somebody looks.

Belongs here: that. Does not belong here: where the chunks are (bucket_messages.py, databricks_pipes.py).

Dagster's reader takes one chunk each time that it looks, and looks less often than a job writes one.
So it falls behind, by minutes in an hour; it goes on for ten seconds when the job has ended; and what it
has not read by then is lost, the report of the job first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dagster import PipesBlobStoreMessageReader

from lakehouse.engines.remote import patiently

if TYPE_CHECKING:
    from dagster_pipes import PipesParams

# How long the last messages of a job that has ended may take to be seen; Dagster's threads wait as long.
_LATEST_SECONDS = 10.0


class EveryChunk(PipesBlobStoreMessageReader):
    """To be put before a reader of one kind of store. With `at_the_end` it looks when the job has ended,
    instead of all the time: of a job of many tables one step hears what happens, and the others what
    became of theirs."""

    at_the_end = False

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[PipesParams]:
        if not self.at_the_end:
            with super().read_messages(handler) as params:
                yield params
            return
        with self.get_params() as params:
            yield params
            until = time.monotonic() + _LATEST_SECONDS
            while not handler.received_closed_message and time.monotonic() < until:
                found = patiently(lambda: super(EveryChunk, self).download_messages(None, params))
                if found is None:
                    time.sleep(1)
                    continue
                until = time.monotonic() + _LATEST_SECONDS
                for line in found[1].split("\n"):
                    handler.handle_message(json.loads(line))

    def download_messages(self, cursor: Any, params: PipesParams) -> Any:
        """All chunks from the cursor on, and the cursor behind them; None if there is none."""
        chunks = []
        while found := super().download_messages(cursor, params):
            cursor, chunk = found
            chunks.append(chunk)
        return (cursor, "\n".join(chunks)) if chunks else None
