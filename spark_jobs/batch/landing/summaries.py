"""What the summary rows of text files add up to.

Belongs here: putting the parts of a file together. Does not belong here: taking the counts (text.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from spark_jobs import quoting
from spark_jobs.contract.model import Contract


@dataclass
class Delivered:
    """What was read of one partition: its records, why it cannot be trusted, and its drift."""

    records: int = 0
    error: str = ""
    extra: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)


def delivered(contract: Contract, rows: Iterable[Mapping[str, Any]]) -> dict[str, Delivered]:
    """By partition. A column is missing from a file if no part of it has it; a file that says
    nothing of a required column fails its partition."""
    found: dict[str, Delivered] = {}
    missing: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        of = found.setdefault(row["_partition"], Delivered())
        of.records += row["_records"]
        of.error = of.error or row["_file_error"] or ""
        if row["_drift"]:
            drift = json.loads(row["_drift"])
            of.extra.update(drift["extra"])
            where = (row["_partition"], drift["file"])
            lacks = missing.setdefault(where, set(drift["missing"]))
            lacks &= set(drift["missing"])
    required = {c.name for c in contract.columns if c.required}
    for (partition, file), lacks in missing.items():
        of = found[partition]
        of.missing |= lacks
        if lacks & required and not of.error:
            names = quoting.names(sorted(lacks & required))
            advice = "Deliver them, or change the contract."
            of.error = f"{file}: required column(s) missing: {names}. {advice}"
    return found
