"""The door to Dagster: whether it launched this process, and how the outcome gets to it.

Belongs here: Dagster Pipes. Does not belong here: what is sent (report.py).

Messages go where the launcher says: to a file or a stream, as Pipes has it by itself, as numbered files
to a volume, or as numbered objects to a bucket, by the client that reads and writes the lake there: a
job has no other one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from io import StringIO
from typing import Any

import dagster_pipes
from dagster_pipes import PipesContext, PipesMessageWriter, PipesParams, PipesParamsLoader

from spark_jobs.lake.storage import Storage


@contextlib.contextmanager
def session(context: str | None, messages: str | None) -> Iterator[PipesContext | None]:
    """The Pipes session if Dagster launched this process, else None. Arguments go before the
    environment, which a job may have from the process that submitted it."""
    # Its own __init__ has no types.
    params: dagster_pipes.PipesMappingParamsLoader
    params = dagster_pipes.PipesEnvVarParamsLoader()  # type: ignore[no-untyped-call]
    if context is not None and messages is not None:
        given = {
            dagster_pipes.DAGSTER_PIPES_CONTEXT_ENV_VAR: context,
            dagster_pipes.DAGSTER_PIPES_MESSAGES_ENV_VAR: messages,
        }
        params = dagster_pipes.PipesMappingParamsLoader({**os.environ, **given})
    if not params.is_dagster_pipes_process():
        yield None
        return
    with dagster_pipes.open_dagster_pipes(
        params_loader=params, message_writer=_writer(params)
    ) as pipes:
        yield pipes


def _writer(params: PipesParamsLoader) -> PipesMessageWriter[Any]:
    where = params.load_messages_params()
    if "bucket" in where:
        return _BucketWriter()
    if str(where.get("path", "")).startswith("/Volumes/"):  # a folder, unlike any other path
        return dagster_pipes.PipesUnityCatalogVolumesMessageWriter()
    return dagster_pipes.PipesDefaultMessageWriter()


class _BucketWriter(dagster_pipes.PipesBlobStoreMessageWriter["_Bucket"]):
    """What PipesS3MessageReader reads."""

    def make_channel(self, params: PipesParams) -> _Bucket:
        folder = f"s3://{params['bucket']}/{params['key_prefix']}"
        return _Bucket(folder, interval=self.interval)


class _Bucket(dagster_pipes.PipesBlobStoreMessageWriterChannel):
    def __init__(self, folder: str, *, interval: float) -> None:
        super().__init__(interval=interval)
        # As for --spec: what the options of the lake's store are is not known yet.
        self._fs, self._folder = Storage().filesystem(folder)

    def upload_messages_chunk(self, payload: StringIO, index: int) -> None:
        with self._fs.open_output_stream(f"{self._folder}/{index}.json") as stream:
            stream.write(payload.read().encode())
