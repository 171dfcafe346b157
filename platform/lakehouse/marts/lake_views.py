"""The lake's Delta tables as views of the DuckDB warehouse: what `dbt` reads on the duckdb target.

Belongs here: the dbt-duckdb plugin that pins every silver and gold table to its newest version
when dbt connects, and the SQL of such a view. Does not belong here: what dbt makes of the rows.

A view lists exactly the data files that one version of the Delta log references, and takes
partition values from the log too, so it never sees half a commit, and DuckDB's own Parquet reader
prunes columns, row groups and files. All views of one dbt invocation are pinned together: every
model and test of it sees the same data.

For each model that has recorded what it was built from (macro `record_build`), and each of its
sources, a view in the schema `changes` holds the rows that are new, gone or different since,
whatever the order in which partitions arrived, and whether rows were updated, moved to another
key, deleted or restored: the files that the two versions share cannot differ, so only the others
are compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.events.logging import AdapterLogger
from dbt_common.invocation import get_invocation_id
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse.marts import lake_files
from lakehouse.marts.messages import without_values
from spark_jobs.errors import StorageError
from spark_jobs.lake import delta
from spark_jobs.lake.storage import Lake, Storage

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

logger = AdapterLogger("Lake")

ZONES = ("silver", "gold")
FILE = "_lake_file"
_OPENED_AT_ONCE = 8

_TYPES = {
    "string": "varchar",
    "byte": "tinyint",
    "short": "smallint",
    "integer": "integer",
    "long": "bigint",
    "float": "float",
    "double": "double",
    "boolean": "boolean",
    "binary": "blob",
    "date": "date",
    "timestamp": "timestamptz",
    "timestamp_ntz": "timestamp",
}


@dataclass(frozen=True)
class LakeTable:
    """One version of a Delta table. `files` maps the path or URI of each data file to its partition
    values, as text."""

    name: str
    root: str
    table_id: str
    version: int
    columns: Mapping[str, str]
    partitioned_by: tuple[str, ...]
    files: Mapping[str, tuple[str | None, ...]] = field(repr=False)
    storage: Storage = field(default_factory=Storage)

    @classmethod
    def open(
        cls, name: str, root: str, version: int | None = None, storage: Storage | None = None
    ) -> LakeTable | None:
        """The table at a version, by default the newest; None if there is no table.

        Raises StorageError if the log cannot be read or needs more than a Parquet reader.
        """
        storage = storage or Storage()
        if version is None:
            table = delta.open_table(root, storage)
            if table is None:
                return None
        else:
            try:
                options = storage.delta_options(root)
                table = DeltaTable(root, version=version, storage_options=options)
            except (DeltaError, OSError, ValueError) as error:
                raise StorageError(f"{root}: version {version} cannot be read: {error}") from error
        delta.ensure_plain(table)
        by = tuple(table.metadata().partition_columns)
        return cls(
            name=name,
            root=root,
            table_id=str(table.metadata().id),
            version=table.version(),
            columns={f.name: _type(f.type) for f in table.schema().fields},
            partitioned_by=by,
            files=dict(_files(table, root, by)),
            storage=storage,
        )

    @cached_property
    def schema_and_view(self) -> tuple[str, str]:
        schema, _, view = self.name.partition(".")
        return schema, view

    def select(self, files: Mapping[str, tuple[str | None, ...]] | None = None) -> str:
        """SQL for the rows of some data files, by default all: the columns of the table's schema
        and no others, with their declared types; a column that a file lacks is null in its rows.
        """
        files = self.files if files is None else files
        stored = [c for c in self.columns if c not in self.partitioned_by]
        # The branch without rows gives every column its name and type, also where no file does.
        empty = ", ".join(f"null::{self.columns[c]} as {_quote(c)}" for c in stored)
        rows = f"select {empty}, null::varchar as {FILE} where false"
        if files:
            listed = ", ".join(map(_text, files))
            rows += (
                f" union all by name select * from read_parquet([{listed}], union_by_name = true,"
                f" hive_partitioning = false, filename = '{FILE}')"
            )
        sql = f"select {', '.join(self._column(c) for c in self.columns)} from ({rows}) as rows"
        if self.partitioned_by:
            rows_of: list[tuple[str | None, ...]] = [(path, *v) for path, v in files.items()]
            rows_of = rows_of or [(None,) * (1 + len(self.partitioned_by))]
            values = ", ".join(f"({', '.join(map(_text, v))})" for v in rows_of)
            names = ", ".join(map(_quote, (FILE, *self.partitioned_by)))
            sql += f" join (values {values}) as files({names}) on rows.{FILE} = files.{FILE}"
        return sql

    def _column(self, name: str) -> str:
        side = "files" if name in self.partitioned_by else "rows"
        value = f"cast({side}.{_quote(name)} as {self.columns[name]})"
        if self.columns[name] == "timestamptz":
            # Instants become UTC timestamps without zone, as Redshift Spectrum shows them.
            value = f"make_timestamp(epoch_us({value}))"
        return f"{value} as {_quote(name)}"

    def changed_since(self, table_id: str, version: int) -> str:
        """SQL for the rows that only one of this and an earlier version has, the platform's own
        columns aside; all rows if the two cannot be compared (another table of the same name, an
        expired log, removed files). Reads only the files that the versions do not share."""
        if table_id != self.table_id:
            return self.select()
        try:
            before: LakeTable | None = self
            if version != self.version:
                before = self.open(self.name, self.root, version, self.storage)
        except StorageError:
            return self.select()
        if before is None:
            return self.select()
        added = dict(self.files.items() - before.files.items())
        removed = dict(before.files.items() - self.files.items())
        if not self.storage.exist(removed):
            return self.select()
        if not (added and removed):
            return self.select(added or removed)
        columns = ", ".join(_quote(c) for c in self.columns if not c.startswith("_"))
        new = f"select {columns} from ({self.select(added)})"
        old = f"select {columns} from ({self.select(removed)})"
        return f"({new} except all {old}) union all ({old} except all {new})"


def _tables(
    zones: Mapping[str, str], storage: Storage
) -> Iterator[tuple[str, LakeTable | StorageError]]:
    """Every Delta table in some zones at its newest version, or why it cannot be read."""
    places = {
        f"{zone}.{name}": f"{location}/{name}"
        for zone, location in zones.items()
        for name in storage.folders(location)
        if not name.startswith(("_", "."))
    }

    def opened(name: str) -> LakeTable | StorageError | None:
        try:
            return LakeTable.open(name, places[name], storage=storage)
        except StorageError as error:
            return error

    # Side by side: an object store takes its time for each.
    with ThreadPoolExecutor(_OPENED_AT_ONCE) as threads:
        for name, table in zip(places, threads.map(opened, places), strict=True):
            if table is not None:
                yield name, table


def pin(
    connection: DuckDBPyConnection, zones: Mapping[str, str], storage: Storage
) -> dict[str, str]:
    """Creates the views at the newest versions, in one transaction, and records the versions.
    `zones` are the locations of those that marts may read.

    Returns the tables that cannot be read, with the reason: they have no view, so that only
    models that select from them fail.
    """
    unreadable: dict[str, str] = {}
    tables: dict[str, LakeTable] = {}
    for name, found in _tables(zones, storage):
        if isinstance(found, StorageError):
            unreadable[name] = str(found)
        else:
            tables[name] = found
    connection.execute("begin")
    try:
        _create_record(connection)
        connection.execute("delete from lakehouse.pins")
        _drop_views(connection, (*ZONES, "changes"))
        for table in tables.values():
            schema, view = table.schema_and_view
            connection.execute(
                "insert into lakehouse.pins values (?, ?, ?)",
                [table.name, table.table_id, table.version],
            )
            connection.execute(f"create view {schema}.{_quote(view)} as {table.select()}")
        built = connection.execute("select model, source, table_id, version from lakehouse.built")
        for model, source, table_id, version in built.fetchall():
            if source in tables:
                view = f"{model}__{source}".replace(".", "__")
                sql = tables[source].changed_since(table_id, version)
                connection.execute(f"create view changes.{_quote(view)} as {sql}")
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise
    return unreadable


def _create_record(connection: DuckDBPyConnection) -> None:
    for schema in (*ZONES, "changes", "lakehouse"):
        connection.execute(f"create schema if not exists {schema}")
    connection.execute(
        "create table if not exists lakehouse.pins"
        " (source varchar primary key, table_id varchar not null, version bigint not null)"
    )
    connection.execute(
        "create table if not exists lakehouse.built (model varchar, source varchar,"
        " table_id varchar not null, version bigint not null, primary key (model, source))"
    )


def _drop_views(connection: DuckDBPyConnection, schemas: Iterable[str]) -> None:
    found = connection.execute(
        "select schema_name, view_name from duckdb_views()"
        " where database_name = current_database() and list_contains(?, schema_name)",
        [list(schemas)],
    ).fetchall()
    for schema, view in found:
        connection.execute(f"drop view {schema}.{_quote(view)}")


def _files(
    table: DeltaTable, root: str, by: tuple[str, ...]
) -> Iterable[tuple[str, tuple[str | None, ...]]]:
    import pyarrow as pa

    actions = pa.table(table.get_add_actions(flatten=True))
    columns = [actions.column("path").to_pylist()]
    for name in by:
        values = actions.column(f"partition.{name}").to_pylist()
        columns.append([None if v is None else str(v) for v in values])
    for path, *parts in zip(*columns, strict=True):
        yield f"{root}/{unquote(path)}", tuple(parts)


def _type(delta_type: Any) -> str:
    """The DuckDB type of a Delta type."""
    if delta_type.type == "array":
        return f"{_type(delta_type.element_type)}[]"
    name = delta_type.type
    if name.startswith("decimal"):
        return name
    if name not in _TYPES:
        raise StorageError(f"the warehouse's views have no type for the Delta type {name}")
    return _TYPES[name]


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str | None) -> str:
    return "null::varchar" if value is None else "'" + value.replace("'", "''") + "'"


def _withhold_values() -> None:
    """From here on dbt learns of DuckDB's errors without the values that they quote: what it learns,
    it writes into its log, its results and its output."""
    original = DuckDBConnectionManager.exception_handler
    if getattr(original, "withholds", False):
        return

    @contextmanager
    def handler(self: Any, sql: str, connection_name: str = "master") -> Iterator[None]:
        with original(self, sql, connection_name):
            try:
                yield
            except Exception as error:
                raise RuntimeError(without_values(str(error))) from None

    vars(handler)["withholds"] = True
    # There is no other way in: dbt makes the manager itself.
    DuckDBConnectionManager.exception_handler = handler  # type: ignore[method-assign]


class Plugin(BasePlugin):
    """Pins the lake once per dbt invocation, before anything is read."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        _withhold_values()
        self.zones = {zone: plugin_config[zone] for zone in ZONES}
        self.storage = Storage(json.loads(plugin_config["storage_options"]))
        self._invocation = ""

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        if Lake(self.zones, self.storage).store is not None:
            lake_files.register(conn, self.storage)
        mode = conn.execute("select current_setting('access_mode')").fetchone()
        # dbt closes and reopens its connection during an invocation; the pins stay.
        if mode == ("read_only",) or self._invocation == get_invocation_id():
            return
        for table, reason in pin(conn, self.zones, self.storage).items():
            logger.warning(f"{table} has no view in the warehouse: {reason}")
        self._invocation = get_invocation_id()
