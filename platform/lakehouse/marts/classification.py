"""Personal columns of the lake stay known as such in the marts, whatever SQL is between.

Belongs here: finding columns of models that read a personal one and are not declared so. Does not
belong here: lineage itself (lineage.py), and classes of the lake's columns (their contracts).

A column is personal by `config: {meta: {classification: pii}}`. One that is computed from a
personal column and tells nothing of a person says why, as `not_personal`, beside its class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lakehouse.marts.lineage import Lineage, column_lineage

PERSONAL = "pii"


def undeclared(manifest: Mapping[str, Any], project: Path) -> Iterator[str]:
    """What is wrong with the classes of the models' columns, with file and line. The manifest is
    one with compiled SQL. Each model is held against its parents, which are held against theirs."""
    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] != "model":
            continue
        lineage = column_lineage(manifest, unique_id, node["compiled_code"])
        if not set(node["columns"]) <= set(lineage):
            yield (
                f"{_place(node, project, None)}: {node['name']}: what its columns are made of cannot"
                " be read from its SQL; name the columns that it selects"
            )
            continue
        yield from _of_model(manifest, node, lineage, project)


def _of_model(
    manifest: Mapping[str, Any], node: Mapping[str, Any], lineage: Lineage, project: Path
) -> Iterator[str]:
    for column, parents in lineage.items():
        personal = [
            f"{_named(manifest, parent)}.{name}"
            for parent, name in parents
            if _meta(manifest["sources"].get(parent) or manifest["nodes"][parent], name)
            .get("classification") == PERSONAL
        ]  # fmt: skip
        meta = _meta(node, column)
        if personal and meta.get("classification") != PERSONAL and not meta.get("not_personal"):
            yield (
                f"{_place(node, project, column)}: {node['name']}.{column} reads the personal"
                f" {', '.join(personal)}: declare it with config: {{meta: {{classification: pii}}}},"
                " or say why it tells nothing of a person with not_personal"
            )


def _meta(node: Mapping[str, Any], column: str) -> Mapping[str, Any]:
    found = node["columns"].get(column)
    return found["config"]["meta"] if found else {}


def _named(manifest: Mapping[str, Any], unique_id: str) -> str:
    source = manifest["sources"].get(unique_id)
    if source:
        return f"{source['source_name']}.{source['name']}"
    return manifest["nodes"][unique_id]["name"]


def _place(node: Mapping[str, Any], project: Path, column: str | None) -> str:
    """File and line where a model or its column is described; the SQL file if it is nowhere."""
    relative = (node["patch_path"] or "").partition("://")[2] or node["original_file_path"]
    path = project / relative
    if path.suffix == ".sql":
        return str(path)
    document = yaml.compose(path.read_text(encoding="utf-8"))
    model = _item(_value(document, "models"), node["name"])
    found = _item(_value(model, "columns"), column) or model
    return f"{path}:{found.start_mark.line + 1}" if found else str(path)


def _value(mapping: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = mapping.value if isinstance(mapping, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def _item(sequence: yaml.Node | None, name: str | None) -> yaml.Node | None:
    items = sequence.value if isinstance(sequence, yaml.SequenceNode) else ()
    return next((i for i in items if (n := _value(i, "name")) and n.value == name), None)
