"""A lake table as a table of Redshift: its columns, their types, where its rows lie.

Belongs here: DDL that follows from a contract, and the names of things in the warehouse. Does not
belong here: running it (load.py).

Types that Redshift lacks: an array is a SUPER, which holds it as it is; a text has the greatest length
that there is, 65,535 bytes, since a contract gives none.
"""

from __future__ import annotations

from collections.abc import Mapping

from spark_jobs.contract.model import Column, Contract

_TYPES: Mapping[str, str] = {
    "string": "varchar(65535)",
    "int": "integer",
    "bigint": "bigint",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamp",  # UTC, as everywhere in the lake
}


def type_of(physical: str) -> str:
    """The type of Redshift for a contract's physicalType."""
    if physical.startswith("decimal"):
        return physical
    return "super" if physical.startswith("array") else _TYPES[physical]


def columns(contract: Contract) -> list[tuple[str, str]]:
    """Names and types, in the order of the contract: COPY goes by position."""
    return [(c.name, type_of(c.type)) for c in contract.columns]


def relation(contract: Contract) -> str:
    return f'{contract.layer}."{contract.name}"'


def create_table(contract: Contract) -> str:
    """The statement that makes the table, if it is not there."""
    lines = ", ".join(_column(c) for c in contract.columns)
    return f"create table if not exists {relation(contract)} ({lines}){placement(contract)}"


def create_temporary(contract: Contract, name: str) -> str:
    """The same for rows on their way."""
    lines = ", ".join(_column(c) for c in contract.columns)
    return f"create temp table {name} ({lines})"


def placement(contract: Contract) -> str:
    """Where rows lie: by the contract's `warehouse` property, or else spread as Redshift sees fit, and
    sorted by the event date that lays out the lake's table, or by key."""
    chosen = contract.warehouse
    if chosen.distribution in ("auto", "all", "even"):
        spread = f" diststyle {chosen.distribution}"
    else:
        spread = f" diststyle key distkey ({chosen.distribution})"
    return f"{spread} compound sortkey ({', '.join(chosen.sort or sort_key(contract))})"


def sort_key(contract: Contract) -> tuple[str, ...]:
    by = contract.physical_partition
    return (by,) if by in contract.column else contract.key or (contract.columns[0].name,)


def _column(column: Column) -> str:
    required = " not null" if column.required else ""
    return f'"{column.name}" {type_of(column.type)}{required}'
