"""A contract as a document: YAML that meets the standard, and the line on which each part stands.

Belongs here: reading the text, the standard's own demands, and errors with file and line. Does not
belong here: what the parts mean (reader.py, model.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spark_jobs.contract import standard, validity
from spark_jobs.contract.model import Contract
from spark_jobs.contract.validity import Where
from spark_jobs.errors import ContractError


@dataclass(frozen=True)
class Document:
    """A parsed contract; `fail` makes an error that names the line of a place in it."""

    path: Path
    data: dict[str, Any]
    fail: Callable[[Where, str], ContractError]


def read_document(path: str | Path) -> Document:
    """Reads one contract file as the standard has it.

    Raises ContractError with `file:line: what is wrong` if the file is missing, is not YAML, or does
    not follow the standard.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ContractError(
            f"{path}: contract not found; every table needs one: create the file"
        ) from None
    except OSError as error:
        raise ContractError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ContractError(f"{path}:1: not UTF-8 text ({error.reason})") from None
    try:
        tree = yaml.compose(text, Loader=yaml.CSafeLoader)
        repeated = _repeated_key(tree)
        data = yaml.load(text, Loader=yaml.CSafeLoader)
    except RecursionError:
        raise ContractError(f"{path}:1: not valid YAML: an alias stands within itself") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = min(mark.line, len(text.splitlines()) - 1) + 1 if mark else 1
        problem = getattr(error, "problem", error)
        raise ContractError(f"{path}:{line}: not valid YAML: {problem}") from None

    def fail(where: Where, what: str) -> ContractError:
        return ContractError(f"{path}:{_line(tree, where)}: {what}")

    if repeated is not None:
        line = repeated.start_mark.line + 1
        raise ContractError(f"{path}:{line}: key {repeated.value} is there twice")
    if not isinstance(data, dict):
        raise fail((), "a contract is a mapping that begins with apiVersion and kind")
    supply_logical_types(data)
    unmet = standard.first_unmet(data)
    if unmet is not None:
        # The standard's validator names an unknown key in its message only.
        unknown = re.search(r"'([^']+)' w(?:as|ere) unexpected", unmet.message)
        where = (*unmet.absolute_path, *(unknown.groups() if unknown else ()))
        raise fail(where, unmet.message.splitlines()[0][:300])
    return Document(path, data, fail)


def supply_logical_types(data: dict[str, Any]) -> None:
    """Gives each column that says none the logical type that follows from its physical one. The
    standard has it optional, and yet the schema of its version 3.2 takes a column without for a map.
    """
    tables = data.get("schema")
    for table in tables if isinstance(tables, list) else ():
        columns = table.get("properties") if isinstance(table, dict) else None
        for column in columns if isinstance(columns, list) else ():
            if isinstance(column, dict):
                physical = str(column.get("physicalType"))
                column.setdefault("logicalType", validity.logical_type(physical))


def _line(node: yaml.Node | None, path: Where) -> int:
    """The 1-based line of `path` in the YAML tree, or of its nearest parent that exists. A name
    stands for the list item that has it as its `name` or `property`."""
    line = node.start_mark.line + 1 if node else 1
    for step in path:
        child = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == step:
                    child, line = value, key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode):
            if isinstance(step, int):
                child = node.value[step] if step < len(node.value) else None
            else:
                child = next((item for item in node.value if step in _names(item)), None)
            line = child.start_mark.line + 1 if child else line
        if child is None:
            break
        node = child
    return line


def _names(item: yaml.Node) -> set[str]:
    if not isinstance(item, yaml.MappingNode):
        return set()
    return {v.value for k, v in item.value if k.value in ("name", "property")}


def _repeated_key(node: yaml.Node | None) -> yaml.Node | None:
    """A key that a mapping in the tree holds twice: YAML would let the last one win in silence."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                return key
            seen.add(key.value)
            if (found := _repeated_key(value)) is not None:
                return found
    elif isinstance(node, yaml.SequenceNode):
        return next((k for k in map(_repeated_key, node.value) if k is not None), None)
    return None


def place(c: Contract, where: Where) -> str:
    """`file:line` of a place in a contract that was read before."""
    tree = yaml.compose(Path(c.path).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return f"{c.path}:{_line(tree, where)}"
