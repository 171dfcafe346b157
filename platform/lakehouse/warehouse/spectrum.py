"""Lake tables as external tables of Redshift, which reads their files where they are.

Belongs here: what makes a Delta table readable there: a manifest of its files beside it, its entry in
the Glue catalogue, the external schema over that. Does not belong here: copying rows (load.py).

Redshift reads neither the Delta log nor the data files by themselves: files of older versions lie there
too. The manifest lists those of one version; in a partitioned table each partition has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from deltalake import DeltaTable

from lakehouse.settings.warehouse import RedshiftWarehouse
from lakehouse.warehouse.export import rows_of
from lakehouse.warehouse.login import connected, described
from spark_jobs.contract.model import Contract
from spark_jobs.lake import delta
from spark_jobs.lake.storage import Lake, describe

_MANIFEST = "_symlink_format_manifest"
_NULL = "__HIVE_DEFAULT_PARTITION__"
_AT_ONCE = 100  # partitions in one call, by Glue's limit


@dataclass(frozen=True)
class Published:
    """The version that is readable from now on."""

    version: int
    rows: int


@dataclass(frozen=True)
class Publisher:
    warehouse: RedshiftWarehouse
    lake: Lake

    def publish(self, contract: Contract) -> Published:
        """Makes the newest version of a table readable, as `layer.table` of the warehouse.

        Raises InputError if there is no table, and WarehouseError if Glue or the warehouse refuses.
        """
        uri = self.lake.table(contract.table)
        table = delta.open_plain(contract.table, uri, self.lake.storage)
        self._list_files(table, uri)
        database = f"{self.warehouse.glue_prefix}{contract.layer}"
        with described(f"the Glue database {database}"):
            self._register(contract, table, uri, database)
        with connected(self.warehouse) as connection:
            cursor = connection.cursor()
            connection.rollback()
            connection.autocommit = True  # external schemas are made outside of transactions
            cursor.execute(
                f"create external schema if not exists {contract.layer} from data catalog"
                f" database '{database}' iam_role '{self.warehouse.role}'"
            )
        return Published(table.version(), rows_of(table))

    def _list_files(self, table: DeltaTable, uri: str) -> None:
        """Writes the manifests, each in one go. delta-rs can too, but stops all of this process's
        threads until the store has answered."""
        by = tuple(table.metadata().partition_columns)
        listed: dict[str, list[str]] = {} if by else {f"{uri}/{_MANIFEST}": []}
        for file in delta.active_files(table):
            folder = _folder(uri, by, _values(file, by))
            listed.setdefault(folder, []).append(f"{uri}/{unquote(file.path)}")
        for folder, files in listed.items():
            fs, path = self.lake.storage.filesystem(f"{folder}/manifest")
            try:
                with fs.open_output_stream(path) as stream:
                    stream.write("\n".join(files).encode())
            except OSError as error:
                raise describe(error, folder) from error

    def _register(self, contract: Contract, table: DeltaTable, uri: str, database: str) -> None:
        import boto3

        glue = boto3.client("glue", region_name=self.warehouse.region)
        _unless_there(glue, glue.create_database, DatabaseInput={"Name": database})
        by = tuple(table.metadata().partition_columns)
        types = {c.name: c.type for c in contract.columns} | {"_arrival_date": "date"}
        entry = {
            "Name": contract.name,
            "Description": contract.description,
            "TableType": "EXTERNAL_TABLE",
            "Parameters": {
                "EXTERNAL": "TRUE",
                "delta.table_id": str(table.metadata().id),
                "delta.version": str(table.version()),
            },
            "PartitionKeys": [{"Name": c, "Type": types[c]} for c in by],
            "StorageDescriptor": {
                **_stored(f"{uri}/{_MANIFEST}"),
                "Columns": [
                    {"Name": c.name, "Type": c.type, "Comment": c.description[:255]}
                    for c in contract.columns
                    if c.name not in by
                ],
            },
        }
        where = {"DatabaseName": database}
        if not _unless_there(glue, glue.create_table, **where, TableInput=entry):
            glue.update_table(**where, TableInput=entry)
        if by:
            self._partitions(glue, {**where, "TableName": contract.name}, table, uri, by)

    def _partitions(
        self, glue: Any, where: Mapping[str, str], table: DeltaTable, uri: str, by: tuple[str, ...]
    ) -> None:
        """New ones first, then those that are no more: in between a query sees none too many."""
        wanted = {_values(f, by) for f in delta.active_files(table)}
        pages = glue.get_paginator("get_partitions").paginate(**where)
        known = {tuple(p["Values"]) for page in pages for p in page["Partitions"]}
        for values in _batches(sorted(wanted - known)):
            glue.batch_create_partition(
                **where,
                PartitionInputList=[
                    {"Values": list(v), "StorageDescriptor": _stored(_folder(uri, by, v))}
                    for v in values
                ],
            )
        for values in _batches(sorted(known - wanted)):
            glue.batch_delete_partition(
                **where, PartitionsToDelete=[{"Values": list(v)} for v in values]
            )


def published(warehouse: RedshiftWarehouse, table: str) -> str | None:
    """The version of a lake table that the warehouse reads; None if it reads none."""
    import boto3

    glue = boto3.client("glue", region_name=warehouse.region)
    layer, _, name = table.partition(".")
    database = f"{warehouse.glue_prefix}{layer}"
    with described(f"the Glue database {database}"):
        try:
            found = glue.get_table(DatabaseName=database, Name=name)["Table"]["Parameters"]
        except glue.exceptions.EntityNotFoundException:
            return None
    return f"{found.get('delta.table_id')}@{found.get('delta.version')}"


def _values(file: delta.ActiveFile, by: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(file.partition[c] or _NULL for c in by)


def _folder(uri: str, by: tuple[str, ...], values: tuple[str, ...]) -> str:
    parts = (f"{c}={quote(v, safe='')}" for c, v in zip(by, values, strict=True))
    return "/".join((uri, _MANIFEST, *parts))


def _stored(location: str) -> dict[str, Any]:
    return {
        "Location": location,
        "InputFormat": "org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat",
        "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
        "SerdeInfo": {
            "SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
        },
    }


def _batches(values: list[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    for i in range(0, len(values), _AT_ONCE):
        yield values[i : i + _AT_ONCE]


def _unless_there(glue: Any, create: Any, **arguments: Any) -> bool:
    """Whether it was created; False if it was there."""
    try:
        create(**arguments)
    except glue.exceptions.AlreadyExistsException:
        return False
    return True
