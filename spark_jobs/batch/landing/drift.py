"""Drift: columns that the contract does not know, and columns that it knows and a file lacks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from spark_jobs import quoting
from spark_jobs.contract.model import Contract
from spark_jobs.errors import SchemaError


def note(contract: Contract, drift: dict[str, Any], names: Iterable[str], where: str) -> None:
    """Adds what the columns of one file say. Raises SchemaError if a required one is missing."""
    present = set(names)
    missing = [c for c in contract.columns if c.name not in present]
    if len(missing) == len(contract.columns):
        # Without a header the names are the values of the first row: none of them is shown.
        raise SchemaError(
            f"{where}: none of its {len(present)} columns has a name of the contract. Deliver it"
            f" with a header that names {quoting.names(c.name for c in contract.columns)}."
        )
    required = [c.name for c in missing if c.required]
    if required:
        raise SchemaError(
            f"{where}: required column(s) missing: {quoting.names(required)}. Found:"
            f" {quoting.names(sorted(present)) or 'none'}. Deliver them, or change the contract."
        )
    drift["missing"] = sorted({*drift["missing"], *(c.name for c in missing)})
    for name in present - contract.column.keys():
        drift["extra"].setdefault(name, [])
