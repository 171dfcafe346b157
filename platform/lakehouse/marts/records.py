"""The record of builds in the warehouse that they were built in, whichever that is.

Belongs here: reading and writing it, in DuckDB or in Redshift, and which versions of the lake's tables a
build in each would read. Does not belong here: what a build is, and whether one is needed (builds.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lakehouse.keys import warehouse_key
from lakehouse.marts import builds
from lakehouse.marts.builds import Build
from lakehouse.settings.warehouse import RedshiftWarehouse
from lakehouse.warehouse import record as loads
from lakehouse.warehouse import rows, spectrum
from lakehouse.warehouse.login import connected
from spark_jobs.errors import InputError

if TYPE_CHECKING:
    from lakehouse.settings.model import Settings

Relation = tuple[str, str]

_TABLE = f"{loads.SCHEMA}.builds"
_LONGEST = 65_535  # bytes of a text of Redshift
_DDL = (
    *loads.DDL,
    f"create table if not exists {_TABLE} (schema_name varchar(128) not null, table_name varchar(128)"
    f" not null, build varchar({_LONGEST}) not null) diststyle all sortkey (schema_name, table_name)",
)


class Record(Protocol):
    """What a warehouse knows of the marts in it. Relations are (schema, name)."""

    def versions(self, tables: Iterable[str]) -> dict[str, str]:
        """The version of each lake table that a build would read now. Raises InputError if one is
        missing: a mart never goes on without an input."""
        ...

    def read(self) -> dict[str, Build]:
        """The recorded builds whose relation is still there, by dbt id."""
        ...

    def relations(self) -> set[Relation]:
        """Those of all recorded builds, whether or not they are still there."""
        ...

    def count_rows(self, relations: Iterable[Relation]) -> dict[Relation, int]: ...

    def write(self, built: Iterable[tuple[Relation, Build]]) -> None: ...


def record_of(settings: Settings) -> Record:
    warehouse = settings.warehouse
    if isinstance(warehouse, RedshiftWarehouse):
        return RedshiftRecord(warehouse)
    return DuckDBRecord(settings)


@dataclass(frozen=True)
class DuckDBRecord:
    """The warehouse reads the lake's tables where they are."""

    settings: Settings

    def versions(self, tables: Iterable[str]) -> dict[str, str]:
        zones = self.settings.zones
        places = {t: zones[t.split(".")[0]] + "/" + t.split(".")[1] for t in tables}
        return builds.source_versions(places, self.settings.storage)

    def read(self) -> dict[str, Build]:
        return builds.read_builds(self.settings.warehouse_path)

    def relations(self) -> set[Relation]:
        return builds.recorded_relations(self.settings.warehouse_path)

    def count_rows(self, relations: Iterable[Relation]) -> dict[Relation, int]:
        return builds.count_rows(self.settings.warehouse_path, relations)

    def write(self, built: Iterable[tuple[Relation, Build]]) -> None:
        builds.write_builds(self.settings.warehouse_path, built)


@dataclass(frozen=True)
class RedshiftRecord:
    """The warehouse has what was loaded last, or published: that is what a build reads, whatever the
    lake has by now. A build also grants the marts to `readers`: with others it has to be repeated."""

    warehouse: RedshiftWarehouse

    def versions(self, tables: Iterable[str]) -> dict[str, str]:
        wanted = sorted(tables)
        brought = (self._loaded if self.warehouse.lake == "copy" else self._published)(wanted)
        for table in wanted:
            if table not in brought:
                raise InputError(
                    f"{table}: the warehouse has nothing of it, and marts select from it. Materialize"
                    f" {'/'.join(warehouse_key(table).path)} first."
                )
        readers = " ".join(self.warehouse.readers)
        return {table: f"{brought[table]} {readers}" for table in wanted}

    def _loaded(self, tables: Iterable[str]) -> dict[str, str]:
        """By load, and not by version: a table that somebody had changed is loaded anew."""
        with connected(self.warehouse) as connection:
            cursor = self._prepared(connection)
            found = {table: loads.newest(cursor, table) for table in tables}
        return {table: load.load_id for table, load in found.items() if load}

    def _published(self, tables: Iterable[str]) -> dict[str, str]:
        found = {table: spectrum.published(self.warehouse, table) for table in tables}
        return {table: version for table, version in found.items() if version}

    def read(self) -> dict[str, Build]:
        with connected(self.warehouse) as connection:
            cursor = self._prepared(connection)
            present: set[Any] = set()
            for listed in (
                "schemaname, tablename from pg_tables",
                "schemaname, viewname from pg_views",
            ):
                cursor.execute(f"select {listed}")
                present |= {tuple(row) for row in cursor.fetchall()}
            # Apart from these, which only the leader node knows: it joins them with no table.
            cursor.execute(f"select schema_name, table_name, build from {_TABLE}")
            texts = [text for *relation, text in cursor.fetchall() if tuple(relation) in present]
        read = [Build.from_json(text) for text in texts]
        return {build.model: build for build in read if build is not None}

    def relations(self) -> set[Relation]:
        with connected(self.warehouse) as connection:
            cursor = self._prepared(connection)
            cursor.execute(f"select schema_name, table_name from {_TABLE}")
            return {(schema, table) for schema, table in cursor.fetchall()}

    def count_rows(self, relations: Iterable[Relation]) -> dict[Relation, int]:
        return rows.count_rows(self.warehouse, relations)

    def write(self, built: Iterable[tuple[Relation, Build]]) -> None:
        with connected(self.warehouse) as connection:
            cursor = self._prepared(connection)
            for relation, build in built:
                where = "where schema_name = %s and table_name = %s"
                cursor.execute(f"delete from {_TABLE} {where}", relation)
                text = build.to_json()
                if len(text.encode()) <= _LONGEST:  # one that is not recorded is built every time
                    cursor.execute(f"insert into {_TABLE} values (%s, %s, %s)", (*relation, text))
            connection.commit()

    def _prepared(self, connection: Any) -> Any:
        cursor = connection.cursor()
        for statement in _DDL:
            cursor.execute(statement)
        connection.commit()
        return cursor
