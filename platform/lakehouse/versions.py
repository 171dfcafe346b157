"""The code version of a table, known without importing its transform.

Belongs here: the data plane's `transform_version`, computed from files alone: importing every
transform means importing PySpark, and loading definitions must stay cheap. A test holds the two
together. Does not belong here: any other notion of a version.
"""

from __future__ import annotations

import hashlib
import importlib.util
import linecache
from pathlib import Path

from spark_jobs.contract import Contract
from spark_jobs.errors import ContractError


def transform_version(contract: Contract) -> str:
    """A hash of the contract and of the source of the table's transform.

    Raises ContractError for a table beyond bronze that has no transform.
    """
    digest = hashlib.sha256(Path(contract.path).read_bytes())
    source = _transform(contract)
    if source is not None:
        linecache.checkcache(source)
        digest.update("".join(linecache.getlines(source)).encode())
    elif contract.layer != "bronze":  # bronze is delivered as is
        raise ContractError(
            f"{contract.path}:1: {contract.table} has a contract but no transform. Write"
            f" spark_jobs/tables/{contract.layer}/{contract.name}.py with a function transform."
        )
    return digest.hexdigest()[:16]


def _transform(contract: Contract) -> str | None:
    try:
        found = importlib.util.find_spec(f"spark_jobs.tables.{contract.layer}.{contract.name}")
    except ModuleNotFoundError:  # a layer without any transform has no package
        return None
    return found.origin if found else None


def code_version(contract: Contract) -> str:
    """The contract's version for people, and the hash for everything that it does not tell."""
    return f"{contract.version}-{transform_version(contract)}"
