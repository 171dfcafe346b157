"""Whether a contract change breaks readers, compared with the version last published to the lake.

Belongs here: the promise a contract makes to readers, its record in the lake, and what counts as
breaking. The rule is semantic versioning of data: a removed or retyped column, or a new key, mode
or partitioning needs a new major version; a new column is compatible.
Does not belong here: whether a contract is valid (validity.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from spark_jobs.contract.model import Contract
from spark_jobs.errors import ContractError
from spark_jobs.lake import delta, making
from spark_jobs.lake.storage import Lake

SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("version", pa.string()),
        ("promise", pa.string()),
        ("published_at", pa.timestamp("us", "UTC")),
    ]
)


@dataclass(frozen=True)
class Change:
    """One difference between two versions of a contract, in words."""

    text: str
    breaking: bool


def promise(contract: Contract) -> dict[str, Any]:
    """What readers of the table rely on."""
    return {
        "version": contract.version,
        "columns": {
            c.name: {"type": c.type, "required": c.required, "classification": c.classification}
            for c in contract.columns
        },
        "key": list(contract.key),
        "mode": contract.publish.mode,
        "partitioning": contract.partitioning,
        "physical_partition": contract.physical_partition,
    }


def published(lake: Lake) -> dict[str, dict[str, Any]]:
    """The promise last published for each table."""
    found = delta.open_table(lake.ledger("contracts"), lake.storage)
    if found is None:
        return {}
    rows = delta.read(found, lake.storage).sort_by("published_at").to_pylist()
    return {row["table"]: json.loads(row["promise"]) for row in rows}


def record(lake: Lake, contract: Contract) -> None:
    """Records the promise of a contract whose table has just been published."""
    row = {
        "table": contract.table,
        "version": contract.version,
        "promise": json.dumps(promise(contract)),
        "published_at": datetime.now(UTC),
    }
    added = pa.Table.from_pylist([row], schema=SCHEMA)
    making.append(lake.ledger("contracts"), added, lake.storage)


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """The differences between two promises."""
    out = []
    before, after = old["columns"], new["columns"]
    for name in before.keys() - after.keys():
        out.append(Change(f"column {name} removed", True))
    for name, column in after.items():
        was = before.get(name)
        if was is None:
            out.append(Change(f"column {name} added", False))
            continue
        if was["type"] != column["type"]:
            out.append(Change(f"column {name}: type {was['type']} -> {column['type']}", True))
        if was["required"] != column["required"]:
            word = "required" if column["required"] else "optional"
            out.append(Change(f"column {name} becomes {word}", was["required"]))
        if was["classification"] != column["classification"]:
            text = f"{was['classification']} -> {column['classification']}"
            out.append(Change(f"column {name}: classification {text}", False))
    for what in ("key", "mode", "partitioning", "physical_partition"):
        if old[what] != new[what]:
            out.append(Change(f"{what}: {old[what]} -> {new[what]}", True))
    return sorted(out, key=lambda c: (not c.breaking, c.text))


def ensure_compatible(old: dict[str, Any] | None, contract: Contract) -> list[Change]:
    """The changes since the published version.

    Raises ContractError if any breaks readers and the major version is still the same.
    """
    if old is None:
        return []
    new = promise(contract)
    found = changes(old, new)
    breaking = [c.text for c in found if c.breaking]
    if breaking and _major(new) <= _major(old):
        raise ContractError(
            f"{contract.path}:1: breaking change without a new major version (published"
            f" {old['version']}, now {contract.version}): {'; '.join(breaking)}. Announce it to the"
            " readers, then set version to"
            f" {_major(old) + 1}.0.0 and rebuild the table by a backfill."
        )
    return found


def _major(version: dict[str, Any]) -> int:
    return int(version["version"].split(".")[0])
