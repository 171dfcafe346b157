"""Turns the documents of contracts into values, and contracts that fit together into a lake's.

Belongs here: what each part of a document means, and the errors with file and line. Does not belong
here: the text and the standard (document.py), whether the parts fit together (validity.py), the
vocabulary of rules (rules.py), or anything that runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from spark_jobs.contract import validity
from spark_jobs.contract.document import Document, place, read_document
from spark_jobs.contract.model import (
    CLASSIFICATIONS,
    LAYER_GATES,
    LAYERS,
    TYPES,
    UNCLASSIFIED,
    Column,
    Contract,
    Gates,
    Input,
    Publish,
    Rule,
    Warehouse,
)
from spark_jobs.contract.rules import MOST_DAYS, RULES, NotNull, RuleSpec, TypeKept
from spark_jobs.contract.source import Source, kind_of
from spark_jobs.contract.validity import HISTORY_COLUMNS, Where
from spark_jobs.errors import ContractError


def load_contract(path: str | Path) -> Contract:
    """Reads one contract file.

    Raises ContractError with `file:line: what is wrong` if the file is missing, is not YAML, does
    not follow the standard, or says something that the platform has no meaning for.
    """
    return _Reader(read_document(path)).contract()


class _Reader:
    """Turns one document into a Contract."""

    def __init__(self, document: Document) -> None:
        self.path, self.data, self.fail = document.path, document.data, document.fail
        self.layer, _, self.name = self.data["id"].partition(".")

    def contract(self) -> Contract:
        data, fail = self.data, self.fail
        if self.layer not in LAYERS or not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise fail(("id",), f"id must be <layer>.<table> with layer one of {', '.join(LAYERS)}")
        expected = f"{self.layer}/{self.name}.yaml"
        if not self.path.as_posix().endswith(expected):
            raise fail(("id",), f"id {data['id']} belongs in a file {expected}")
        if not re.fullmatch(r"\d+\.\d+\.\d+", str(data["version"])):
            raise fail(("version",), "version must be three numbers such as 1.0.0")
        if len(data.get("schema") or ()) != 1:
            raise fail(("schema",), "schema must hold exactly one table")
        for required, part in (("domain", None), ("team", "name"), ("description", "purpose")):
            value = data.get(required)
            if not (value.get(part) if part and isinstance(value, dict) else value):
                raise fail((required,), f"{'.'.join(filter(None, (required, part)))} is missing")
        columns = tuple(self._columns())
        if not columns:
            raise fail(("schema", 0), "the table has no properties (columns)")
        custom = self._custom()
        publish = custom.get("publish")
        if publish is None:
            raise fail(("customProperties",), "property publish is missing: it says how rows land")
        contract = Contract(
            layer=self.layer,
            name=self.name,
            version=data["version"],
            domain=data["domain"],
            owner=data["team"]["name"],
            description=data["description"]["purpose"],
            columns=columns,
            key=self._key(),
            rules=tuple(self._rules(columns, custom.get("inputs") or ())),
            path=str(self.path),
            sla=dict(self._sla()),
            **custom,
        )
        for where, what in validity.within(contract):
            raise fail(where, what)
        return contract

    def _sla(self) -> Iterator[tuple[str, tuple[float, str]]]:
        for i, p in enumerate(self.data.get("slaProperties") or ()):
            value = p["value"]
            if not _is_number(value):
                raise self.fail(("slaProperties", i), f"{p['property']}: {value!r} is not a number")
            yield p["property"], (float(value), p.get("unit", ""))

    def _properties(self) -> Iterator[tuple[Where, dict[str, Any]]]:
        for i, prop in enumerate(self.data["schema"][0].get("properties") or ()):
            yield ("schema", 0, "properties", i), prop

    def _columns(self) -> Iterator[Column]:
        seen: set[str] = set()
        unsaid = self._unsaid_class()
        for where, p in self._properties():
            name, physical = p["name"], str(p.get("physicalType") or "")
            if name.lower() in seen:
                raise self.fail(
                    where, f"column {name} is declared twice (names are the same in any case)"
                )
            seen.add(name.lower())
            if name.startswith("_"):
                raise self.fail(where, f"column {name}: names that begin with _ are the platform's")
            if not _supported(physical):
                raise self.fail(
                    (*where, "physicalType"),
                    f"column {name}: physicalType {physical or 'missing'!r} is not supported; use"
                    " string, int, bigint, boolean, date, timestamp, decimal(p,s) or an array",
                )
            if not p.get("description"):
                raise self.fail(where, f"column {name} has no description")
            for key, what in validity.column_faults(name, physical, p, unsaid):
                raise self.fail((*where, key), what)
            yield Column(
                name=name,
                type=physical,
                required=bool(p.get("required")),
                classification=p.get("classification", unsaid),
                description=p["description"],
                sources=tuple(p.get("transformSourceObjects") or ()),
                derived=bool(p.get("transformLogic")),
                not_personal=_reason_not_personal(p),
            )

    def _unsaid_class(self) -> str:
        """The class of columns that say none: the contract's, and without that none at all."""
        for i, item in enumerate(self.data.get("customProperties") or ()):
            if item["property"] == "classification":
                if item.get("value") not in CLASSIFICATIONS:
                    raise self.fail(
                        ("customProperties", i, "value"),
                        f"classification {item.get('value')!r} is not known; use one of"
                        f" {', '.join(CLASSIFICATIONS)}",
                    )
                return item["value"]
        return UNCLASSIFIED

    def _key(self) -> tuple[str, ...]:
        keys = [p for _, p in self._properties() if p.get("primaryKey")]
        return tuple(p["name"] for p in sorted(keys, key=lambda p: p.get("primaryKeyPosition", 1)))

    def _custom(self) -> dict[str, Any]:
        models: dict[str, type[BaseModel]] = {
            "publish": Publish,
            "warehouse": Warehouse,
        }
        out: dict[str, Any] = {"partitioning": None, "gates": LAYER_GATES[self.layer]}
        for i, item in enumerate(self.data.get("customProperties") or ()):
            name, value, where = item["property"], item.get("value"), ("customProperties", i)
            try:
                if name == "classification":
                    continue  # its columns have it
                if name == "source":
                    out[name] = self._kind(value, where).model_validate(value)
                elif name in models:
                    out[name] = models[name].model_validate(value)
                elif name == "inputs" and isinstance(value, list):
                    out[name] = tuple(Input.model_validate(v) for v in value)
                elif name == "gates" and isinstance(value, dict):
                    base = LAYER_GATES[self.layer].model_dump()
                    out[name] = Gates.model_validate({**base, **value})
                elif name == "partitioning" and value in ("daily", "hourly"):
                    out[name] = value
                elif name == "grain" and value in ("row", "aggregate"):
                    out[name] = value
                elif name == "lookbackDays" and _is_days(value):
                    out["lookback_days"] = value
                elif name == "engine" and value in ("sail", "spark"):
                    out[name] = value
                elif name == "runner" and value in ("embedded", "process", "emr", "databricks"):
                    out[name] = value
                elif name == "physicalPartition" and isinstance(value, str):
                    out["physical_partition"] = value
                else:
                    known = "source, publish, inputs, gates, classification, partitioning (daily,"
                    raise self.fail(
                        where,
                        f"customProperties: {name}: {value!r} is not known; there are {known}"
                        " hourly), grain (row, aggregate), engine (sail, spark), runner (embedded,"
                        " process, emr, databricks), physicalPartition,"
                        " lookbackDays (a whole number of days), warehouse",
                    )
            except ValidationError as error:
                at, what = _first(error)
                raise self.fail((*where, "value", *at), f"{name}: {what}") from None
        return out

    def _kind(self, value: Any, where: Where) -> type[Source]:
        try:
            return kind_of(value)
        except ValueError as error:
            raise self.fail((*where, "value", "kind"), f"source: {error}") from None

    def _rules(self, columns: tuple[Column, ...], inputs: tuple[Input, ...]) -> Iterator[Rule]:
        """The rules that follow from the schema, then the ones that are written out."""
        if self.layer != "bronze":
            for c in columns:
                if c.required and c.name not in HISTORY_COLUMNS:
                    where = ("schema", 0, "properties", c.name)
                    held = NotNull(rule="not_null")
                    yield Rule(f"{c.name}_not_null", "error", held, column=c.name, where=where)
        for c in columns:
            # A column that copies one source column may lose values only by a failed cast.
            driving = [i.table for n, i in enumerate(inputs) if n == 0 or i.read == "changes"]
            of = [s.rpartition(".")[0] for s in c.sources]
            copies = bool(of) and len(set(of)) == len(of) and set(of) <= set(driving)
            if self.layer == "silver" and copies and not c.derived and c.type != "string":
                where = ("schema", 0, "properties", c.name)
                # Records of several tables have one column for those of one name.
                named = {s.rpartition(".")[2]: s for s in reversed(c.sources)}
                for n, source in enumerate(reversed(named.values())):
                    name = f"{c.name}_type" if n == 0 else f"{c.name}_type_{n + 1}"
                    kept = TypeKept(rule="type", source=source)
                    yield Rule(name, "error", kept, column=c.name, where=where)
        for where, p in self._properties():
            column = next(c for c in columns if c.name == p["name"])
            for i, quality in enumerate(p.get("quality") or ()):
                yield self._rule((*where, "quality", i), quality, column)
        for i, quality in enumerate(self.data["schema"][0].get("quality") or ()):
            yield self._rule(("schema", 0, "quality", i), quality, None)

    def _rule(self, where: Where, quality: dict[str, Any], column: Column | None) -> Rule:
        if quality.get("type") != "custom" or quality.get("engine") != "lakehouse":
            raise self.fail(where, "a rule has type: custom and engine: lakehouse")
        written = quality.get("implementation")
        body = dict(written) if isinstance(written, dict) else {}
        kind = body.get("rule")
        if not isinstance(kind, str) or kind not in RULES:
            raise self.fail(
                (*where, "implementation", "rule"),
                f"unknown rule {kind!r}; known rules: {', '.join(sorted(RULES))}",
            )
        max_failing = body.pop("max_failing", None)
        try:
            spec = RULES[kind].model_validate(body)
        except ValidationError as error:
            at, what = _first(error)
            raise self.fail((*where, "implementation", *at), f"rule {kind}: {what}") from None
        severity = quality.get("severity")
        if severity not in ("error", "warn"):
            raise self.fail(where, f"rule {kind}: severity must be error or warn")
        if max_failing is not None and not (_is_number(max_failing) and 0 <= max_failing <= 1):
            raise self.fail(
                (*where, "implementation", "max_failing"),
                f"rule {kind}: max_failing {max_failing!r} is not a share of rows, 0 to 1",
            )
        self._fits((*where, "implementation"), spec, column)
        about = column.name if column else None
        name = quality.get("name") or "_".join(filter(None, (about, kind)))
        return Rule(name, severity, spec, column=about, max_failing=max_failing, where=where)

    def _fits(self, where: Where, spec: RuleSpec, column: Column | None) -> None:
        """Fails if the rule needs a column and has none, or cannot judge its column's type."""
        if column is None:
            if spec.about_column:
                raise self.fail(
                    where, f"rule {spec.rule} is about a column: write it below that column"
                )
        elif (why := spec.misfit(column)) is not None:
            raise self.fail(where, why)


def _reason_not_personal(prop: Mapping[str, Any]) -> str:
    custom = {c["property"]: c["value"] for c in prop.get("customProperties") or ()}
    return str(custom.get("notPersonal", "")).strip()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_days(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_DAYS


def _supported(physical: str) -> bool:
    if not TYPES.match(physical):
        return False
    if physical.startswith("decimal"):
        precision, scale = map(int, physical[8:-1].split(","))
        return 1 <= precision <= 38 and scale <= precision
    return True


def _first(error: ValidationError) -> tuple[Where, str]:
    """Where the first fault is, and what it is."""
    e = error.errors()[0]
    where = ".".join(map(str, e["loc"]))
    if e["type"] == "extra_forbidden":
        return e["loc"], f"unknown key {where!r}"
    return e["loc"], f"{where}: {e['msg'].removeprefix('Value error, ')}".lstrip(": ")


def load_contracts(folder: str | Path) -> dict[str, Contract]:
    """Reads every contract below `folder` and checks that they fit together.

    Returns the contracts by table name in dependency order (upstream first). Raises ContractError
    for an input, a reference, a source column or a rule that no contract declares, and for cycles.
    """
    paths = sorted(Path(folder).glob("*/*.yaml"))
    if not paths:
        raise ContractError(f"{folder}: no contracts found (expected <layer>/<table>.yaml)")
    contracts = {c.table: c for c in map(load_contract, paths)}
    contracts = {t: _without_idle_rules(c, contracts) for t, c in contracts.items()}
    for c, where, what in validity.between(contracts):
        raise ContractError(f"{place(c, where)}: {what}")
    contracts = _ordered(contracts)
    for table, c in contracts.items():  # upstream first, so that a class goes all the way down
        contracts[table] = replace(c, columns=tuple(_classed(x, contracts) for x in c.columns))
    for c, where, what in validity.personal(contracts):
        raise ContractError(f"{place(c, where)}: {what}")
    return contracts


def _classed(column: Column, contracts: Mapping[str, Contract]) -> Column:
    """A column that says nothing itself is personal if it reads one that is."""
    if column.classification != UNCLASSIFIED or column.not_personal:
        return column
    personal = any(validity.reads_personal(contracts, s) for s in column.sources)
    return replace(column, classification="pii") if personal else column


def _without_idle_rules(c: Contract, contracts: Mapping[str, Contract]) -> Contract:
    """Drops type rules that cannot fire: only text loses values when it is cast."""

    def idle(rule: Rule) -> bool:
        if not isinstance(rule.spec, TypeKept):
            return False
        table, _, name = rule.spec.source.rpartition(".")
        column = contracts[table].column.get(name) if table in contracts else None
        return column is not None and column.type != "string"

    return replace(c, rules=tuple(r for r in c.rules if not idle(r)))


def _ordered(contracts: Mapping[str, Contract]) -> dict[str, Contract]:
    import graphlib

    graph = {t: c.upstream for t, c in contracts.items()}
    try:
        order = graphlib.TopologicalSorter(graph).static_order()
        return {t: contracts[t] for t in order}
    except graphlib.CycleError as error:
        # graphlib lists a cycle from a table to those that read it.
        cycle = list(reversed(error.args[1]))
        first = contracts[cycle[0]]
        begin = place(first, ("customProperties", "inputs"))
        raise ContractError(f"{begin}: tables read each other: {' <- '.join(cycle)}") from None
