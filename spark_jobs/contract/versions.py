"""The version of a table's code: whatever decides what its rows become.

Belongs here: finding that code and hashing it. Nothing is imported for it: a transform imports
PySpark, and neither definitions nor a run with nothing to do need that. Does not belong here: a
contract's own version, which is for people.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from spark_jobs.contract.model import LAYERS, Contract
from spark_jobs.errors import ContractError

# What transforms share. A change anywhere else in the data plane changes how rows are handled, not
# what they become.
_SHARED = ("spark_jobs.columns", "spark_jobs.tables.")
_PACKAGES = tuple(f"spark_jobs.tables.{layer}" for layer in LAYERS)
# CPython counts the depth of a syntax tree for the whole process: two threads that parse at once may
# fail (python/cpython#106905).
_parsing = threading.Lock()


def transform_version(contract: Contract) -> str:
    """A hash of the contract, of the table's transform and of the modules that transforms share and
    this one imports. A change of any makes the table's partitions stale.

    Raises ContractError for a table beyond bronze that has no transform.
    """
    digest = hashlib.sha256(Path(contract.path).read_bytes())
    module = f"spark_jobs.tables.{contract.layer}.{contract.name}"
    found = _sources(module, {})
    if module not in found and contract.layer != "bronze":  # bronze is delivered as is
        raise ContractError(
            f"{contract.path}:1: {contract.table} has a contract but no transform. Write"
            f" spark_jobs/tables/{contract.layer}/{contract.name}.py with a function transform."
        )
    for name in sorted(found):
        digest.update(found[name])
    return digest.hexdigest()[:16]


def _sources(module: str, seen: dict[str, bytes]) -> dict[str, bytes]:
    """The source of a module and of the shared ones that it imports, by name."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # a layer without any transform has no package
        return seen
    if module in seen or spec is None or spec.origin is None:
        return seen
    seen[module] = Path(spec.origin).read_bytes()
    try:
        with _parsing:
            names = _imported(seen[module])
    except SyntaxError as error:
        raise ContractError(f"{spec.origin}:{error.lineno}: not Python: {error.msg}") from None
    for name in names:
        if name.startswith(_SHARED):
            _sources(name, seen)
    return seen


@cache
def _imported(source: bytes) -> tuple[str, ...]:
    """The modules that a module imports, by its source: many share a few."""
    return tuple(_imports(ast.parse(source)))


def _imports(tree: ast.AST) -> Iterator[str]:
    """The modules that are imported. What is imported from a package may be one; what is imported
    from a module is looked at no further, since looking would import that."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module in ("spark_jobs", *_PACKAGES):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
