"""Dagster's SQLite storage with writes in batches, for the run history of the local instance.

Belongs here: how events reach SQLite. What is stored, and the schema, are Dagster's own: the
database stays readable by its stock `DagsterSqliteStorage`, and upgrades are its business.
Does not belong here: anything about assets.

Why: a first run records some thousand partition events. The stock storage opens a connection,
compiles the statement, inspects the schema and syncs the disk for every one of them: 30 s, 26 s of
it CPU, for 27 tables, 14 days and 336 hours. Dagster sends batches only if the environment
variable `DAGSTER_EVENT_BATCH_SIZE` is set (instance.py does).
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import sqlalchemy as db
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sql import create_engine
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster_shared.record import replace
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import QueuePool

from spark_jobs.permissions import keep_files_private

OPEN_RUNS = 8
"""Run databases whose connection is kept; the index keeps its own for ever."""


class BatchingEventLog(SqliteEventLogStorage):
    """The event log: a kept connection per database, one transaction per database and batch."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._present: set[str] = set()
        self._batch: ExitStack | None = None
        self._in_batch: dict[str, Connection] = {}
        self._latest: dict[Any, tuple[EventLogEntry, int]] = {}
        super().__init__(base_dir, inst_data)
        self._db_lock = threading.RLock()  # a batch holds it while it stores each event

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> BatchingEventLog:
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            if shard in self._in_batch:
                yield self._in_batch[shard]
                return
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with ExitStack() as own:
                scope = self._batch or own
                connection = scope.enter_context(engine.connect())
                scope.enter_context(connection.begin())
                if self._batch:
                    self._in_batch[shard] = connection
                yield connection

    def _engine(self, shard: str) -> Engine:
        """The engine of one database; the least recently used run's is closed beyond OPEN_RUNS."""
        engine = self._engines.pop(shard, None)
        if engine is None:
            engine = create_engine(
                self.conn_string_for_shard(shard),
                poolclass=QueuePool,
                pool_size=1,
                connect_args={
                    "timeout": SQLITE_BUSY_TIMEOUT_SECONDS,
                    "check_same_thread": False,  # _db_lock lets one thread in at a time
                },
            )
            db.event.listen(engine, "connect", _relax_sync)
        self._engines[shard] = engine
        idle = [name for name in self._engines if name not in {INDEX_SHARD_NAME, *self._in_batch}]
        for name in idle[:-OPEN_RUNS]:
            self._engines.pop(name).dispose()
        return engine

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Stores all events or, if one fails, none of them."""
        with self._db_lock:
            try:
                with ExitStack() as batch:
                    self._batch = batch
                    for event in events:
                        self.store_event(event)
                    with self.index_transaction() as connection:
                        for event, event_id in self._latest.values():
                            super()._store_asset_event(connection, event, event_id)
                    self._batch = None
            finally:
                self._batch = None
                self._in_batch.clear()
                self._latest.clear()

    def _store_asset_event(self, conn: Connection, event: EventLogEntry, event_id: int) -> None:
        """An asset's own row holds its latest event of each kind, so that within a batch only the
        last one of each needs to get there."""
        if self._batch is None:
            super()._store_asset_event(conn, event, event_id)
        else:
            kind = (event.get_dagster_event().asset_key, event.dagster_event_type)
            self._latest[kind] = (event, event_id)

    def _store_asset_check_evaluation_planned(
        self, event: EventLogEntry, event_id: int | None
    ) -> None:
        """Plans one evaluation of a check per run.

        Dagster 1.13 plans one per partition of the run even for checks that have no partitions,
        and they stay planned for ever: a range of 336 hours left 14,000 of them.
        """
        dagster_event = event.get_dagster_event()
        planned = replace(dagster_event.event_specific_data, partitions_subset=None)
        whole = event._replace(dagster_event=dagster_event._replace(event_specific_data=planned))
        super()._store_asset_check_evaluation_planned(whole, event_id)

    def has_table(self, table_name: str) -> bool:
        return self._remembers(
            table_name, lambda: super(BatchingEventLog, self).has_table(table_name)
        )

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        stock = super()._has_asset_key_col_on_connection
        return self._remembers(column_name, lambda: stock(conn, column_name))

    def _remembers(self, name: str, look: Callable[[], bool]) -> bool:
        """Tables and columns come with migrations and never leave."""
        if name not in self._present and look():
            self._present.add(name)
        return name in self._present

    def dispose(self) -> None:
        super().dispose()
        with self._db_lock:
            while self._engines:
                self._engines.popitem()[1].dispose()


class LocalStorage(DagsterSqliteStorage):
    """Runs, events and schedules below `base_dir`, laid out as the stock SQLite storage does."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        keep_files_private()  # the daemon opens the history, and never loads the definitions
        if "dagster_webserver.app" in sys.modules:  # and so does whatever webserver is started
            from lakehouse.local.webserver import guard_this_process

            guard_this_process()
        super().__init__(base_dir, inst_data)
        self._event_log_storage = BatchingEventLog(self._event_log_storage._base_dir)

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> LocalStorage:
        return cls.from_local(inst_data=inst_data, **config_value)


def _relax_sync(connection: Any, _record: Any) -> None:
    """Syncs at checkpoints only: with a write-ahead log a power cut can lose the last events of
    the history, never damage it. The lake does not depend on it."""
    connection.execute("PRAGMA synchronous=NORMAL")
