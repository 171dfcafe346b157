"""Tables of the lake as external tables of Unity Catalog, so that people find them by name and the
catalogue says who may read them.

Belongs here: registering them. Does not belong here: their rows and versions: a commit is made by the
platform (lake/commits.py), by location, and the catalogue reads it from the log.

A managed table is another matter: its location is the catalogue's, and its commits go through the
catalogue. It is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spark_jobs.contract.location import contracts_at
from spark_jobs.errors import StorageError
from spark_jobs.lake import delta
from spark_jobs.lake.storage import Lake, Storage
from spark_jobs.report import LakeSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def register(spark: SparkSession, spec: LakeSpec, catalog: str) -> list[str]:
    """Registers the tables that are there, each in the schema of its layer; returns their names.

    Raises StorageError if a name is taken by a managed table, or by a table of another location.
    """
    storage = Storage(spec.storage_options)
    lake, names = Lake(spec.zones, storage), []
    with contracts_at(spec.contracts, spec.contracts_sha256, storage) as contracts:
        for contract in contracts.values():
            uri = lake.table(contract.table)
            if delta.open_table(uri, storage) is None:
                continue
            schema = f"`{catalog}`.`{contract.layer}`"
            name = f"{schema}.`{contract.name}`"
            spark.sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            there = _described(spark, name) if spark.catalog.tableExists(name) else {}
            if there.get("Type") == "MANAGED":
                raise StorageError(
                    f"{name} is a managed table, whose location and commits are the catalogue's. The"
                    " platform commits by location, and publishes to external tables only. Drop it"
                    " or rename it, then register again."
                )
            if there and _plain(there.get("Location", "")) != _plain(uri):
                raise StorageError(
                    f"{name} is registered at {there.get('Location')}, and the lake has it at {uri}."
                    " Drop the registration (the files of an external table stay), then register"
                    " again."
                )
            if not there:
                quoted = uri.replace("\\", "\\\\").replace("'", "\\'")
                spark.sql(f"CREATE TABLE {name} USING DELTA LOCATION '{quoted}'")
            names.append(name)
    return names


def _described(spark: SparkSession, name: str) -> dict[str, str]:
    rows = spark.sql(f"DESCRIBE TABLE EXTENDED {name}").collect()
    return {row["col_name"]: row["data_type"] for row in rows}


def _plain(location: str) -> str:
    """A location by which others can be compared: `file:/x`, `file:///x` and `/x` are one."""
    if location.startswith("file:"):
        location = "/" + location.removeprefix("file:").lstrip("/")
    return location.replace("s3a://", "s3://").rstrip("/")
