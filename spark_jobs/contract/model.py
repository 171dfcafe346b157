"""Reads table contracts (Open Data Contract Standard v3, one YAML file per table) into values.

Belongs here: the model of a contract, the shape of its parts and the errors with file and line.
Does not belong here: whether the parts fit together (validity.py), the vocabulary of rules (rules.py),
or anything that runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from spark_jobs.contract import standard, validity
from spark_jobs.contract.rules import MOST_DAYS, RULES, NotNull, Reference, RuleSpec, TypeKept
from spark_jobs.contract.validity import HISTORY_COLUMNS, Where
from spark_jobs.errors import ContractError

LAYERS = ("bronze", "silver", "gold")
# What a column's values are. Those of the first two may be shown; without a class none may.
SHOWN_CLASSES = ("public", "internal")
UNCLASSIFIED = "unclassified"
CLASSIFICATIONS = (*SHOWN_CLASSES, "confidential", "restricted", "pii")
TYPES = re.compile(
    r"^(string|int|bigint|boolean|date|timestamp|decimal\(\d+,\d+\)|array<(string|timestamp)>)$"
)


_Spec = TypeVar("_Spec", bound=RuleSpec)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """Where a bronze table comes from: a landing folder of files in one format."""

    dataset: str
    format: Literal["parquet", "csv", "json"]
    system: str
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = (
        "mon",
        "tue",
        "wed",
        "thu",
        "fri",
        "sat",
        "sun",
    )
    # How a CSV file is written, where it differs from RFC 4180; None is no quoting at all.
    delimiter: str = Field(",", min_length=1, max_length=1)
    quote: str | None = Field('"', min_length=1, max_length=1)
    header: bool = True
    encoding: str = "utf-8"
    # Columns that hold text of several lines, each of which may look like a record.
    multiline: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _readable(self) -> Source:
        told = self.model_fields_set & {"delimiter", "quote", "header", "encoding", "multiline"}
        if told and self.format != "csv":
            raise ValueError(f"{', '.join(sorted(told))}: only for format csv, not {self.format}")
        marks = self.delimiter + (self.quote or "")
        if not marks.isascii() or set(marks) & set("\r\n\x00") or self.delimiter == self.quote:
            raise ValueError(
                "delimiter and quote: two different ASCII characters, and neither ends a line"
            )
        try:
            "".encode(self.encoding)
            b"".decode(self.encoding)
        except (LookupError, ValueError):
            raise ValueError(f"encoding: {self.encoding!r} is no text encoding") from None
        return self


class Input(_Strict):
    """An upstream table and which of its rows a batch reads.

    `changes`: the rows that arrived in the batch's partitions; `lookup`: all rows;
    `touched`: all rows that share a value of column `by` with the changed rows. `affects` tells,
    as an SQL condition, which rows of this table use a given row of a lookup.
    """

    table: str
    read: Literal["changes", "lookup", "touched"] = "changes"
    by: str | None = None
    affects: str | None = Field(None, min_length=1)


class Publish(_Strict):
    """How a batch becomes part of the table; see publish.py for each mode."""

    mode: Literal["replace_partition", "upsert", "scd2", "snapshot"]
    sequence: str | None = None
    column: str | None = None
    delete_column: str | None = None


class Gates(_Strict):
    """Thresholds per partition. Fewer rows than min_rows or a quarantine rate beyond its bound
    publish nothing; the others warn. Rates are fractions of the rows read, ages are hours before
    the end of the partition, volume_change is relative to the mean of the partitions before,
    max_files is a mean per physical partition, null_drift is a difference of two shares."""

    min_rows: int = 1
    expected_rows: int = 1
    max_quarantine_rate: float = 0.05
    max_duplicate_rate: float = 0.05
    max_null_rate: float = 0.10
    max_age_hours: float = 24
    max_volume_change: float = 0.5
    max_files: float = 10
    max_null_drift: float = 0.05


LAYER_GATES = {
    "bronze": Gates(),
    "silver": Gates(
        expected_rows=100, max_quarantine_rate=0.10, max_duplicate_rate=0.01, max_null_rate=0.05
    ),
    "gold": Gates(
        expected_rows=100, max_quarantine_rate=0.01, max_duplicate_rate=0.0, max_null_rate=0.02
    ),
}


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    required: bool
    classification: str
    description: str
    sources: tuple[str, ...] = ()
    derived: bool = False
    not_personal: str = ""

    @property
    def pii(self) -> bool:
        return self.classification == "pii"

    @property
    def type_check(self) -> str:
        """The name of the check that its values have its type. A source may name a column as it
        likes, a check is named by letters, digits and underscores."""
        written = (c if c.isalnum() and c.isascii() else "_" if c.isascii() else f"u{ord(c):x}"
                   for c in self.name)  # fmt: skip
        return f"{''.join(written)}_type"

    @property
    def concealed(self) -> bool:
        """Whether its values are kept from whoever has no access to the table itself."""
        return self.classification not in SHOWN_CLASSES


@dataclass(frozen=True)
class Rule:
    """One row-level rule: rows that break an `error` rule leave, rows that break a `warn` stay.

    `max_failing` is the share of rows that may break the rule before the gate fails. `where` is its
    place in the contract, or that of the column from which it follows.
    """

    name: str
    severity: Literal["error", "warn"]
    spec: RuleSpec
    column: str | None = None
    max_failing: float | None = None
    where: Where = ()

    @property
    def kind(self) -> str:
        return self.spec.rule

    @property
    def about(self) -> str:
        """The column that it judges. Raises TypeError for a rule that is about the whole row."""
        if self.column is None:
            raise TypeError(f"rule {self.name} is about the whole row, and no column")
        return self.column


@dataclass(frozen=True)
class Contract:
    layer: str
    name: str
    version: str
    domain: str
    owner: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    rules: tuple[Rule, ...]
    publish: Publish
    partitioning: Literal["daily", "hourly"] | None
    inputs: tuple[Input, ...] = ()
    source: Source | None = None
    physical_partition: str = "_arrival_date"
    grain: Literal["row", "aggregate"] = "row"
    gates: Gates = field(default_factory=Gates)
    lookback_days: int = 30
    engine: Literal["sail", "spark"] | None = None
    runner: Literal["embedded", "process", "emr", "databricks"] | None = None
    sla: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    path: str = ""

    @property
    def table(self) -> str:
        return f"{self.layer}.{self.name}"

    @cached_property
    def column(self) -> Mapping[str, Column]:
        return {c.name: c for c in self.columns}

    @property
    def concealed(self) -> frozenset[str]:
        """The columns whose values are shown nowhere outside of the table. What a delivery has
        beyond its contract is one of them: nobody has said what it is."""
        return frozenset({"_rescued", *(c.name for c in self.columns if c.concealed)})

    @property
    def keyed(self) -> bool:
        """Whether rows are merged by key, which needs a content hash on each row."""
        return self.publish.mode in ("upsert", "scd2")

    @property
    def sequence(self) -> str:
        """The column that tells the newer of two records of a key. Raises TypeError for a table that
        merges no rows by key."""
        if not self.keyed or self.publish.sequence is None:
            raise TypeError(f"{self.table}: mode {self.publish.mode} has no sequence")
        return self.publish.sequence

    @property
    def delivered(self) -> Source:
        """Where a bronze table comes from. Raises TypeError for a table that reads others."""
        if self.source is None:
            raise TypeError(f"{self.table} is made of tables: nobody delivers it")
        return self.source

    def rules_of(self, kind: type[_Spec]) -> list[tuple[Rule, _Spec]]:
        """The rules of one kind, each with its parameters."""
        return [(r, r.spec) for r in self.rules if isinstance(r.spec, kind)]

    @property
    def references(self) -> tuple[str, ...]:
        """Tables that reference rules read, without the declared inputs."""
        declared = {i.table for i in self.inputs}
        tables = {spec.table for _, spec in self.rules_of(Reference)}
        return tuple(sorted(tables - declared - {self.table}))

    def uses(self, lookup: Input) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """The columns of a lookup that this table's rows are made of, by their declared sources, and
        those that its `affects` compares. None where that is not declared: then any may count."""
        made_of = {s.rpartition(".")[2] for c in self.columns for s in c.sources
                   if s.rpartition(".")[0] == lookup.table}  # fmt: skip
        if not lookup.affects or not made_of:
            return None
        name = re.escape(lookup.table.partition(".")[2])
        compared = re.findall(rf"\b{name}\.`?(\w+)", lookup.affects)
        return tuple(sorted(made_of)), tuple(sorted(set(compared)))

    @property
    def lookups(self) -> tuple[str, ...]:
        """Tables whose rows a partition looks up or refers to, beside those that arrived in it. A
        table without partitions is made of whole tables, and looks nothing up."""
        if self.partitioning is None:
            return ()
        referred = [spec.table for _, spec in self.rules_of(Reference)]
        return tuple(dict.fromkeys((*(i.table for i in self.inputs[1:]), *referred)))

    @property
    def upstream(self) -> tuple[str, ...]:
        return tuple(i.table for i in self.inputs) + self.references


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


def load_contract(path: str | Path) -> Contract:
    """Reads one contract file.

    Raises ContractError with `file:line: what is wrong` if the file is missing, is not YAML, does
    not follow the standard, or says something that the platform has no meaning for.
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
    unmet = next(iter(standard.validator().iter_errors(data)), None)
    if unmet is not None:
        # The standard's validator names an unknown key in its message only.
        unknown = re.search(r"'([^']+)' w(?:as|ere) unexpected", unmet.message)
        where = (*unmet.absolute_path, *(unknown.groups() if unknown else ()))
        raise fail(where, unmet.message.splitlines()[0][:300])
    return _Reader(path, data, fail).contract()


class _Reader:
    """Turns one parsed document into a Contract; `fail` makes errors that know their line."""

    def __init__(self, path: Path, data: dict[str, Any], fail: Any) -> None:
        self.path, self.data, self.fail = path, data, fail
        self.layer, _, self.name = data["id"].partition(".")

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
        models: dict[str, type[BaseModel]] = {"source": Source, "publish": Publish}
        out: dict[str, Any] = {"partitioning": None, "gates": LAYER_GATES[self.layer]}
        for i, item in enumerate(self.data.get("customProperties") or ()):
            name, value, where = item["property"], item.get("value"), ("customProperties", i)
            try:
                if name == "classification":
                    continue  # its columns have it
                if name in models:
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
                        " lookbackDays (a whole number of days)",
                    )
            except ValidationError as error:
                at, what = _first(error)
                raise self.fail((*where, "value", *at), f"{name}: {what}") from None
        return out

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
            driving = inputs and [inputs[0].table] == [s.rpartition(".")[0] for s in c.sources]
            if self.layer == "silver" and driving and not c.derived and c.type != "string":
                where = ("schema", 0, "properties", c.name)
                kept = TypeKept(rule="type", source=c.sources[0])
                yield Rule(f"{c.name}_type", "error", kept, column=c.name, where=where)
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


def place(c: Contract, where: Where) -> str:
    """`file:line` of a place in a contract that was read before."""
    tree = yaml.compose(Path(c.path).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return f"{c.path}:{_line(tree, where)}"
