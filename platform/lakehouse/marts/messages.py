"""Errors of the warehouse without the values that they quote.

Belongs here: which of a database's messages may be repeated in logs, results and events. Does not
belong here: what becomes of a build that fails.
"""

from __future__ import annotations

import re

from lakehouse.warehouse.login import WITHHELD

# Of DuckDB and dbt: about SQL, names and files, never about what is in a row. A Database Error is of
# Redshift, and has been relieved of values where dbt learned of it (command.py).
_ABOUT_NO_ROW = {
    *("Binder", "Database", "Catalog", "Parser", "IO", "Permission", "Not Implemented"),
    *("Compilation", "Runtime", "Parsing", "Out of Memory"),
}
_KIND = re.compile(r"\b([A-Z]\w*(?: [A-Za-z]\w*)*?) Error\b")


# A file that was open elsewhere; a connection that was lost, transactions that met.
_PASSING = re.compile(
    r"IO Error|Serializable isolation|concurrent transaction|BrokenPipe|communication error"
    r"|connection time out|server socket closed"
)


def may_pass(message: str) -> bool:
    """Whether a build that failed so may succeed the next time."""
    return bool(_PASSING.search(message))


def without_values(message: str) -> str:
    """A message as it is if all the errors in it are of kinds that know no rows; else their kinds."""
    kinds = list(dict.fromkeys(_KIND.findall(message)))
    if kinds and set(kinds) <= _ABOUT_NO_ROW:
        return message
    strange = [f"{k} Error" for k in kinds if k not in _ABOUT_NO_ROW and len(k) < 40]
    return f"{', '.join(strange[:1]) or 'an error'}: {WITHHELD}"
