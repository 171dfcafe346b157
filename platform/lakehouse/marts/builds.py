"""What each mart was last built from, so that a run with nothing new does nothing.

Belongs here: the fingerprint of a mart's inputs, and the record of builds in the DuckDB warehouse.
Does not belong here: building marts (assets.py), and how rows that changed are found (lake_views.py).

A fingerprint covers the dbt project's files and the version of every lake table that the mart
selects from, directly or not. It is taken before a build and recorded after all models and tests
of the build have passed: if a table moves on in between, the next run builds again. If the project
has changed, incremental marts are built anew, since a rule that changed holds for all their rows.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_jobs.errors import InputError, LakehouseError, StorageError
from spark_jobs.lake import delta
from spark_jobs.lake.storage import Storage

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from lakehouse.settings.model import Settings

_PROJECT_FILES = (".sql", ".yml", ".csv")
CHECKED = "checked.sha256"
"""Beside a manifest: the digest of the project that it was made of."""
_WRITTEN_BY_DBT = ("target", "logs")


class WarehouseBusyError(LakehouseError):
    """Another process has the warehouse open."""

    permanent = False


@dataclass(frozen=True)
class CheckOutcome:
    """The outcome of one dbt test on a mart."""

    name: str
    passed: bool
    severity: str
    failures: int = 0


@dataclass(frozen=True)
class Fingerprint:
    """What a build is made from: digests of the dbt project and of the lake tables' versions."""

    project: str
    inputs: str


@dataclass(frozen=True)
class Build:
    """A mart as it is in the warehouse. `lineage` maps a column to (dbt id, column) pairs of its
    parents."""

    model: str
    fingerprint: Fingerprint
    rows: int | None = None
    checks: tuple[CheckOutcome, ...] = ()
    lineage: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Build | None:
        """The build, or None if another version of the platform wrote it in other terms: it is
        then as if the mart had never been built."""
        try:
            return cls._of(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    @classmethod
    def _of(cls, data: dict[str, Any]) -> Build:
        data["fingerprint"] = Fingerprint(**data["fingerprint"])
        data["checks"] = tuple(CheckOutcome(**c) for c in data["checks"])
        data["lineage"] = {
            column: tuple(map(tuple, parents)) for column, parents in data["lineage"].items()
        }
        return cls(**data)


def project_digest(folder: Path) -> str:
    """A digest of the files that the dbt project consists of, whatever dbt has written there."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.suffix in _PROJECT_FILES and relative.parts[0] not in _WRITTEN_BY_DBT:
            digest.update(f"{relative.as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def is_prepared(settings: Settings) -> bool:
    """Whether the manifest is there and of the project as it is now, which has been checked."""
    folder = settings.dbt_project / "target" / settings.warehouse.target
    recorded = folder / CHECKED
    if not (folder / "manifest.json").exists() or not recorded.exists():
        return False
    return recorded.read_text() == project_digest(settings.dbt_project)


def source_versions(locations: Mapping[str, str], storage: Storage) -> dict[str, str]:
    """The present version of each lake table, as `id@version`.

    Raises InputError if one is missing: a mart never goes on without an input.
    """
    versions = {}
    for table, uri in locations.items():
        opened = delta.open_table(uri, storage)
        if opened is None:
            raise InputError(
                f"{table}: there is no table at {uri}, and marts select from it. Materialize"
                f" {table.replace('.', '/')} first."
            )
        versions[table] = f"{opened.metadata().id}@{opened.version()}"
    return versions


def fingerprint(project: str, versions: Mapping[str, str]) -> Fingerprint:
    text = json.dumps(sorted(versions.items()))
    return Fingerprint(project, hashlib.sha256(text.encode()).hexdigest())


def unchanged(
    recorded: Mapping[str, Build], wanted: Mapping[str, Fingerprint]
) -> dict[str, Build] | None:
    """The recorded builds, if all models are already what a build would give; else None."""
    if wanted and all(m in recorded and recorded[m].fingerprint == f for m, f in wanted.items()):
        return {m: recorded[m] for m in wanted}
    return None


def needs_full_refresh(recorded: Mapping[str, Build], wanted: Mapping[str, Fingerprint]) -> bool:
    """Whether any model was last built by another version of the project, or nobody knows which."""
    return any(
        m not in recorded or recorded[m].fingerprint.project != f.project for m, f in wanted.items()
    )


def upstream_sources(manifest: Mapping[str, Any], unique_id: str) -> set[str]:
    """The lake tables that a dbt node selects from, directly or not, as `layer.table`."""
    found: set[str] = set()
    for parent in manifest["parent_map"].get(unique_id, ()):
        if parent.startswith("source."):
            source = manifest["sources"][parent]
            found.add(f"{source['source_name']}.{source['name']}")
        else:
            found |= upstream_sources(manifest, parent)
    return found


@contextmanager
def opened(warehouse: Path, *, read_only: bool = False) -> Iterator[DuckDBPyConnection]:
    """A connection to the DuckDB warehouse.

    Raises WarehouseBusyError if another process holds it for longer than a few seconds, and
    StorageError if it is damaged.
    """
    import duckdb

    for pause in (0.5, 1, 2, 4, 0):
        try:
            connection = duckdb.connect(str(warehouse), read_only=read_only)
            break
        except duckdb.IOException as error:
            if "lock" not in str(error):
                raise StorageError(
                    f"{warehouse}: cannot be opened ({error}). Move it away: the next run builds"
                    " all marts anew from the lake."
                ) from error
            if not pause:
                raise WarehouseBusyError(
                    f"{warehouse}: another process has it open. Close it, then run again. {error}"
                ) from error
            time.sleep(pause)
    try:
        yield connection
    finally:
        connection.close()


def read_builds(warehouse: Path) -> dict[str, Build]:
    """The recorded builds whose relation is still in the warehouse, by dbt id."""
    import duckdb

    if not warehouse.exists():
        return {}
    with opened(warehouse, read_only=True) as connection:
        try:
            rows = connection.execute(
                "select build from lakehouse.verified"
                " where (schema_name, table_name) in"
                " (select (table_schema, table_name) from information_schema.tables)"
            ).fetchall()
        except duckdb.CatalogException:  # nothing has been recorded yet
            return {}
    builds = [Build.from_json(text) for (text,) in rows]
    return {b.model: b for b in builds if b is not None}


def recorded_relations(warehouse: Path) -> set[tuple[str, str]]:
    """Schema and name of every recorded build, whether or not its relation is still there."""
    import duckdb

    if not warehouse.exists():
        return set()
    with opened(warehouse, read_only=True) as connection:
        try:
            rows = connection.execute("select schema_name, table_name from lakehouse.verified")
        except duckdb.CatalogException:
            return set()
        return {(schema, table) for schema, table in rows.fetchall()}


def count_rows(warehouse: Path, tables: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Rows of each (schema, table)."""
    with opened(warehouse, read_only=True) as connection:
        counts = {}
        for schema, table in tables:
            counted = connection.execute(f'select count(*) from {schema}."{table}"').fetchall()
            counts[schema, table] = counted[0][0]
        return counts


def write_builds(warehouse: Path, builds: Iterable[tuple[tuple[str, str], Build]]) -> None:
    """Records the builds of relations (schema, name)."""
    with opened(warehouse) as connection:
        connection.execute(
            "create table if not exists lakehouse.verified"
            " (schema_name varchar, table_name varchar, build varchar not null,"
            " primary key (schema_name, table_name))"
        )
        for (schema, name), build in builds:
            connection.execute(
                "insert or replace into lakehouse.verified values (?, ?, ?)",
                [schema, name, build.to_json()],
            )
