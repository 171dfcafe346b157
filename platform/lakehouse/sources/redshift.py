"""Relations of Redshift, which unloads them as Parquet: no row count is too large.

Belongs here: the query, and reading what was unloaded. Does not belong here: logging in, and what the
driver's errors say (warehouse/login.py), or what rows mean.

UNLOAD writes into a folder of its own below the connection's `tempdir`, which is removed when its rows
have been read. What a killed process leaves there nobody reads: let it expire by a lifecycle rule.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakehouse.settings.sources import RedshiftConnection
from lakehouse.sources.relation import CHANGED, Relation
from lakehouse.sources.source import Batch, Meter
from lakehouse.warehouse.login import connected
from spark_jobs.contract.source import Redshift
from spark_jobs.errors import StorageError
from spark_jobs.lake.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Unloaded(Relation):
    """A table or view."""

    connection: RedshiftConnection
    declared: Redshift

    def pull(self, since: datetime | None, until: datetime, meter: Meter) -> Iterator[Batch]:
        folder = f"{self.connection.tempdir}/{self.declared.dataset}-{secrets.token_hex(8)}"
        storage = Storage(self.connection.storage_options)
        try:
            meter.requests += 1
            unloaded = self._unload(self._query(since, until), folder)
            read = 0
            for url in _listed(storage, folder) if unloaded else ():
                for batch in self._batches(storage, url):
                    read += batch.num_rows
                    yield batch
            if read != unloaded:
                raise StorageError(
                    f"redshift {self.declared.table}: {unloaded:,} rows were unloaded to {folder}, and"
                    f" {read:,} are there. Does anything else remove files there?",
                    permanent=False,
                )
        except BaseException:
            with suppress(StorageError):  # what went wrong before says more
                storage.remove(folder)
            raise
        storage.remove(folder)

    def check(self) -> None:
        with connected(self.connection) as connection:
            connection.cursor().execute(f"{self._query(None, datetime.now(UTC))} limit 0")
        Storage(self.connection.storage_options).below(self.connection.tempdir)

    def _query(self, since: datetime | None, until: datetime) -> str:
        modified = self.declared.modified
        chosen = [*self.declared.called(self.columns), *([modified] if modified else [])]
        # A column may be asked for twice, and names of results are in lower case there.
        names = ", ".join(f"{column} as c{n}" for n, column in enumerate(chosen))
        query = f"select {names} from {self.declared.table}"
        if modified is None:
            return query
        bounds = [f"{modified} >= '{_utc(since)}'"] if since else []
        where = " and ".join([*bounds, f"{modified} < '{_utc(until)}'"])
        # In order, so that a pull that is repeated writes the same file.
        return f"{query} where {where} order by {modified}"

    def _unload(self, query: str, folder: str) -> int:
        """Unloads the rows of a query; returns how many."""
        quoted = query.replace("'", "''")
        with connected(self.connection) as connection:
            cursor = connection.cursor()
            cursor.execute("set timezone to 'UTC'")
            cursor.execute(
                f"unload ('{quoted}') to '{folder}/' iam_role '{self.connection.role}'"
                " format as parquet manifest parallel off"
            )
            cursor.execute("select pg_last_unload_count()")
            return int(cursor.fetchone()[0])

    def _batches(self, storage: Storage, url: str) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        names = [*self.columns, CHANGED] if self.changed else list(self.columns)
        fs, path = storage.filesystem(url)
        with fs.open_input_file(path) as stream, pq.ParquetFile(stream) as file:
            for batch in file.iter_batches():
                yield _in_utc(batch.rename_columns(names))


def source(
    connection: RedshiftConnection, declared: Redshift, columns: tuple[str, ...]
) -> Unloaded:
    """The relation that a contract asks for. Raises InputError for a column that no identifier names."""
    declared.called(columns)
    return Unloaded(declared, columns, connection)


def _listed(storage: Storage, folder: str) -> list[str]:
    """The files that UNLOAD says it has written, in the order of their rows."""
    fs, path = storage.filesystem(f"{folder}/manifest")
    with fs.open_input_file(path) as stream:
        return [entry["url"] for entry in json.loads(stream.read())["entries"]]


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"


def _in_utc(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with times that say their zone."""
    import pyarrow as pa

    def zoned(field: Any) -> Any:
        return (
            field.with_type(pa.timestamp("us", "UTC"))
            if pa.types.is_timestamp(field.type)
            else field
        )

    return batch.cast(pa.schema(map(zoned, batch.schema)))
