"""What a contract can get wrong between its parts, and contracts between each other.

Belongs here: statements that hold for every contract, each with the place to mend. Does not belong
here: the shape of one part (model.py), or anything that needs rows or an engine.

A place is a path into the document; a name stands for the list item that has it as its `name` or
`property`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from spark_jobs.contract.checks import KINDS
from spark_jobs.contract.personal import looks_personal
from spark_jobs.contract.rules import Reference, TypeKept

if TYPE_CHECKING:
    from spark_jobs.contract.model import Contract, Input, Rule

Where = tuple[Any, ...]

# Columns that publishing as scd2 makes; a transform does not return them.
HISTORY_COLUMNS = ("valid_to", "is_current")
# What ODCS calls the types, by physical type without its parameters.
_LOGICAL = {
    "string": "string",
    "int": "integer",
    "bigint": "integer",
    "decimal": "number",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamp",
    "array": "array",
}


def logical_type(physical: str) -> str:
    """What ODCS calls a physical type; one that is not supported counts as text."""
    return _LOGICAL.get(re.split(r"[(<]", physical)[0], "string")


def column_faults(
    name: str, physical: str, prop: Mapping[str, Any], unsaid: str
) -> Iterator[tuple[str, str]]:
    """What is wrong in one column as it is written, as the key to mend and a text. `unsaid` is the
    class of a column that says none."""
    from spark_jobs.contract.model import CLASSIFICATIONS, SHOWN_CLASSES

    given = prop.get("classification")
    if given is not None and given not in CLASSIFICATIONS:
        yield (
            "classification",
            f"column {name}: classification {given!r} is not known; use one of"
            f" {', '.join(CLASSIFICATIONS)}",
        )
    elif given is None and unsaid in SHOWN_CLASSES and looks_personal(name):
        yield (
            "classification",
            f"column {name} would be {unsaid} as all that say nothing, and its name says personal"
            f" data: give it a classification of its own, {unsaid} if it is that",
        )
    logical, wanted = prop.get("logicalType"), logical_type(physical)
    if logical is not None and logical != wanted:
        yield (
            "logicalType",
            f"column {name}: logicalType {logical} contradicts physicalType {physical}, which is"
            f" {wanted}",
        )
    for custom in prop.get("customProperties") or ():
        reason = custom["value"]
        if custom["property"] != "notPersonal":
            yield (
                "customProperties",
                f"column {name}: customProperties: {custom['property']!r} is not known; there is"
                " notPersonal",
            )
        elif not (isinstance(reason, str) and reason.strip()):
            yield "customProperties", f"column {name}: notPersonal says why, in words"
        elif given == "pii":
            yield "customProperties", f"column {name}: is pii and notPersonal; it can be one"


def reads_personal(contracts: Mapping[str, Contract], qualified: str) -> bool:
    table, _, name = qualified.rpartition(".")
    column = contracts[table].column.get(name) if table in contracts else None
    return column is not None and column.pii


def personal(contracts: Mapping[str, Contract]) -> Iterator[tuple[Contract, Where, str]]:
    """Columns that are called something else although they read a personal one."""
    for c in contracts.values():
        for column in c.columns:
            read = [s for s in column.sources if reads_personal(contracts, s)]
            if read and not (column.pii or column.not_personal):
                yield (
                    c,
                    (*_column(column.name), "classification"),
                    (
                        f"column {column.name} reads {read[0]}, which is personal: classification:"
                        " pii, or customProperties: [{property: notPersonal, value: why it is not}]"
                    ),
                )


def within(c: Contract) -> Iterator[tuple[Where, str]]:
    """What is wrong in one contract, as places and texts."""
    yield from _publish(c)
    yield from _layout(c)
    yield from _inputs(c)
    seen: set[str] = set()
    for rule in c.rules:
        if rule.name in seen:
            yield _rules_of(rule.column), f"rule {rule.name} is declared twice: give it a name"
        seen.add(rule.name)
        if rule.name in KINDS:
            yield _rules_of(rule.column), f"rule {rule.name} has the name of a platform's check"
        if not re.fullmatch("[A-Za-z0-9_]+", rule.name):
            yield (
                _rules_of(rule.column),
                f"rule {rule.name}: a check is named by letters, digits and underscores: give the rule"
                " or the column such a name",
            )
        for column in getattr(rule.spec, "columns", ()):
            if column not in c.column:
                yield _rules_of(rule.column), f"rule {rule.name}: no column {column}"
        if (why := _idle(c, rule)) is not None:
            yield _rules_of(rule.column), f"rule {rule.name} cannot fail: {why}"
        if isinstance(rule.spec, Reference) and rule.spec.table == c.table:
            yield _rules_of(rule.column), f"rule {rule.name} refers to its own table"
        if rule.kind == "age" and c.partitioning is None:
            yield (
                _rules_of(rule.column),
                (
                    f"rule {rule.name}: an age is counted from the day of the row's partition, and"
                    " the table has no partitioning"
                ),
            )
        if c.source:
            yield (
                _rules_of(rule.column),
                (
                    f"rule {rule.name}: bronze keeps rows as delivered; write the rule in the silver"
                    " table's contract"
                ),
            )


def _idle(c: Contract, rule: Rule) -> str | None:
    """Why a rule looks like a guard and is none: no row can break it, or all may."""
    gate_only = rule.severity == "warn" or not rule.spec.per_row
    if gate_only and rule.max_failing is not None and rule.max_failing >= 1:
        return "max_failing 1 allows every row to break it: give a smaller share, or drop it"
    return rule.spec.idle(rule, c)


def _publish(c: Contract) -> Iterator[tuple[Where, str]]:
    where, publish = ("customProperties", "publish"), c.publish
    for column in filter(None, (publish.sequence, publish.column, publish.delete_column)):
        if column not in c.column:
            yield where, f"publish: column {column} is not in the schema"
            return
    if c.keyed:
        if not (c.key and publish.sequence):
            yield where, f"mode {publish.mode} needs a key and a sequence"
            return
        for column in (*c.key, publish.sequence):
            # A null key never matches itself, so the row would come again with every run.
            if not c.column[column].required:
                yield (
                    _column(column),
                    (f"column {column}: a key or sequence of mode {publish.mode} must be required"),
                )
    if publish.delete_column and c.column[publish.delete_column].type != "boolean":
        yield where, f"publish: delete_column {publish.delete_column} must be boolean"
    if publish.mode == "scd2":
        types = {n: c.column[n].type for n in HISTORY_COLUMNS if n in c.column}
        if types != {"valid_to": "timestamp", "is_current": "boolean"}:
            yield (
                ("schema", 0),
                ("mode scd2 needs columns valid_to (timestamp) and is_current (boolean)"),
            )
        if publish.sequence not in c.key or len(c.key) < 2:
            yield (
                where,
                (
                    f"mode scd2 keeps every version of a key: sequence {publish.sequence} must be part"
                    " of the primary key, beside the columns that name the entity"
                ),
            )
    if publish.mode == "snapshot" and c.partitioning:
        # An older partition that runs after a newer one would take its place.
        yield where, "mode snapshot replaces the whole table, so the table has no partitioning"


def _layout(c: Contract) -> Iterator[tuple[Where, str]]:
    where, by = ("customProperties", "physicalPartition"), c.physical_partition
    if by == "_arrival_date" and c.partitioning is None:
        yield ("customProperties",), "a table without partitioning needs physicalPartition: none"
    elif by not in ("none", "_arrival_date"):
        column = c.column.get(by)
        if column is None or column.type != "date" or not column.required:
            yield where, f"physicalPartition {by} must be a required date column of the schema"
    for column_name in c.warehouse.columns:
        if column_name not in c.column:
            yield ("customProperties", "warehouse"), f"warehouse: there is no column {column_name}"
    if (c.layer == "bronze") != (c.source is not None):
        yield ("customProperties",), "bronze tables, and only they, have a source"
    elif c.source and c.source.format != "parquet":
        for column in c.columns:
            if column.type != "string":
                yield (
                    (*_column(column.name), "physicalType"),
                    (
                        f"column {column.name}: a {c.source.format} source delivers strings; give it"
                        " its type in the silver table"
                    ),
                )
    elif c.source:
        checks: dict[str, str] = {}
        for column in (x for x in c.columns if x.type != "string"):
            if (other := checks.setdefault(column.type_check, column.name)) != column.name:
                yield (
                    _column(column.name),
                    f"columns {other} and {column.name} differ in signs only, and their checks would"
                    " have one name: leave one out, it stays in _rescued",
                )
    if c.grain == "aggregate" and not c.key:
        yield ("schema", 0), "grain aggregate needs a primary key"


def _inputs(c: Contract) -> Iterator[tuple[Where, str]]:
    for i, source in enumerate(c.inputs):
        where = ("customProperties", "inputs", "value", i)
        if (source.read == "touched") != (source.by is not None):
            yield where, f"input {source.table}: read: touched, and only that, names a column by"
        if source.affects and (i == 0 or source.read != "lookup"):
            yield where, f"input {source.table}: affects is said of a table that is looked up"
        elif source.affects and source.table.partition(".")[2] == c.name:
            yield where, f"input {source.table}: affects cannot tell it from {c.table}, of one name"
        if i > 0 and source.read == "touched":
            yield where, f"input {source.table}: only the first one is read by what it touched"
        if i > 0 and source.read == "changes" and (c.inputs[0].read, c.grain) != ("changes", "row"):
            yield (
                where,
                (
                    f"input {source.table}: it drives the batch too only where the first one is read"
                    " by its changes, and the grain is row; else read: lookup"
                ),
            )
    if c.inputs and (c.inputs[0].read == "lookup") != (c.partitioning is None):
        yield (
            ("customProperties", "inputs", "value", 0),
            (
                "the first input of a partitioned table is read by its changes, that of a table without"
                " partitioning as a whole (read: lookup)"
            ),
        )


def between(contracts: Mapping[str, Contract]) -> Iterator[tuple[Contract, Where, str]]:
    """What does not fit together, with the contract that says so."""
    for c in contracts.values():
        for i, source in enumerate(c.inputs):
            where = ("customProperties", "inputs", "value", i)
            if source.table not in contracts:
                yield c, where, f"{c.table} reads {source.table}, which has no contract"
            elif source.read == "changes" and _moves(c, contracts[source.table]):
                what = (
                    f"rows of {source.table} move from one partition to another when a newer record"
                    " of their key arrives, so a copy of its partitions would keep rows that are"
                    " gone: use mode upsert or scd2, or read: touched"
                )
                yield c, where, what
            elif source.affects and (why := _unknown_names(c, contracts[source.table], source)):
                yield c, where, why
            elif source.by and source.by not in contracts[source.table].column:
                yield c, where, f"input {source.table} has no column {source.by}"
            elif source.by and c.publish.column and c.publish.column in c.column:
                theirs, ours = contracts[source.table].column[source.by], c.column[c.publish.column]
                if theirs.type != ours.type:
                    what = (
                        f"input {source.table} is read by {theirs.name}, {theirs.type}, and slices of"
                        f" {ours.name}, {ours.type}, are replaced: they must be of one type"
                    )
                    yield c, where, what
        yield from _windows(c, contracts)
        yield from _one_source(c, contracts)
        yield from _drivers(c, contracts)
        for column in c.columns:
            for source_column in column.sources:
                if not _declared(contracts, source_column):
                    yield (
                        c,
                        (*_column(column.name), "transformSourceObjects"),
                        (
                            f"column {column.name} comes from {source_column}, which no contract"
                            " declares"
                        ),
                    )
        for rule in c.rules:
            if isinstance(rule.spec, Reference):
                target = f"{rule.spec.table}.{rule.spec.column}"
                if (why := _refers_to_itself(c, contracts, rule, rule.spec)) is not None:
                    yield c, _rules_of(rule.column), f"rule {rule.name} cannot fail: {why}"
            elif isinstance(rule.spec, TypeKept):
                target = rule.spec.source
            else:
                continue
            if not _declared(contracts, target):
                yield (
                    c,
                    _rules_of(rule.column),
                    (f"rule {rule.name} refers to {target}, which no contract declares"),
                )


def _refers_to_itself(
    c: Contract, contracts: Mapping[str, Contract], rule: Rule, spec: Reference
) -> str | None:
    """Why every value of a column is in the table that it refers to: it was read there."""
    target = f"{spec.table}.{spec.column}"
    column = c.column[rule.about]
    source = contracts.get(spec.table)
    copied = column.sources == (target,) and not column.derived
    if copied and source is not None and source.publish.delete_column is None:
        return f"column {column.name} is copied from {target}, so every value is there: drop it"
    return None


def _moves(c: Contract, source: Contract) -> bool:
    return source.keyed and c.publish.mode == "replace_partition" and not c.publish.column


def _unknown_names(c: Contract, lookup: Contract, source: Input) -> str | None:
    """What is wrong with the names in an `affects`; the engine judges the rest of it."""
    text = re.sub(r"'(?:[^']|'')*'", "''", source.affects or "")
    named = re.findall(r"(?<![\w.])([A-Za-z_]\w*)\.([A-Za-z_]\w*)", text)
    tables = {c.name: c, lookup.name: lookup}
    for table, column in named:
        if table not in tables or column not in tables[table].column:
            return f"input {source.table}: affects names {table}.{column}, which does not exist"
    if {table for table, _ in named} != set(tables):
        return (
            f"input {source.table}: affects relates columns of {lookup.name} and {c.name}, such as"
            f" {lookup.name}.id = {c.name}.id"
        )
    return None


def _windows(
    c: Contract, contracts: Mapping[str, Contract]
) -> Iterator[tuple[Contract, Where, str]]:
    """A partition is made of its driving input's windows inside it, so those must not be wider."""
    driving = contracts.get(c.inputs[0].table) if c.inputs else None
    if (
        driving is None
        or c.partitioning is None
        or driving.partitioning in (c.partitioning, "hourly")
    ):
        return
    what = (
        f"{c.table} is {c.partitioning} and its first input {driving.table} is"
        f" {driving.partitioning or 'without partitioning'}: a partition is made of the input's"
        " windows inside it. Partition this table as its input is, or read that as a lookup, after"
        " the input that drives it"
    )
    yield c, ("customProperties", "inputs", "value", 0), what


def _one_source(
    c: Contract, contracts: Mapping[str, Contract]
) -> Iterator[tuple[Contract, Where, str]]:
    """Tables that read one dataset have to say the same of it: it is one folder, and filled once."""
    for other in contracts.values():
        if other is c:
            return  # of two that differ, the later one is named
        if c.source is None or other.source is None or c.source.dataset != other.source.dataset:
            continue
        if (c.source, c.partitioning) != (other.source, other.partitioning):
            what = (
                f"{other.table} reads dataset {c.source.dataset} too, and says something else of its"
                " source or partitioning: say the same in both, or name another dataset"
            )
            yield c, ("customProperties", "source"), what


def _drivers(
    c: Contract, contracts: Mapping[str, Contract]
) -> Iterator[tuple[Contract, Where, str]]:
    """Several inputs drive a batch as one: their windows are this table's, their records are told
    apart in one way, and have columns of one name in one type."""
    drivers = [contracts[i.table] for i in c.drivers if i.table in contracts]
    types: dict[str, tuple[str, str]] = {}
    for driving in drivers if len(drivers) > 1 else []:
        first, at = drivers[0], next(n for n, i in enumerate(c.inputs) if i.table == driving.table)
        where = ("customProperties", "inputs", "value", at)
        if driving.partitioning != c.partitioning:
            what = (
                f"{driving.table} is not {c.partitioning}, as {c.table} is: tables that drive one"
                " together are partitioned as it is"
            )
            yield c, where, what
        if driving.keyed != first.keyed:
            what = (
                f"of {first.table} and {driving.table} one is merged by key and the other is not: they"
                " cannot drive one table together"
            )
            yield c, where, what
        for column in driving.columns:
            of, type_ = types.setdefault(column.name, (driving.table, column.type))
            if type_ != column.type:
                what = (
                    f"column {column.name} is {type_} in {of} and {column.type} in"
                    f" {driving.table}: tables that drive one together have it in one type"
                )
                yield c, where, what


def _declared(contracts: Mapping[str, Contract], qualified: str) -> bool:
    table, _, column = qualified.rpartition(".")
    return table in contracts and column in contracts[table].column


def _column(name: str) -> Where:
    return ("schema", 0, "properties", name)


def _rules_of(column: str | None) -> Where:
    return (*_column(column), "quality") if column else ("schema", 0, "quality")
