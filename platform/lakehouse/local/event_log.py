"""Dagster's SQLite storage with writes in batches, for the run history of the local instance.

Belongs here: how events reach SQLite. What is stored, and the schema, are Dagster's own: the
database stays readable by its stock `DagsterSqliteStorage`, and upgrades are its business.
Does not belong here: anything about assets.

Why: a run records some thousand partition events. The stock storage opens a connection, compiles
the statement, inspects the schema and syncs the disk for every one of them: 30 s, 26 s of it CPU,
for 28 tables, 14 days and 336 hours. Dagster sends batches only if the environment variable
`DAGSTER_EVENT_BATCH_SIZE` is set (instance.py does), and says once per asset which partitions a run
intends to materialize only to a storage that asks for that.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate, chain
from typing import Any

import dagster as dg
import sqlalchemy as db
from dagster import DagsterEventType, EventLogEntry
from dagster_shared.serdes import serialize_value
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import QueuePool

from lakehouse.dagster_private import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
    INDEX_SHARD_NAME,
    AssetCheckExecutionRecordStatus,
    AssetCheckExecutionsTable,
    DagsterSqliteStorage,
    SqlEventLogStorageTable,
    SqliteEventLogStorage,
)
from spark_jobs.permissions import keep_files_private

# What a step says one by one at its end. They are stored with what the step says next, at the latest
# that it succeeded or failed, or when anybody reads: one transaction instead of some 40.
_DEFERRED = {DagsterEventType.ASSET_CHECK_EVALUATION, DagsterEventType.STEP_OUTPUT}
_INDEXED = {*ASSET_EVENTS, *ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS}
_ANY_PARTITION = "a8d1a6f8-any-partition"
_BUSY_SECONDS = 30
"""How long another writer is waited for, as the stock storage does."""
OPEN_RUNS = 8
"""Run databases whose connection is kept; the index keeps its own for ever."""


class BatchingEventLog(SqliteEventLogStorage):
    """The event log: a kept connection per database, one transaction per database and batch."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._present: set[str] = set()
        self._batch: ExitStack | None = None
        self._in_batch: dict[str, Connection] = {}
        self._deferred: list[EventLogEntry] = []
        super().__init__(base_dir, inst_data)
        # A batch holds it while it stores each event. Dagster declares a lock, and uses it in `with`.
        self._db_lock = threading.RLock()  # type: ignore[assignment]

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> BatchingEventLog:
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            if shard in self._in_batch:
                yield self._in_batch[shard]
                return
            if self._batch is None and self._deferred:
                self.store_event_batch([])
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
            engine = db.create_engine(
                self.conn_string_for_shard(shard),
                poolclass=QueuePool,
                pool_size=1,
                connect_args={
                    "timeout": _BUSY_SECONDS,
                    "check_same_thread": False,  # _db_lock lets one thread in at a time
                },
            )
            db.event.listen(engine, "connect", _relax_sync)
        self._engines[shard] = engine
        idle = [name for name in self._engines if name not in {INDEX_SHARD_NAME, *self._in_batch}]
        for name in idle[:-OPEN_RUNS]:
            self._engines.pop(name).dispose()
        return engine

    @property
    def supports_partition_subset_in_asset_materialization_planned_events(self) -> bool:
        """A run's log has one intention per asset; the index has a row per partition (_planned),
        from which Dagster tells the partitions that failed or are in progress."""
        return True

    def store_event(self, event: EventLogEntry) -> None:
        if event.step_key is None or _kind(event) not in _DEFERRED:
            self.store_event_batch([event])
            return
        with self._db_lock:
            self._deferred.append(event)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Stores all events or, if one fails, none of them."""
        with self._db_lock:
            events, self._deferred = [*self._deferred, *events], []
            try:
                with ExitStack() as batch:
                    self._batch = batch
                    rows = [self._event_to_row(event) for event in events]
                    self._store_in_runs(rows)
                    self._store_in_index(events, rows)
                    self._batch = None
            finally:
                self._batch = None
                self._in_batch.clear()

    def _store_in_runs(self, rows: Sequence[dict[str, Any]]) -> None:
        by_run: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_run.setdefault(row["run_id"], []).append(row)
        for run_id, of_run in by_run.items():
            with self.run_connection(run_id) as connection:
                connection.execute(SqlEventLogStorageTable.insert(), of_run)

    def _store_in_index(
        self, events: Sequence[EventLogEntry], rows: Sequence[dict[str, Any]]
    ) -> None:
        """What is looked for across runs: events of assets and checks, and the status of runs."""
        found = [(e, row) for e, row in zip(events, rows, strict=True) if _kind(e) in _INDEXED]
        written = [_by_partition(event, row) for event, row in found]
        if not found:
            return
        with self.index_connection() as connection:
            every = list(chain.from_iterable(written))
            connection.execute(SqlEventLogStorageTable.insert(), every)
            # Nobody else writes in between, so that the ids follow each other.
            last: int = connection.execute(db.text("select last_insert_rowid()")).scalar_one()
            ends = accumulate(map(len, written), initial=last - len(every))
            ids = list(ends)[1:]
            self._store_asset_events(connection, [e for e, _ in found], ids)
            planned = []
            for (event, row), event_id in zip(found, ids, strict=True):
                if _kind(event) == DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
                    planned.append(_planned_check(event, row, event_id))
                elif _kind(event) in ASSET_CHECK_EVENTS:
                    self.store_asset_check_event(event, event_id)
            if planned:
                connection.execute(AssetCheckExecutionsTable.insert(), planned)

    def _store_asset_events(
        self, connection: Connection, events: Sequence[EventLogEntry], ids: Sequence[int]
    ) -> None:
        """An asset's own row holds its latest event of each kind, so that of a batch only the last
        one of each needs to get there."""
        of_assets = [(e, i) for e, i in zip(events, ids, strict=True) if _kind(e) in ASSET_EVENTS]
        if of_assets:
            self._store_asset_event_tags(connection, *zip(*of_assets, strict=True))
        latest = {(e.get_dagster_event().asset_key, _kind(e)): (e, i) for e, i in of_assets}
        for event, event_id in latest.values():
            self._store_asset_event(connection, event, event_id)

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
        with self._db_lock:
            if self._deferred:
                self.store_event_batch([])
        super().dispose()
        with self._db_lock:
            while self._engines:
                self._engines.popitem()[1].dispose()


SHARED_CONFIG = {
    "names": dg.Field([str], is_required=False),
    "pools": dg.Field({str: int}, is_required=False),
}
"""What either storage of this lake's history is told: see `opened_with` and `limit_pools`."""


class LocalStorage(DagsterSqliteStorage):
    """Runs, events and schedules below `base_dir`, laid out as the stock SQLite storage does."""

    def __init__(
        self,
        base_dir: str,
        inst_data: Any = None,
        names: Collection[str] = (),
        pools: Mapping[str, int] | None = None,
    ) -> None:
        opened_with(names)
        super().__init__(base_dir, inst_data)
        self._event_log_storage = BatchingEventLog(self._event_log_storage._base_dir)
        limit_pools(self._event_log_storage, pools or {})

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {"base_dir": dg.StringSource, **SHARED_CONFIG}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> LocalStorage:
        return cls(inst_data=inst_data, **config_value)


def opened_with(names: Collection[str]) -> None:
    """What comes with opening this lake's history. The daemon and whatever webserver is started open
    it, and never load the definitions. `names` are those under which a proxy serves the UI."""
    keep_files_private()
    # The daemon gives a backfill up for good that it looks at while a code location restarts.
    os.environ.setdefault("DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR", "1")
    if "dagster_webserver.app" in sys.modules:
        from lakehouse.local.webserver import guard_this_process

        guard_this_process(names)


def limit_pools(event_log: Any, limits: Mapping[str, int]) -> None:
    """Gives pools the limits of the settings, which `dagster.yaml` has one word for, for all of them."""
    known = {pool.name: pool.limit for pool in event_log.get_pool_limits()} if limits else {}
    for name, limit in limits.items():
        if known.get(name) != limit:
            event_log.set_concurrency_slots(name, limit)


def _kind(event: EventLogEntry) -> DagsterEventType | None:
    return event.dagster_event_type if event.is_dagster_event else None


def _by_partition(event: EventLogEntry, row: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of an event in the index: one, or one for each partition that a run intends to
    materialize, as Dagster writes them for a storage that knows no intention of many."""
    if _kind(event) != DagsterEventType.ASSET_MATERIALIZATION_PLANNED:
        return [row]
    dagster_event = event.get_dagster_event()
    planned = dagster_event.asset_materialization_planned_data
    if planned.partitions_subset is None:
        return [row]
    # Serialized once, with a key that is nowhere else in it.
    one = planned._replace(partition=_ANY_PARTITION, partitions_subset=None)
    whole = event._replace(dagster_event=dagster_event._replace(event_specific_data=one))
    before, after = serialize_value(whole).split(json.dumps(_ANY_PARTITION))
    return [
        row | {"partition": key, "event": f"{before}{json.dumps(key)}{after}"}
        for key in planned.partitions_subset.get_partition_keys()
    ]


def _planned_check(event: EventLogEntry, row: dict[str, Any], event_id: int) -> dict[str, Any]:
    """The row of an intended evaluation of a check: one per run.

    Dagster 1.13 writes one per partition of the run even for checks that have no partitions, and
    they stay planned for ever: a range of 336 hours left 14,000 of them.
    """
    planned = event.get_dagster_event().asset_check_planned_data
    return {
        "asset_key": planned.asset_key.to_string(),
        "check_name": planned.check_name,
        "partition": None,
        "run_id": row["run_id"],
        "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
        "evaluation_event": row["event"],
        "evaluation_event_timestamp": row["timestamp"],
        "evaluation_event_storage_id": event_id,
    }


def _relax_sync(connection: Any, _record: Any) -> None:
    """Syncs at checkpoints only: with a write-ahead log a power cut can lose the last events of
    the history, never damage it. The lake does not depend on it."""
    connection.execute("PRAGMA synchronous=NORMAL")
