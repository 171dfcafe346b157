"""Drift: columns that the contract does not know, and columns that it knows and a file lacks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from spark_jobs import quoting
from spark_jobs.contract import Contract
from spark_jobs.errors import SchemaError

SAMPLES = 3


def note(contract: Contract, drift: dict[str, Any], names: Iterable[str], where: str) -> None:
    """Adds what the columns of one file say. Raises SchemaError if a required one is missing."""
    present = set(names)
    missing = [c for c in contract.columns if c.name not in present]
    required = [c.name for c in missing if c.required]
    if required:
        raise SchemaError(
            f"{where}: required column(s) missing: {quoting.names(required)}. Found:"
            f" {quoting.names(sorted(present)) or 'none'}. Deliver them, or change the contract."
        )
    drift["missing"] = sorted({*drift["missing"], *(c.name for c in missing)})
    for name in present - contract.column.keys():
        drift["extra"].setdefault(name, [])
