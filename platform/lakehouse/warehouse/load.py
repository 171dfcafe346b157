"""Loading one lake table into Redshift: what changed since the last load, in one transaction.

Belongs here: the order of the steps, and what a failure of each leaves. Does not belong here: finding
what changed (export.py), DDL (layout.py), totals (totals.py), Dagster (marts/loads.py).

1. export: rows that differ between the version that was loaded and the newest, as Parquet
2. copy: into temporary tables, which nobody else sees
3. swap, in one transaction: old rows are deleted, new ones inserted, the totals of the whole table
   compared with those of the lake's version, the load recorded
4. ledger: the record is copied into the lake

Whatever fails before the commit of 3 leaves the data and the record of the load before, and the next
load begins from there. Rows are replaced within the table: its grants, and views that are bound to it,
stay. Only where the contract has other columns now, the swap makes the table anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import tenacity

from lakehouse.settings.warehouse import RedshiftWarehouse
from lakehouse.warehouse import layout, login, record, totals
from lakehouse.warehouse.export import Exported, Exporter, rows_of, version_of
from lakehouse.warehouse.login import WarehouseError
from lakehouse.warehouse.record import LoadRecord
from lakehouse.warehouse.totals import Totals
from spark_jobs.contract.model import Contract
from spark_jobs.lake import delta
from spark_jobs.lake.storage import Lake

_ATTEMPTS = 5
_CAME, _GONE = "lakehouse_came", "lakehouse_gone"


class ReconciliationError(WarehouseError):
    """What the warehouse would hold after a load is not what the lake's version holds."""

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=True)


@dataclass(frozen=True)
class Loaded:
    """What became of a load; `repaired` says why a table was replaced as a whole that had been loaded
    before."""

    record: LoadRecord
    unchanged: bool = False
    repaired: str = ""


@dataclass(frozen=True)
class Loader:
    """Loads tables of a lake into a warehouse; files travel through the zone of checkpoints."""

    warehouse: RedshiftWarehouse
    lake: Lake

    def load(self, contract: Contract, run_id: str, *, whole: bool = False) -> Loaded:
        """Brings the warehouse's table to the newest version of the lake's; `whole` replaces it.

        Transactions that got into each other's way are repeated. Raises InputError if there is no
        table, WarehouseError if the warehouse fails, ReconciliationError if rows do not add up.
        """
        for attempt in _attempts():
            with attempt:
                try:
                    return self._load(contract, run_id, whole=whole)
                except ReconciliationError as error:
                    if whole:
                        raise
                    # Somebody has changed the table by hand: what the lake has, goes.
                    done = self._load(contract, run_id, whole=True)
                    return replace(done, repaired=str(error))
        raise AssertionError("tenacity raises what the last attempt raised")

    def _load(self, contract: Contract, run_id: str, *, whole: bool) -> Loaded:
        uri = self.lake.table(contract.table)
        table = delta.open_plain(contract.table, uri, self.lake.storage)
        wanted = ", ".join(f"{name} {type_}" for name, type_ in layout.columns(contract))
        with login.connected(self.warehouse) as connection:
            cursor = connection.cursor()
            for statement in (*record.DDL, f"create schema if not exists {contract.layer}"):
                cursor.execute(statement)
            cursor.execute(layout.create_table(contract))
            connection.commit()
            before = record.newest(cursor, contract.table)
            if before:
                record.keep(before, self.lake.zones["ledger"], self.lake.storage)
                whole = whole or before.layout != wanted
            if before and before.of == version_of(table) and not whole:
                return Loaded(before, unchanged=True)
            load_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}"
            with self._staged(contract, load_id) as folder:
                exporter = Exporter(contract, self.lake.storage, folder)
                exported = exporter.export(table, None if whole or not before else before.of)
                if exported.whole and exported.came.rows != rows_of(table):
                    raise ReconciliationError(
                        f"{contract.table}: version {exported.version.number} has"
                        f" {rows_of(table)} rows by its log, and {exported.came.rows} in its files"
                    )
                self._copy(cursor, contract, exported)
                connection.commit()
                done = self._swap(cursor, contract, exported, before, (load_id, run_id, wanted))
                connection.commit()
        record.keep(done, self.lake.zones["ledger"], self.lake.storage)
        return Loaded(done)

    @contextmanager
    def _staged(self, contract: Contract, load_id: str) -> Iterator[str]:
        """A folder for the files of one load, which goes with it, and what older ones left."""
        root = f"{self.lake.zones['checkpoints']}/warehouse/{contract.layer}/{contract.name}"
        storage = self.lake.storage
        for name in storage.folders(root):
            if name < load_id:
                storage.remove(f"{root}/{name}")
        try:
            yield f"{root}/{load_id}"
        finally:
            storage.remove(f"{root}/{load_id}")

    def _copy(self, cursor: Any, contract: Contract, exported: Exported) -> None:
        """Loads the files into temporary tables. What arrived there is added up with the table that it
        becomes a part of, before anybody sees it."""
        nested = any(c.type.startswith("array") for c in contract.columns)
        for name, manifest in ((_CAME, exported.came_manifest), (_GONE, exported.gone_manifest)):
            cursor.execute(layout.create_temporary(contract, name))
            if manifest:
                cursor.execute(
                    f"copy {name} from '{manifest}' iam_role '{self.warehouse.role}'"
                    f" format as parquet manifest{' serializetojson' if nested else ''}"
                )

    def _swap(
        self,
        cursor: Any,
        contract: Contract,
        exported: Exported,
        before: LoadRecord | None,
        names: tuple[str, str, str],
    ) -> LoadRecord:
        load_id, run_id, wanted = names
        target = layout.relation(contract)
        cursor.execute(
            f"lock {record.TABLE}"
        )  # one swap at a time, and first: it sees the last one
        now = record.newest(cursor, contract.table)
        if (now and now.load_id) != (before and before.load_id):
            raise WarehouseError(
                f"{contract.table}: another run has loaded it meanwhile",
                permanent=False,
                conflict=True,
            )
        if exported.whole:
            if before and before.layout != wanted:
                cursor.execute(f"drop table {target}")
                cursor.execute(layout.create_table(contract))
            cursor.execute(f"delete from {target}")
            expected = exported.came
        else:
            same = " and ".join(f'{target}."{k}" = {_GONE}."{k}"' for k in contract.key)
            cursor.execute(f"delete from {target} using {_GONE} where {same}")
            base = before.sums if before else Totals()
            expected = base.plus(exported.came).minus(exported.gone)
        names_ = ", ".join(f'"{c.name}"' for c in contract.columns)
        cursor.execute(f"insert into {target} ({names_}) select {names_} from {_CAME}")
        self._ensure_equal(cursor, contract, exported, expected)
        done = LoadRecord(
            source=contract.table,
            load_id=load_id,
            run_id=run_id,
            table_id=exported.version.table_id,
            version=exported.version.number,
            loaded_at=datetime.now(UTC).replace(tzinfo=None),
            whole=exported.whole,
            came=exported.came.rows,
            gone=exported.gone.rows,
            row_count=expected.rows,
            layout=wanted,
            totals=expected.to_json(),
        )
        record.insert(cursor, done)
        return done

    def _ensure_equal(
        self, cursor: Any, contract: Contract, exported: Exported, expected: Totals
    ) -> None:
        """Raises ReconciliationError unless the table adds up to what it should; it says whether COPY
        has lost rows, which nobody asks as long as all are there."""
        if not (
            differences := self._differences(cursor, contract, layout.relation(contract), expected)
        ):
            return
        what = f"the table would differ from version {exported.version.number} of the lake's"
        for name, sent in ((_CAME, exported.came), (_GONE, exported.gone)):
            if lost := self._differences(cursor, contract, name, sent):
                what, differences = "COPY brought other rows than were sent", lost
        raise ReconciliationError(
            f"{contract.table}: {what}: {'; '.join(differences)}. Nothing was changed."
        )

    def _differences(
        self, cursor: Any, contract: Contract, relation: str, expected: Totals
    ) -> list[str]:
        cursor.execute(totals.query(contract, relation, "redshift"))
        return expected.differences(Totals.of(contract, cursor.fetchone()))


def _attempts() -> tenacity.Retrying:
    """Again at once where two transactions met; all else is for the step's own retries."""
    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=5),
        retry=tenacity.retry_if_exception(lambda e: isinstance(e, WarehouseError) and e.conflict),
        reraise=True,
    )
