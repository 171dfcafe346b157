"""The columns of tables and of staged files, and the outcomes that a staged row can have.

Belongs here: names and types of what the platform adds to a contract's columns, and which of all
these a staged file has. Does not belong here: computing them (audit.py), or any row.

A staged batch is a folder inside the table's own: `batch=<id>/outcome=<outcome>/...`. Its files
are data files that no commit references yet. Publishing commits the very files that were
audited; nothing is written a second time. Files of a batch that is never published are ordinary
uncommitted files, which a vacuum removes.
"""

from __future__ import annotations

from collections.abc import Collection

from spark_jobs.batch.resolution import ASIDE
from spark_jobs.contract.model import Contract

PUBLISHED = ("insert", "update", "delete")
OUTCOMES = (*PUBLISHED, "unchanged", *ASIDE, "duplicate", "quarantine", "filtered", "file")
# Beside these there is, while staging, `contested`: valid rows whose key occurs more than once in
# the batch. They are written, ranked, and written again with the outcome they really have. `left`
# and `revived` are rows of the table, not of the batch: what goes without an heir, and its heirs.
LEAVING = ("left", "revived")

# Columns that the platform adds to every table, after the contract's own.
BRONZE_COLUMNS = (
    ("_rescued", "string"),
    ("_source_system", "string"),
    ("_source_file", "string"),
    ("_run_ts", "timestamp"),
)
COMMON_COLUMNS = (
    ("_warnings", "array<string>"),
    ("_row_hash", "bigint"),
    ("_origin", "bigint"),
    ("_batch_id", "string"),
    ("_partition", "string"),
    ("_arrival_date", "date"),
)
# Columns of staged files that the table does not have: they say why a row left.
STAGED_ONLY = (
    "_if_won",
    "_displaces",
    "_origin",
    "_whole",
    "_violations",
    "_record",
    "_computed",
    "_record_file",
    "_rows",
    "_records",
    "_file_error",
    "_drift",
)


def technical_columns(contract: Contract) -> tuple[tuple[str, str], ...]:
    """Names and types of the platform's columns in this table."""
    columns = (*BRONZE_COLUMNS, *COMMON_COLUMNS) if contract.layer == "bronze" else COMMON_COLUMNS
    drop = set() if contract.keyed else {"_row_hash"}
    if not (contract.keyed and contract.inputs):
        drop.add("_origin")
    if contract.layer == "bronze":
        drop.add("_warnings")
    if contract.partitioning is None:
        drop |= {"_partition", "_arrival_date"}
    return tuple(c for c in columns if c[0] not in drop)


def table_columns(contract: Contract) -> list[tuple[str, str]]:
    """Names and types of all columns of the table, in order."""
    return [(c.name, c.type) for c in contract.columns] + list(technical_columns(contract))


def physical(contract: Contract) -> tuple[str, ...]:
    """The columns by which the table's files are laid out: none or one date."""
    column = contract.physical_partition
    return () if column == "none" else (column,)


def staged_columns(contract: Contract, made: Collection[str], *, compared: bool) -> list[str]:
    """The columns of staged rows, of which the transform has `made` some: those of the table, and
    those that say why a row left. Rows that were not `compared` with a table, since it has none,
    all have the same in two of them; to write those would be a seventh of the work."""
    has = {*made, "_warnings", "_violations", "_record", "_record_file", "outcome"}
    if contract.lookups:
        has.add("_computed")
    if contract.keyed:
        has |= {"_row_hash"} | ({"_if_won", "_displaces"} if compared else set())
    wanted = [n for n, _ in table_columns(contract)] + [*STAGED_ONLY, "outcome"]
    return [n for n in dict.fromkeys(wanted) if n in has]
