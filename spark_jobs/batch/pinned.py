"""The rows of a table at one version, as an engine reads them.

Belongs here: asking the engine for them. Does not belong here: which version (inputs.py, publish.py).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql import DataFrame, SparkSession

# What a batch or two name at once; older ones are dropped.
_VIEWS_KEPT = 128
_views: WeakKeyDictionary[SparkSession, dict[str, None]] = WeakKeyDictionary()


def rows(spark: SparkSession, table: DeltaTable, uri: str, version: int | None = None) -> DataFrame:
    """The rows of a table, by default at the version at which it is open.

    On an object store through a view: Sail then opens the table once, and otherwise anew for each plan
    that it analyses, which asks for its log commit by commit.
    """
    at = table.version() if version is None else version
    name = None
    if "://" in uri:
        what = f"{table.metadata().id} {uri} {at}"
        name = f"pinned_{hashlib.sha256(what.encode()).hexdigest()[:32]}"
        known = _views.setdefault(spark, {})
        if name in known:
            return spark.table(name)
    found = spark.read.format("delta").option("versionAsOf", at).load(uri)
    if name is None:
        return found
    found.createOrReplaceTempView(name)
    known[name] = None
    for old in list(known)[:-_VIEWS_KEPT]:
        del known[old]
        spark.catalog.dropTempView(old)
    return spark.table(name)
