"""Finds what a contract says although it is so anyway: a default, or what stands in it elsewhere.

Belongs here: what follows by itself. Does not belong here: whether a contract is valid; one that
repeats itself means the same, and is loaded and run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from spark_jobs.contract.document import place
from spark_jobs.contract.model import LAYER_GATES, Contract, Input, Publish, Warehouse
from spark_jobs.contract.personal import looks_personal
from spark_jobs.contract.rules import RULES
from spark_jobs.contract.source import kind_of
from spark_jobs.contract.validity import Where, logical_type

Found = Iterator[tuple[Where, str]]
_DEFAULTS = {f.name: f.default for f in fields(Contract)}


def repetitions(contract: Contract) -> list[str]:
    """Every value of a contract's file that could be left out, as `file:line: what to do`."""
    data = yaml.load(Path(contract.path).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return [f"{place(contract, where)}: {what}" for where, what in _all(contract, data)]


def _all(contract: Contract, data: Mapping[str, Any]) -> Found:
    if data.get("name") == contract.name:
        yield ("name",), "name is that of the id: leave it out"
    custom = {p["property"]: p.get("value") for p in data.get("customProperties") or ()}
    yield from _table(contract, data["schema"][0])
    for i, prop in enumerate(data["schema"][0]["properties"]):
        where = ("schema", 0, "properties", i)
        yield from _column(prop, where, custom.get("classification"))
    yield from _key(data["schema"][0]["properties"])
    for i, item in enumerate(data.get("customProperties") or ()):
        yield from _property(contract, item["property"], item.get("value"), i)


def _table(contract: Contract, table: Mapping[str, Any]) -> Found:
    where = ("schema", 0)
    if table.get("description") == contract.description:
        yield (*where, "description"), "description is the contract's purpose: leave it out"
    if table.get("physicalName") == table["name"]:
        yield (*where, "physicalName"), "physicalName is the name: leave it out"
    yield from _rules(table.get("quality") or (), where, None)


def _column(prop: Mapping[str, Any], where: Where, unsaid: str | None) -> Found:
    name, physical = prop["name"], prop["physicalType"]

    def again(key: str, why: str) -> tuple[Where, str]:
        return (*where, key), f"column {name}: {key} {why}: leave it out"

    if "logicalType" in prop:
        yield again("logicalType", f"{logical_type(physical)} follows from {physical}")
    if prop.get("physicalName") == name:
        yield again("physicalName", "is the name")
    for key in ("required", "primaryKey"):
        if prop.get(key) is False:
            yield again(key, "is false by default")
    # Where the name says personal data, that it is none has to be said.
    if unsaid is not None and prop.get("classification") == unsaid and not looks_personal(name):
        yield again("classification", f"{unsaid} is that of all columns that say nothing")
    yield from _rules(prop.get("quality") or (), where, name)


def _key(properties: list[dict[str, Any]]) -> Found:
    """Positions of the key's columns where their order says the same."""
    keys = [(i, p) for i, p in enumerate(properties) if p.get("primaryKey")]
    if [p.get("primaryKeyPosition") for _, p in keys] == list(range(1, len(keys) + 1)):
        for i, p in keys:
            where = ("schema", 0, "properties", i, "primaryKeyPosition")
            yield (
                where,
                f"column {p['name']}: its place in the key is that of its line: leave it out",
            )


def _rules(rules: Iterable[dict[str, Any]], where: Where, column: str | None) -> Found:
    for i, quality in enumerate(rules):
        body = quality["implementation"]
        at = (*where, "quality", i)
        name = "_".join(filter(None, (column, body["rule"])))
        if quality.get("name") == name:
            yield (*at, "name"), f"rule {name} has this name by default: leave it out"
        given = {k: v for k, v in body.items() if k != "max_failing"}
        yield from _given(RULES[body["rule"]], given, (*at, "implementation"), f"rule {name}")


def _property(contract: Contract, name: str, value: Any, index: int) -> Found:
    where = ("customProperties", index, "value")
    parts: dict[str, type[BaseModel]] = {"publish": Publish, "warehouse": Warehouse}
    if name == "source":
        yield from _given(kind_of(value), value, where, name)
    elif name in parts:
        yield from _given(parts[name], value, where, name)
    elif name == "inputs":
        for i, source in enumerate(value):
            yield from _given(Input, source, (*where, i), f"input {source['table']}")
    elif name == "gates":
        usual = LAYER_GATES[contract.layer].model_dump()
        for key in (k for k in value if value[k] == usual[k]):
            what = f"gates: {key}: {usual[key]:g} is the {contract.layer} default: leave it out"
            yield (*where, key), what
    else:
        known = {"physicalPartition": "physical_partition", "lookbackDays": "lookback_days"}
        default = _DEFAULTS.get(known.get(name, name))
        if value == default:
            yield ("customProperties", index), f"{name}: {default} is the default: leave it out"


def _given(model: type[BaseModel], given: Mapping[str, Any], where: Where, what: str) -> Found:
    """The keys of a part that have their default."""
    for key, value in given.items():
        field = model.model_fields[key]
        default = field.get_default(call_default_factory=True, validated_data=dict(given))
        value = tuple(value) if isinstance(value, list) else value
        if not field.is_required() and value == default:
            yield (*where, key), f"{what}: {key} is that by default: leave it out"
