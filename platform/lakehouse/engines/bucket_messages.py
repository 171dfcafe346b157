"""Hearing a job through numbered objects in a bucket.

Belongs here: where its messages are. Does not belong here: what they mean (runner.py), or writing them
(spark_jobs/pipes.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dagster_aws.pipes import PipesS3MessageReader

from lakehouse.engines.chunks import EveryChunk


class BucketMessages(EveryChunk, PipesS3MessageReader):
    """Reads below a folder that the attempt of a step has for itself: a process that takes it over reads
    all of it again. What the job prints is among the messages."""

    def __init__(
        self, client: Any, folder: str, interval: float, *, at_the_end: bool = False
    ) -> None:
        bucket, _, self._prefix = folder.removeprefix("s3://").partition("/")
        super().__init__(
            bucket=bucket, client=client, interval=interval, include_stdio_in_messages=True
        )
        self.at_the_end = at_the_end

    @contextmanager
    def get_params(self) -> Iterator[Any]:
        with super().get_params() as params:
            yield {**params, "key_prefix": self._prefix}
