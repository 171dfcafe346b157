"""One version of a lake table, or what changed in it, as files that COPY loads.

Belongs here: which rows differ between two versions of a Delta table, and writing them as Parquet with
the contract's columns, in its order, with a manifest. Does not belong here: loading them (load.py).

The lake's own files are not what COPY takes: it goes by position, and they may lack columns that came
later, and those that name their folders, and have the platform's. Files that two versions share
cannot differ, so only the others are read, and of these only rows that differ travel.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse.warehouse import totals
from lakehouse.warehouse.totals import Totals
from spark_jobs.contract.model import Contract
from spark_jobs.lake import delta
from spark_jobs.lake.storage import Storage

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_ROWS_PER_FILE = 1_000_000
# What there is on one side more often than on the other; asked for once, and written and added up.
_DIFFERENCE = (
    "create temp table came as select * from added except all select * from removed;"
    "create temp table gone as select * from removed except all select * from added"
)
_ALL = "create view came as select * from added; create view gone as select * from removed"


@dataclass(frozen=True)
class Version:
    """A version of a Delta table; `table_id` tells it from another one at the same place."""

    table_id: str
    number: int


@dataclass(frozen=True)
class Exported:
    """What was written: `came` are new rows, `gone` the old ones in whose place they are, or without
    any; the manifests are None where there is no row. `whole` if the table is to be replaced."""

    version: Version
    whole: bool
    came: Totals
    gone: Totals
    came_manifest: str | None
    gone_manifest: str | None


@dataclass(frozen=True)
class Exporter:
    """Writes below `folder`."""

    contract: Contract
    storage: Storage
    folder: str

    def export(self, table: DeltaTable, since: Version | None) -> Exported:
        """What there is in the table's version beyond an earlier one that can still be read; all of
        it without one."""
        now = version_of(table)
        before = self._earlier(table, since)
        ours = _files(table)
        theirs = _files(before) if before else set()
        with TemporaryDirectory(prefix="lakehouse-export-") as folder:
            connection = _duckdb(Path(folder))
            try:
                self._stage(connection, "added", table, ours - theirs)
                self._stage(connection, "removed", before or table, theirs - ours)
                connection.execute(_DIFFERENCE if before else _ALL)
                came, gone = (self._totals(connection, of) for of in ("came", "gone"))
                written = (self._write(connection, of) for of in ("came", "gone"))
                return Exported(now, before is None, came, gone, *written)
            finally:
                connection.close()

    def _earlier(self, table: DeltaTable, since: Version | None) -> DeltaTable | None:
        """The table at an earlier version, if that is of the same table and all its files are there."""
        if since is None or since.table_id != str(table.metadata().id) or not self.contract.key:
            return None
        try:
            before = DeltaTable(
                table.table_uri,
                version=since.number,
                storage_options=self.storage.delta_options(table.table_uri),
            )
        except (DeltaError, OSError, ValueError):
            return None  # its log has expired
        delta.ensure_plain(before)
        lost = _files(before) - _files(table)
        present = {path for path, _ in self.storage.tree(table.table_uri)} if lost else set()
        return before if {unquote(path) for path in lost} <= present else None

    def _stage(
        self, connection: DuckDBPyConnection, name: str, table: DeltaTable, paths: set[str]
    ) -> None:
        schema = pa.schema(
            [(c.name, _plain(delta.arrow_type(c.type))) for c in self.contract.columns]
        )
        reader = pa.RecordBatchReader.from_batches(schema, self._rows(table, paths, schema))
        connection.register("files", reader)
        connection.execute(f"create temp table {name} as select * from files")
        connection.unregister("files")

    def _rows(
        self, table: DeltaTable, paths: set[str], schema: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        partition_of = {f.path: f.partition for f in delta.active_files(table)}
        for path in sorted(paths):
            (rows,) = delta.read_files(table, self.storage, [path])
            columns = [_column(rows, f, partition_of[path].get(f.name)) for f in schema]
            yield from pa.table(columns, schema=schema).to_batches()

    def _totals(self, connection: DuckDBPyConnection, relation: str) -> Totals:
        (row,) = connection.execute(totals.query(self.contract, relation, "duckdb")).fetchall()
        return Totals.of(self.contract, row)

    def _write(self, connection: DuckDBPyConnection, relation: str) -> str | None:
        """Writes the rows of a relation as files of a size that slices share well."""
        entries = []
        reader = connection.sql(f"select * from {relation}").to_arrow_reader(_ROWS_PER_FILE)
        for number, batch in enumerate(reader or ()):
            if batch.num_rows == 0:
                continue
            url = f"{self.folder}/{relation}-{number:05}.parquet"
            fs, path = self.storage.filesystem(url)
            with fs.open_output_stream(path) as stream:
                pq.write_table(pa.Table.from_batches([batch]), stream, compression="snappy")
            meta = {"content_length": fs.get_file_info(path).size}
            entries.append({"url": url, "mandatory": True, "meta": meta})
        if not entries:
            return None
        manifest = f"{self.folder}/{relation}.manifest"
        fs, path = self.storage.filesystem(manifest)
        with fs.open_output_stream(path) as stream:
            stream.write(json.dumps({"entries": entries}).encode())
        return manifest


def version_of(table: DeltaTable) -> Version:
    return Version(str(table.metadata().id), table.version())


def rows_of(table: DeltaTable) -> int:
    """The rows of a version, as its log has them."""
    return sum(f.rows for f in delta.active_files(table))


def _files(table: DeltaTable) -> set[str]:
    return {f.path for f in delta.active_files(table)}


def _column(rows: pa.Table, field: pa.Field, partition: str | None) -> pa.ChunkedArray:
    if field.name in rows.column_names:
        column = rows.column(field.name)
    else:  # it names the folder of the file, or came after it
        column = pa.chunked_array([pa.array([partition] * rows.num_rows, pa.string())])
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return column.cast(field.type)


def _plain(type_: pa.DataType) -> pa.DataType:
    """A timestamp is of UTC, and does not say so: Redshift's has no zone."""
    if pa.types.is_timestamp(type_):
        return pa.timestamp("us")
    if pa.types.is_list(type_):
        return pa.list_(_plain(type_.value_type))
    return type_


def _duckdb(folder: Path) -> DuckDBPyConnection:
    import duckdb

    return duckdb.connect(str(folder / "rows.duckdb"), config={"temp_directory": str(folder)})
