"""External schemas of the stand-in: tables of the Glue catalogue, read from where their files are.

Belongs here: what Spectrum does with a catalogue's entry: manifests, partitions, files, columns by name.
Does not belong here: the statement that makes such a schema (statements.py).

PostgreSQL reads no Parquet, so that rows are brought into tables of the schema's name whenever a client
connects: a session sees what the catalogue and the manifests said when it began.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.standins.servers.redshift.files import CopyError, spooled
from lakehouse.standins.servers.redshift.postgres import Postgres
from spark_jobs.lake.storage import Storage

_SYMLINK = "org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat"
_TYPES = {"string": "varchar(65535)", "int": "integer"}


@dataclass
class ExternalSchemas:
    """The databases of the catalogue by the names of their schemas."""

    postgres: Postgres
    storage: Storage
    databases: dict[str, str] = field(default_factory=dict)
    _brought: dict[str, Any] = field(default_factory=dict)
    _one: threading.Lock = field(default_factory=threading.Lock)

    def create(self, schema: str, glue_database: str, database: str, user: str) -> None:
        _glue().get_database(Name=glue_database)
        self.databases[schema] = glue_database
        self.postgres.execute(f"create schema if not exists {schema}", database)
        self.postgres.execute(f'grant usage on schema {schema} to "{user}"', database)
        self.refresh(database, user)

    def refresh(self, database: str, user: str) -> None:
        """Brings every table of the schemas to what the catalogue says of it now."""
        if not self.databases:
            return
        glue = _glue()
        with self._one:
            for schema, name in self.databases.items():
                for table in glue.get_tables(DatabaseName=name)["TableList"]:
                    self._bring(glue, schema, name, table, database, user)

    def forget(self) -> None:
        """As if no schema had been made."""
        self.databases.clear()
        self._brought.clear()

    def _bring(
        self, glue: Any, schema: str, name: str, table: Mapping[str, Any], database: str, user: str
    ) -> None:
        stored, keys = table["StorageDescriptor"], table.get("PartitionKeys", [])
        if stored["InputFormat"] != _SYMLINK:
            raise CopyError(f"the stand-in reads no {stored['InputFormat']}")
        columns = [*stored["Columns"], *keys]
        places: list[tuple[str, tuple[str, ...]]] = [(stored["Location"], ())]
        if keys:
            pages = glue.get_paginator("get_partitions").paginate(
                DatabaseName=name, TableName=table["Name"]
            )
            found = [p for page in pages for p in page["Partitions"]]
            places = [(p["StorageDescriptor"]["Location"], tuple(p["Values"])) for p in found]
        files = [(url, values) for location, values in places for url in self._listed(location)]
        target = f'{schema}."{table["Name"]}"'
        seen = (columns, files)
        if self._brought.get(target) == seen:
            return
        listed = ", ".join(f'"{c["Name"]}" {_type(c["Type"])}' for c in columns)
        statements = [
            "begin",
            f"drop table if exists {target}",
            f"create table {target} ({listed})",
        ]
        statements.append(f'grant select on {target} to "{user}"')
        for url, values in files:
            rows = spooled(self.postgres.spool, self._rows(url, stored["Columns"], values, keys))
            statements.append(f"copy {target} from '{rows}' (format csv, null '\\N')")
        self.postgres.execute("; ".join([*statements, "commit"]), database)
        self._brought[target] = seen

    def _listed(self, location: str) -> list[str]:
        fs, path = self.storage.filesystem(f"{location}/manifest")
        with fs.open_input_file(path) as stream:
            return stream.read().decode().split()

    def _rows(
        self,
        url: str,
        columns: list[dict[str, str]],
        values: tuple[str, ...],
        keys: list[dict[str, str]],
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a file: columns by name, null where it lacks one, and its partition's values."""
        fs, path = self.storage.filesystem(url)
        with fs.open_input_file(path) as stream, pq.ParquetFile(stream) as file:
            for batch in file.iter_batches():
                arrays = [
                    batch.column(c["Name"])
                    if c["Name"] in batch.schema.names
                    else pa.nulls(batch.num_rows)
                    for c in columns
                ]
                arrays += [pa.array([v] * batch.num_rows) for v in values]
                names = [c["Name"] for c in (*columns, *keys)]
                yield pa.RecordBatch.from_arrays(arrays, names=names)


def _type(declared: str) -> str:
    return _TYPES.get(declared, "super" if declared.startswith("array") else declared)


def _glue() -> Any:
    import boto3

    return boto3.client("glue")
