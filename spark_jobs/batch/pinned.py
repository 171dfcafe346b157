"""Rows that a batch reads again and again, as an engine has them: a table's at one version, or files'.

Belongs here: asking the engine for them, or bringing them to it. Does not belong here: which version
(inputs.py, publish.py), or which files (folder.py).

An object store takes its time for each request, and an engine lists and opens what it reads for each
plan that it analyses or runs. So it is asked through views there: of a few rows, which were read once
and which the engine then holds, or else of the table, which Sail opens once for a view.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import pyarrow as pa

from spark_jobs.lake import delta
from spark_jobs.lake.storage import Storage

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql import DataFrame, SparkSession

# What is brought to the engine: Parquet files of so many bytes together, and so many.
_FEW_BYTES = 2 << 20
_FEW_FILES = 64
# What the tables that run side by side name at once, a batch or two each; older ones are dropped.
_TABLES = os.cpu_count() or 1
_VIEWS_KEPT = 128 * _TABLES
_BYTES_KEPT = (256 << 20) * _TABLES
_views: WeakKeyDictionary[SparkSession, dict[str, int]] = WeakKeyDictionary()


def rows(
    spark: SparkSession,
    table: DeltaTable,
    uri: str,
    storage: Storage,
    version: int | None = None,
    within: tuple[str, str] | None = None,
) -> DataFrame:
    """The rows of a table, by default at the version at which it is open; at least those whose
    `_partition` is `within` two, if that is given."""
    at = table.version() if version is None else version

    def asked() -> DataFrame:
        return spark.read.format("delta").option("versionAsOf", at).load(uri)

    if "://" not in uri:
        return asked()
    name = f"{table.metadata().id} {uri} {at}"
    if at == table.version() and delta.is_plain(table):
        files = [f for f in delta.active_files(table) if within is None or _meets(f, within)]
        if are_few(f.size for f in files):
            what = f"{name} {within}"
            return held(spark, what, lambda: delta.read_active(table, files, storage))
    return _view(spark, name, lambda: (asked(), 0))


def _meets(file: delta.ActiveFile, within: tuple[str, str]) -> bool:
    low, high = file.bounds.get("_partition", within)
    return bool(low <= within[1] and high >= within[0])


def are_few(sizes: Iterable[int]) -> bool:
    """Whether files of these sizes are little enough to be read once and brought to the engine."""
    known = list(sizes)
    return len(known) <= _FEW_FILES and sum(known) <= _FEW_BYTES


def held(spark: SparkSession, what: str, read: Callable[[], pa.Table]) -> DataFrame:
    """Rows that the engine holds under the name of `what` they are, and that are `read` if it does
    not."""

    def brought() -> tuple[DataFrame, int]:
        found = read()
        # As an engine's own readers of files have it, any column may be null.
        schema = pa.schema([f.with_nullable(True) for f in found.schema])
        return spark.createDataFrame(found.cast(schema)), found.nbytes

    return _view(spark, what, brought)


def _view(spark: SparkSession, what: str, make: Callable[[], tuple[DataFrame, int]]) -> DataFrame:
    name = f"pinned_{hashlib.sha256(what.encode()).hexdigest()[:32]}"
    known = _views.setdefault(spark, {})
    if name not in known:
        found, size = make()
        found.createOrReplaceTempView(name)
        known[name] = size
        while len(known) > _VIEWS_KEPT or (len(known) > 1 and sum(known.values()) > _BYTES_KEPT):
            oldest = next(iter(known))
            if known.pop(oldest, None) is not None:  # else another thread drops it
                spark.catalog.dropTempView(oldest)
    return spark.table(name)
