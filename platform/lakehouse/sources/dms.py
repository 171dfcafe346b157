"""What DMS is told, so that it delivers what the contracts read.

Belongs here: table mappings, settings of the task and of its target, all from contracts. Does not belong
here: making them in an account, or reading what is delivered.

A row has its operation and its commit by the target's settings, and its place among all changes by a
rule of its table: so three columns are DMS's, and all others are the table's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spark_jobs import quoting
from spark_jobs.contract.model import Contract
from spark_jobs.contract.source import Dms
from spark_jobs.errors import InputError

OPERATION, PLACE, COMMIT = "Op", "change_seq", "commit_ts"
_PLACE_LENGTH = 35
# By default DMS writes the word NULL for what is none, which would be the place of a full load's rows.
_CSV = {"AddColumnName": True, "CsvNullValue": ""}


def files(contracts: Mapping[str, Contract]) -> dict[str, dict[str, Any]]:
    """The content of each file by its name. Raises InputError if there is nothing to replicate, or if a
    contract lacks a column that DMS writes, or two want the same table."""
    readers = {name: c for name, c in contracts.items() if c.source and c.source.kind == "dms"}
    if not readers:
        raise InputError("no contract has a source of kind dms: there is nothing to replicate")
    tables: dict[str, Dms] = {}
    for name, contract in sorted(readers.items()):
        declared = contract.delivered
        assert isinstance(declared, Dms)
        missing = [c for c in (OPERATION, PLACE, COMMIT) if c not in contract.column]
        if missing:
            raise InputError(f"{name}: lacks {quoting.names(missing)}, which DMS writes: add it")
        if tables.setdefault(declared.table, declared).dataset != declared.dataset:
            raise InputError(
                f"{name}: {declared.table} is delivered as {tables[declared.table].dataset} already:"
                " DMS writes a table once. Let both contracts read one dataset."
            )
    kinds = {declared.format for declared in tables.values()}
    if kinds - {"parquet", "csv"} or len(kinds) > 1:
        raise InputError(
            f"sources of kind dms have formats {quoting.names(sorted(kinds))}: DMS writes one,"
            " parquet or csv, to a target"
        )
    return {
        "table-mappings.json": {"rules": _numbered(tables)},
        "task-settings.json": _task(),
        "target-settings.json": _target(kinds.pop()),
    }


def _numbered(tables: Mapping[str, Dms]) -> list[dict[str, Any]]:
    rules = (rule for declared in tables.values() for rule in _rules(declared))
    return [{"rule-id": str(n), **rule} for n, rule in enumerate(rules, 1)]


def _rules(declared: Dms) -> Iterator[dict[str, Any]]:
    schema, _, table = declared.table.partition(".")
    locator = {"schema-name": schema, "table-name": table}
    common = {"object-locator": locator, "rule-type": "transformation"}
    yield {
        "rule-type": "selection",
        "rule-name": f"{declared.dataset}-selection",
        "object-locator": locator,
        "rule-action": "include",
        "filters": [],
    }
    yield {
        **common,
        "rule-name": f"{declared.dataset}-place",
        "rule-target": "column",
        "rule-action": "add-column",
        "value": PLACE,
        "expression": "$AR_H_CHANGE_SEQ",
        "data-type": {"type": "string", "length": _PLACE_LENGTH},
    }
    if declared.dataset != table:
        yield {
            **common,
            "rule-name": f"{declared.dataset}-name",
            "rule-target": "table",
            "rule-action": "rename",
            "value": declared.dataset,
        }


def _task() -> dict[str, Any]:
    """An error in the data suspends its table; large values come whole."""
    return {
        "TargetMetadata": {"SupportLobs": True, "FullLobMode": True, "LobChunkSize": 64},
        "FullLoadSettings": {"TargetTablePrepMode": "DO_NOTHING", "MaxFullLoadSubTasks": 8},
        "Logging": {"EnableLogging": True},
        "ChangeProcessingTuning": {
            "BatchApplyPreserveTransaction": True,
            "MinTransactionSize": 1000,
        },
        "ErrorBehavior": {
            "DataErrorPolicy": "SUSPEND_TABLE",
            "DataTruncationErrorPolicy": "SUSPEND_TABLE",
            "TableErrorPolicy": "STOP_TASK",
            "RecoverableErrorCount": -1,
            "ApplyErrorDeletePolicy": "SUSPEND_TABLE",
            "ApplyErrorInsertPolicy": "SUSPEND_TABLE",
            "ApplyErrorUpdatePolicy": "SUSPEND_TABLE",
        },
    }


def _target(format_: str) -> dict[str, Any]:
    """The settings of the S3 endpoint, but for its bucket, folder and role."""
    return {
        "DataFormat": format_,
        "IncludeOpForFullLoad": True,
        "TimestampColumnName": COMMIT,
        # A row of a full load stands before every change that is captured from the task's start on. By
        # when it was written it would win over one that was committed after it had been read.
        "UseTaskStartTimeForFullLoadTimestamp": True,
        "DatePartitionEnabled": True,
        "DatePartitionSequence": "YYYYMMDD",
        "DatePartitionDelimiter": "DASH",
        "EncryptionMode": "sse-s3",
        **(_CSV if format_ == "csv" else {"ParquetVersion": "parquet-2-0"}),
    }
