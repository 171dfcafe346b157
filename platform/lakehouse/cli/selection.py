"""Tables by the names that people give: a table, a layer or a domain.

Belongs here: reading a selection. Does not belong here: what is done with it; commands that only
look at tables select them without Dagster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spark_jobs.contract.model import Contract
from spark_jobs.errors import InputError

MARTS = "marts"
"""All marts, where tables are asked for by name."""


def ensure_exist(contracts: Mapping[str, Contract], names: Sequence[str]) -> None:
    """Refuses names that nothing has, before a command loads what it takes to run them."""
    select(contracts, [name for name in names if name != MARTS])


def select(contracts: Mapping[str, Contract], names: Sequence[str]) -> list[str]:
    """Tables by name (`silver.orders`), layer (`silver`) or domain (`crm`), upstream first."""
    chosen: set[str] = set()
    for name in names:
        found = {t for t, c in contracts.items() if name in (t, c.layer, c.domain)}
        if not found:
            raise InputError(
                f"there is no table, layer or domain {name}; tables: {', '.join(contracts)}"
            )
        chosen |= found
    return [t for t in contracts if t in chosen]
