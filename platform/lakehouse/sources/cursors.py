"""How far each dataset has been extracted: positions, and the version that tells two writers apart.

Belongs here: keeping them, in a file or in DynamoDB. Does not belong here: what a position means, which
is its source's affair: the end of a window, or a sequence number per shard.

Positions advance only after what they cover has landed. They can be lost without losing rows: manifests
say how far their files reach.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from spark_jobs.errors import ConflictError

if TYPE_CHECKING:
    from lakehouse.settings.model import Settings


@dataclass(frozen=True)
class Cursor:
    """The positions of a dataset; `version` 0 if there are none yet."""

    dataset: str
    positions: Mapping[str, str] = field(default_factory=dict)
    version: int = 0


class Cursors(Protocol):
    """A store of positions."""

    def read(self, dataset: str) -> Cursor: ...

    def advance(self, cursor: Cursor, positions: Mapping[str, str]) -> Cursor:
        """Takes the place of a cursor that was read before. Raises ConflictError if somebody else has
        advanced it since. The same positions claim it: whoever has read it before can no longer."""
        ...


def cursors_of(settings: Settings) -> Cursors:
    """The store of an environment."""
    kept = settings.sources.cursors
    if kept.store == "sqlite":
        return SqliteStore(settings.home / kept.path)
    return DynamoStore(kept.table, kept.region)


def ensure_current(cursors: Cursors, cursor: Cursor) -> None:
    """Raises ConflictError if somebody else has advanced a cursor since it was read."""
    if cursors.read(cursor.dataset).version != cursor.version:
        raise _conflict(cursor)


def _conflict(cursor: Cursor) -> ConflictError:
    return ConflictError(
        f"{cursor.dataset}: something else extracts it at the same time, and has begun later. Nothing"
        " of this extraction counts; let the other one finish, then extract again."
    )


@dataclass(frozen=True)
class SqliteStore:
    """A file of one machine."""

    path: Path

    def read(self, dataset: str) -> Cursor:
        with self._open() as connection:
            row = connection.execute(
                "select positions, version from cursors where dataset = ?", (dataset,)
            ).fetchone()
        return Cursor(dataset, json.loads(row[0]), row[1]) if row else Cursor(dataset)

    def advance(self, cursor: Cursor, positions: Mapping[str, str]) -> Cursor:
        after = Cursor(cursor.dataset, dict(positions), cursor.version + 1)
        values = (json.dumps(after.positions, sort_keys=True), after.version, _now())
        with self._open() as connection:
            if cursor.version == 0:
                done = connection.execute(
                    "insert into cursors (positions, version, at, dataset) values (?, ?, ?, ?)"
                    " on conflict do nothing",
                    (*values, cursor.dataset),
                )
            else:
                done = connection.execute(
                    "update cursors set positions = ?, version = ?, at = ?"
                    " where dataset = ? and version = ?",
                    (*values, cursor.dataset, cursor.version),
                )
            if done.rowcount != 1:
                raise _conflict(cursor)
        return after

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
            connection.execute(
                "create table if not exists cursors (dataset text primary key, positions text not null,"
                " version integer not null, at text not null)"
            )
            yield connection


@dataclass(frozen=True)
class DynamoStore:
    """A table of DynamoDB, by writes that name the version they take the place of."""

    table: str
    region: str

    def read(self, dataset: str) -> Cursor:
        item = self._item(dataset)
        if item is None:
            return Cursor(dataset)
        return Cursor(dataset, dict(item["positions"]), int(item["version"]))

    def advance(self, cursor: Cursor, positions: Mapping[str, str]) -> Cursor:
        from botocore.exceptions import ClientError

        after = Cursor(cursor.dataset, dict(positions), cursor.version + 1)
        item = {
            "dataset": after.dataset,
            "positions": after.positions,
            "version": after.version,
            "at": _now(),
            "write": uuid.uuid4().hex,  # two claims of the same positions differ in nothing else
        }
        condition: dict[str, Any] = (
            {"ConditionExpression": "attribute_not_exists(dataset)"}
            if cursor.version == 0
            else {
                "ConditionExpression": "version = :version",
                "ExpressionAttributeValues": {":version": cursor.version},
            }
        )
        try:
            self._table.put_item(Item=item, **condition)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            # The reply to a write that was done may have been lost, and the client has tried again.
            if (self._item(cursor.dataset) or {}).get("write") != item["write"]:
                raise _conflict(cursor) from None
        return after

    def _item(self, dataset: str) -> Mapping[str, Any] | None:
        found = self._table.get_item(Key={"dataset": dataset}, ConsistentRead=True).get("Item")
        return cast("Mapping[str, Any] | None", found)

    @cached_property
    def _table(self) -> Any:
        import boto3

        return boto3.resource("dynamodb", region_name=self.region).Table(self.table)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
