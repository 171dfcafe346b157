"""Contracts: what a valid one says, and what a person reads about an invalid one.

Not here: what a rule does to rows (test_rules.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml

from spark_jobs.contract import standard
from spark_jobs.contract.checks import KINDS
from spark_jobs.contract.document import supply_logical_types
from spark_jobs.contract.model import Rule
from spark_jobs.contract.reader import load_contract, load_contracts
from spark_jobs.contract.rules import RULES, Reference, Unique
from spark_jobs.errors import ContractError
from tests.lakes import bronze, column, contract, rule

PROJECT = Path(__file__).parents[2]
HISTORY = (column("valid_to", "timestamp"), column("is_current", "boolean"))


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "contracts"


def write(folder: Path, document: dict | str | bytes, file: str = "silver/feed.yaml") -> Path:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(document, dict):
        document = yaml.safe_dump(document, sort_keys=False)
    path.write_bytes(document.encode() if isinstance(document, str) else document)
    return path


def refused(folder: Path, document: dict | str | bytes) -> tuple[str, str]:
    """The line that the error points at, stripped, and what it says."""
    path = write(folder, document)
    with pytest.raises(ContractError) as caught:
        load_contract(path)
    place, _, what = str(caught.value).partition(": ")
    assert place.startswith(f"{path}:"), f"names no file: {caught.value}"
    line = int(place.removeprefix(f"{path}:"))
    return path.read_bytes().decode("latin-1").splitlines()[line - 1].strip(), what


def feed(*columns: dict, **more) -> dict:
    """A valid contract of silver.feed, to spoil."""
    columns = columns or (
        column("id", "bigint", key=1, of="bronze.feed.id"),
        column("code", "string", rule("accepted_values", values=["A", "B"])),
        column("at", "timestamp", required=True),
    )
    more = {"inputs": [{"table": "bronze.feed"}]} | more
    return contract("silver.feed", columns, **more)


def spoil(change: Callable[[dict], None]) -> dict:
    document = feed()
    change(document)
    return document


def test_every_contract_of_the_project_is_valid():
    files = (PROJECT / "contracts").glob("*/*.yaml")
    assert set(load_contracts(PROJECT / "contracts")) == {
        f"{f.parent.name}.{f.stem}" for f in files
    }


def test_a_contract_says_what_its_file_says(folder):
    found = load_contract(write(folder, feed(publish={"mode": "upsert", "sequence": "at"})))
    assert (found.table, found.version, found.key) == ("silver.feed", "1.0.0", ("id",))
    assert found.column["id"].type == "bigint" and found.column["id"].required
    assert found.column["code"].required is False
    assert found.publish.sequence == "at" and found.keyed
    assert found.upstream == ("bronze.feed",)
    assert [r.name for r in found.rules] == [
        "id_not_null",
        "at_not_null",
        "id_type",
        "code_accepted_values",
    ]


def test_a_composite_key_keeps_its_declared_order(folder):
    columns = column("b", "bigint", key=2), column("a", "bigint", key=1)
    assert load_contract(write(folder, feed(*columns))).key == ("a", "b")


RULE_BODIES = {
    "not_null": ("string", {}),
    "accepted_values": ("string", {"values": ["A"]}),
    "range": ("decimal(9,2)", {"min": 0, "max": 1, "exclusive_min": True}),
    "pattern": ("string", {"pattern": "^a+$"}),
    "length": ("string", {"min": 1, "max": 3}),
    "age": ("date", {"max_future_days": 1, "max_past_days": 3653}),
    "reference": ("bigint", {"table": "silver.parents", "column": "id"}),
    "expression": ("bigint", {"expression": "x > 0"}),
    "unique": ("bigint", {"columns": ["x"]}),
    "type": ("bigint", {"source": "bronze.feed.x"}),
}


def test_the_examples_cover_the_whole_vocabulary():
    assert RULE_BODIES.keys() == RULES.keys()


@pytest.mark.parametrize("kind", RULE_BODIES)
@pytest.mark.parametrize("severity", ["error", "warn"])
def test_every_kind_of_rule_parses(folder, kind, severity):
    type_, body = RULE_BODIES[kind]
    document = feed(column("x", type_, rule(kind, severity=severity, name="mine", **body)))
    (found,) = [r for r in load_contract(write(folder, document)).rules if r.name == "mine"]
    assert (found.kind, found.severity) == (kind, severity)
    assert found.spec.model_dump() == found.spec.model_dump() | {"rule": kind}


@pytest.mark.parametrize("kind", RULE_BODIES)
def test_every_kind_of_rule_refuses_a_key_that_it_does_not_know(folder, kind):
    type_, body = RULE_BODIES[kind]
    line, what = refused(folder, feed(column("x", type_, rule(kind, **body, colour="red"))))
    assert what == f"rule {kind}: unknown key 'colour'"
    assert line == "colour: red"


@pytest.mark.parametrize(
    ("kind", "body", "what"),
    [
        ("rang", {"min": 0}, "unknown rule 'rang'; known rules: accepted_values, age, expression,"
         " length, not_null, pattern, range, reference, type, unique"),
        ("range", {}, "rule range: give min, max or both: without a bound the rule cannot fail"),
        ("range", {"min": 5, "max": 1}, "rule range: min 5 is above max 1"),
        ("range", {"min": "low"}, "rule range: min: Input should be a valid number, unable to parse"
         " string as a number"),
        ("pattern", {"pattern": "a"}, "rule pattern cannot judge x, a bigint"),
        ("accepted_values", {"values": ["1"]}, "rule accepted_values: '1' is no bigint: mind the"
         " quotes"),
        ("range", {"min": 0, "max_failing": 5}, "rule range: max_failing 5 is not a share of rows, 0"
         " to 1"),
        ("reference", {"table": "silver.feed", "column": "x"}, "rule x_reference refers to its own"
         " table"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_work_is_refused(folder, kind, body, what):
    assert refused(folder, feed(column("x", "bigint", rule(kind, **body))))[1] == what


@pytest.mark.parametrize(
    ("kind", "body", "what"),
    [
        ("pattern", {"pattern": "("}, "rule pattern: pattern: not a regular expression: missing ),"
         " unterminated subpattern at position 0"),
        ("length", {}, "rule length: give min, max or both: without a bound the rule cannot fail"),
        ("accepted_values", {"values": []}, "rule accepted_values: values: Tuple should have at least"
         " 1 item after validation, not 0"),
        ("accepted_values", {"values": [False]}, "rule accepted_values: values.0.str: Input should be"
         " a valid string"),
        ("range", {"min": 0}, "rule range cannot judge x, a string"),
        ("unique", {"columns": ["y"]}, "rule x_unique: no column y"),
        ("age", {"max_past_days": 9}, "rule age cannot judge x, a string"),
        ("age", {}, "rule age: give max_future_days, max_past_days or both: without a bound the rule"
         " cannot fail"),
        ("age", {"max_past_days": -1}, "rule age: max_past_days: Input should be greater than or"
         " equal to 0"),
        ("age", {"max_future_days": 10**6}, "rule age: max_future_days: Input should be less than or"
         " equal to 365250"),
    ],
)  # fmt: skip
def test_a_rule_on_text_that_cannot_work_is_refused(folder, kind, body, what):
    assert refused(folder, feed(column("x", "string", rule(kind, **body))))[1] == what


HIGHEST = 2**63 - 1


@pytest.mark.parametrize(
    ("type_", "kind", "body", "why"),
    [
        ("string", "length", {"min": 0}, "every text has at least 0 characters"),
        ("int", "range", {"min": -(2**31)}, "its bounds hold every int"),
        ("bigint", "range", {"max": HIGHEST}, "its bounds hold every bigint"),
        ("decimal(4,2)", "range", {"min": -99.99, "max": 99.99}, "its bounds hold every decimal(4,2)"),
        ("string", "pattern", {"pattern": ""}, "the pattern is found in every text"),
        ("string", "pattern", {"pattern": ".*"}, "the pattern is found in every text"),
        ("string", "pattern", {"pattern": "^[a-z]*"}, "the pattern is found in every text"),
        ("string", "pattern", {"pattern": "[^a]?$"}, "the pattern is found in every text"),
        ("string", "pattern", {"pattern": r"^[\s\S]*$"}, "the pattern is found in every text"),
        ("bigint", "expression", {"expression": "true"}, "the expression reads no column"),
        ("bigint", "expression", {"expression": "1 = 1 or 'x' = 'id'"}, "the expression reads no"),
        ("bigint", "expression", {"expression": "x = X"}, "x is compared with itself"),
        ("bigint", "unique", {"columns": ["x", "id"]}, "publishing keeps the primary key unique"),
        ("bigint", "unique", {"columns": ["x"], "max_failing": 1}, "max_failing 1 allows every row"),
    ],
)  # fmt: skip
def test_a_rule_that_no_row_can_break_is_refused(folder, type_, kind, body, why):
    columns = [
        column("id", "bigint", key=1),
        column("x", type_, rule(kind, name="idle", **body)),
        column("at", "timestamp", required=True),
    ]
    line, what = refused(folder, feed(*columns, publish={"mode": "upsert", "sequence": "at"}))
    assert what.startswith(f"rule idle cannot fail: {why}")
    assert line == "quality:"


def test_a_warning_that_every_row_may_break_is_refused(folder):
    x = column("x", "bigint", rule("range", severity="warn", min=0, max_failing=1))
    assert refused(folder, feed(x))[1].startswith("rule x_range cannot fail: max_failing 1")


@pytest.mark.parametrize(
    ("type_", "kind", "body"),
    [
        ("string", "length", {"min": 0, "max": 9}),
        ("int", "range", {"min": -(2**31), "exclusive_min": True}),
        ("bigint", "range", {"max": 2**31}),
        ("decimal(4,2)", "range", {"max": 99.98}),
        ("string", "pattern", {"pattern": "^.*$"}),  # no line break
        ("string", "pattern", {"pattern": "^$"}),
        ("string", "pattern", {"pattern": r"\$"}),
        ("string", "pattern", {"pattern": "^(?!secret)"}),
        ("string", "pattern", {"pattern": r"\b"}),
        ("bigint", "expression", {"expression": "_input.x = 1"}),
        ("bigint", "unique", {"columns": ["x"]}),
        ("bigint", "range", {"min": 0, "max_failing": 1}),  # rows leave, however many
    ],
)
def test_a_rule_that_some_row_can_break_is_taken(folder, type_, kind, body):
    columns = [
        column("id", "bigint", key=1),
        column("x", type_, rule(kind, **body)),
        column("at", "timestamp", required=True),
    ]
    load_contract(write(folder, feed(*columns, publish={"mode": "upsert", "sequence": "at"})))


def test_an_age_needs_a_day_to_be_counted_from(folder):
    x = column("x", "date", rule("age", max_past_days=9))
    whole = {
        "partitioning": None,
        "physicalPartition": "none",
        "publish": {"mode": "snapshot"},
        "inputs": [{"table": "bronze.feed", "read": "lookup"}],
    }
    line, what = refused(folder, feed(x, **whole))
    assert what == (
        "rule x_age: an age is counted from the day of the row's partition, and the table has no"
        " partitioning"
    )
    assert line == "quality:"


def test_a_rule_needs_a_column_to_judge(folder):
    _, what = refused(folder, feed(rules=[rule("not_null")]))
    assert what == "rule not_null is about a column: write it below that column"


def test_two_rules_need_two_names(folder):
    twice = column("x", "bigint", rule("range", min=0), rule("range", max=9))
    line, what = refused(folder, feed(twice))
    assert what == "rule x_range is declared twice: give it a name"
    assert line == "quality:"


def test_a_severity_is_error_or_warn(folder):
    _, what = refused(folder, feed(column("x", "bigint", rule("not_null", severity="fatal"))))
    assert what == "rule not_null: severity must be error or warn"


def test_a_rule_on_a_bronze_table_is_refused_and_not_left_undone(folder):
    path = write(folder, bronze("feed", "json", column("x", "string", rule("not_null"))),
                 "bronze/feed.yaml")  # fmt: skip
    with pytest.raises(ContractError, match=r"feed.yaml:\d+: rule x_not_null: bronze keeps rows"):
        load_contract(path)


def test_columns_of_a_source_that_differ_in_signs_only_cannot_both_be_checked(folder):
    columns = [column(n, "bigint") for n in ("a b", "日", "本", "a-b")]
    path = write(folder, bronze("feed", "parquet", *columns), "bronze/feed.yaml")
    with pytest.raises(ContractError, match="columns a b and a-b differ in signs only"):
        load_contract(path)
    write(folder, bronze("feed", "parquet", *columns[:3]), "bronze/feed.yaml")
    names = [c.type_check for c in load_contract(path).columns]
    assert names == ["a_b_type", "u65e5_type", "u672c_type"]


def classed(class_: object, name: str = "email", **more: object) -> dict:
    return column(name, **more) | {"classification": class_}


def with_column(extra: dict) -> dict:
    return spoil(lambda d: d["schema"][0]["properties"].append(extra))


NOT_PERSONAL = [{"property": "notPersonal", "value": "a count of people"}]
SPOILED = {
    "a class in capitals": (
        with_column(classed("PII")), "classification: PII",
        "column email: classification 'PII' is not known; use one of public, internal,"
        " confidential, restricted, pii",
    ),
    "a class of no name": (
        with_column(classed("")), "classification: ''",
        "column email: classification '' is not known; use one of public, internal,"
        " confidential, restricted, pii",
    ),
    "a logical type that is not the physical one": (
        with_column(column("n", "bigint") | {"logicalType": "string"}), "logicalType: string",
        "column n: logicalType string contradicts physicalType bigint, which is integer",
    ),
    "a list that is called a text": (
        with_column(column("n", "array<string>") | {"logicalType": "string"}),
        "logicalType: string",
        "column n: logicalType string contradicts physicalType array<string>, which is array",
    ),
    "a class of the rest in capitals": (
        feed(classification="Internal"), "value: Internal",
        "classification 'Internal' is not known; use one of public, internal, confidential,"
        " restricted, pii",
    ),
    "a column that sounds personal and is left to the rest": (
        feed(column("id", "bigint", key=1), column("EMail"), classification="internal"),
        "- name: EMail", "column EMail would be internal as all that say nothing, and its name says"
        " personal data: give it a classification of its own, internal if it is that",
    ),
    "no reason why a column is not personal": (
        with_column(column("n") | {"customProperties": [{"property": "notPersonal", "value": ""}]}),
        "customProperties:", "column n: notPersonal says why, in words",
    ),
    "a column that is personal and is not": (
        with_column(classed("pii") | {"customProperties": NOT_PERSONAL}),
        "customProperties:", "column email: is pii and notPersonal; it can be one",
    ),
    "a misspelt custom property of a column": (
        with_column(column("n") | {"customProperties": [{"property": "notPersnal", "value": "x"}]}),
        "customProperties:",
        "column n: customProperties: 'notPersnal' is not known; there is notPersonal",
    ),
    "a misspelt key": (
        spoil(lambda d: d.update(versoin="1.0.0")), "versoin: 1.0.0",
        "Additional properties are not allowed ('versoin' was unexpected)",
    ),
    "a misspelt key of a column": (
        spoil(lambda d: d["schema"][0]["properties"][1].update(requierd=True)), "requierd: true",
        "Unevaluated properties are not allowed ('requierd' was unexpected)",
    ),
    "a misspelt custom property": (
        spoil(lambda d: d["customProperties"].append({"property": "gate", "value": {}})),
        "- property: gate", "customProperties: gate: {} is not known; there are source, publish,"
        " inputs, gates, classification, partitioning (daily, hourly), grain (row, aggregate), engine"
        " (sail, spark), runner (embedded, process, emr, databricks), physicalPartition,"
        " lookbackDays (a whole number of days), warehouse",
    ),
    "a misspelt threshold": (
        spoil(lambda d: d["customProperties"].append({"property": "gates", "value": {"min_row": 1}})),
        "min_row: 1", "gates: unknown key 'min_row'",
    ),
    "an unknown partitioning": (
        feed(partitioning="weekly"), "- property: partitioning",
        "customProperties: partitioning: 'weekly' is not known; there are source, publish, inputs,"
        " gates, classification, partitioning (daily, hourly), grain (row, aggregate), engine"
        " (sail, spark), runner (embedded, process, emr, databricks), physicalPartition,"
        " lookbackDays (a whole number of days), warehouse",
    ),
    "no publish mode": (
        spoil(lambda d: d["customProperties"].pop(0)), "customProperties:",
        "property publish is missing: it says how rows land",
    ),
    "an unknown publish mode": (
        feed(publish={"mode": "append"}), "mode: append",
        "publish: mode: Input should be 'replace_partition', 'upsert', 'scd2' or 'snapshot'",
    ),
    "no version": (
        spoil(lambda d: d.pop("version")), "apiVersion: v3.1.0",
        "'version' is a required property",
    ),
    "a version of two numbers": (
        feed(version="1.0"), "version: '1.0'", "version must be three numbers such as 1.0.0",
    ),
    "no owner": (
        spoil(lambda d: d.update(team={"description": "us"})), "team:", "team.name is missing",
    ),
    "another table's name": (
        spoil(lambda d: d.update(id="silver.other")), "id: silver.other",
        "id silver.other belongs in a file silver/other.yaml",
    ),
    "an unknown layer": (
        spoil(lambda d: d.update(id="copper.feed")), "id: copper.feed",
        "id must be <layer>.<table> with layer one of bronze, silver, gold",
    ),
    "no columns": (feed(), "", ""),
    "a column twice": (
        feed(column("id", "bigint"), column("id", "bigint")), "- name: id",
        "column id is declared twice (names are the same in any case)",
    ),
    "a column twice in other cases": (
        feed(column("id", "bigint"), column("ID", "bigint")), "- name: ID",
        "column ID is declared twice (names are the same in any case)",
    ),
    "a platform's column name": (
        feed(column("_id", "bigint")), "- name: _id",
        "column _id: names that begin with _ are the platform's",
    ),
    "a column without description": (
        spoil(lambda d: d["schema"][0]["properties"][0].pop("description")), "- name: id",
        "column id has no description",
    ),
    "an unknown type": (
        spoil(lambda d: d["schema"][0]["properties"][0].update(physicalType="int64")),
        "physicalType: int64", "column id: physicalType 'int64' is not supported; use string, int,"
        " bigint, boolean, date, timestamp, decimal(p,s) or an array",
    ),
    "an impossible decimal": (
        spoil(lambda d: d["schema"][0]["properties"][0].update(physicalType="decimal(5,9)")),
        "physicalType: decimal(5,9)", "column id: physicalType 'decimal(5,9)' is not supported; use"
        " string, int, bigint, boolean, date, timestamp, decimal(p,s) or an array",
    ),
    "a rule that no check can be named after": (
        feed(column("Order Id", "bigint", required=True)), "- name: Order Id",
        "rule Order Id_not_null: a check is named by letters, digits and underscores: give the rule or"
        " the column such a name",
    ),
    "an upsert without key": (
        feed(column("x", "bigint", required=True), publish={"mode": "upsert", "sequence": "x"}),
        "- property: publish", "mode upsert needs a key and a sequence",
    ),
    "an upsert without sequence": (
        feed(publish={"mode": "upsert"}), "- property: publish",
        "mode upsert needs a key and a sequence",
    ),
    "an unknown sequence": (
        feed(publish={"mode": "upsert", "sequence": "later"}), "- property: publish",
        "publish: column later is not in the schema",
    ),
    "a sequence that may be null": (
        feed(column("id", "bigint", key=1), column("at", "timestamp"),
             publish={"mode": "upsert", "sequence": "at"}), "- name: at",
        "column at: a key or sequence of mode upsert must be required",
    ),
    "a delete mark that is no truth value": (
        feed(publish={"mode": "upsert", "sequence": "at", "delete_column": "code"}),
        "- property: publish", "publish: delete_column code must be boolean",
    ),
    "history without validity": (
        feed(column("id", "bigint", key=1), column("at", "timestamp", key=2),
             publish={"mode": "scd2", "sequence": "at"}), "- name: feed",
        "mode scd2 needs columns valid_to (timestamp) and is_current (boolean)",
    ),
    "history with one version per key": (
        feed(column("id", "bigint", key=1), column("at", "timestamp", required=True), *HISTORY,
             publish={"mode": "scd2", "sequence": "at"}), "- property: publish",
        "mode scd2 keeps every version of a key: sequence at must be part of the primary key, beside"
        " the columns that name the entity",
    ),
    "a snapshot of parts": (
        feed(publish={"mode": "snapshot"}), "- property: publish",
        "mode snapshot replaces the whole table, so the table has no partitioning",
    ),
    "a physical partition that is no date": (
        feed(physicalPartition="id"), "- property: physicalPartition",
        "physicalPartition id must be a required date column of the schema",
    ),
    "a place in the warehouse by no column": (
        feed(warehouse={"distribution": "id", "sort": ["at_"]}), "- property: warehouse",
        "warehouse: there is no column at_",
    ),
    "an arrival date without arrivals": (
        feed(partitioning=None), "customProperties:",
        "a table without partitioning needs physicalPartition: none",
    ),
    "an aggregate without key": (
        feed(column("n", "bigint"), grain="aggregate"), "- name: feed",
        "grain aggregate needs a primary key",
    ),
    "touched rows by no column": (
        feed(inputs=[{"table": "bronze.feed", "read": "touched"}]), "- table: bronze.feed",
        "input bronze.feed: read: touched, and only that, names a column by",
    ),
    "another input read by slices": (
        feed(inputs=[{"table": "bronze.feed"},
                     {"table": "bronze.more", "read": "touched", "by": "day"}]),
        "- table: bronze.more", "input bronze.more: only the first one is read by what it touched",
    ),
    "two driving inputs of an aggregate": (
        feed(column("n", "bigint", key=1), grain="aggregate",
             inputs=[{"table": "bronze.feed"}, {"table": "bronze.more"}]), "- table: bronze.more",
        "input bronze.more: it drives the batch too only where the first one is read by its changes,"
        " and the grain is row; else read: lookup",
    ),
    "a source of a silver table": (
        feed(source={"dataset": "feed", "format": "csv", "system": "test"}), "customProperties:",
        "bronze tables, and only they, have a source",
    ),
    "an objective that is no number": (
        spoil(lambda d: d.update(slaProperties=[{"property": "latency", "value": "soon"}])),
        "- property: latency", "latency: 'soon' is not a number",
    ),
}  # fmt: skip
SPOILED["no columns"] = (
    spoil(lambda d: d["schema"][0].update(properties=[])),
    "- name: feed",
    "the table has no properties (columns)",
)


@pytest.mark.parametrize("fault", SPOILED)
def test_a_fault_is_named_with_the_line_to_mend(folder, fault):
    document, line, what = SPOILED[fault]
    assert refused(folder, document) == (line, what)


def test_a_key_that_is_there_twice_is_not_settled_in_silence(folder):
    text = yaml.safe_dump(feed(), sort_keys=False)
    text = text.replace("status: active", "status: active\nversion: 9.9.9")
    assert refused(folder, text) == ("version: 9.9.9", "key version is there twice")


def test_a_typed_column_of_a_text_source_is_refused(folder):
    path = write(folder, bronze("feed", "csv", column("x", "bigint")), "bronze/feed.yaml")
    with pytest.raises(ContractError, match="column x: a csv source delivers strings"):
        load_contract(path)


def test_a_file_that_is_no_yaml(folder):
    assert refused(folder, "id: silver.feed\nschema: [1,\n# end") == (
        "# end", "not valid YAML: did not find expected node content",
    )  # fmt: skip


def test_a_file_that_is_no_mapping(folder):
    assert refused(folder, "- 1\n") == (
        "- 1", "a contract is a mapping that begins with apiVersion and kind",
    )  # fmt: skip


def test_a_file_that_is_not_utf_8(folder):
    _, what = refused(folder, yaml.safe_dump(feed()).encode() + b"# caf\xe9\n")
    assert what == "not UTF-8 text (invalid continuation byte)"


def test_a_file_that_is_missing(folder):
    with pytest.raises(ContractError, match=r"orders.yaml: contract not found; .* create the file"):
        load_contract(folder / "silver" / "orders.yaml")


# -- between contracts -------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_no_rule_takes_the_name_of_a_platform_check(folder, name):
    taken = rule("range", min=0, max=9) | {"name": name}
    what = refused(folder, feed(column("x", "bigint", taken)))[1]
    assert what == f"rule {name} has the name of a platform's check"


def refused_together(folder: Path, *documents: dict) -> tuple[str, str]:
    for document in documents:
        layer, _, name = document["id"].partition(".")
        write(folder, document, f"{layer}/{name}.yaml")
    with pytest.raises(ContractError) as caught:
        load_contracts(folder)
    place, _, what = str(caught.value).partition(": ")
    path, _, line = place.rpartition(":")
    return Path(path).read_text().splitlines()[int(line) - 1].strip(), what


FEED = bronze("feed", "json", column("id", required=True), column("code"), column("at"))


def test_a_folder_without_contracts(folder):
    with pytest.raises(ContractError, match="no contracts found"):
        load_contracts(folder)


def test_contracts_come_upstream_first(folder):
    for document, file in ((feed(), "silver/feed.yaml"), (FEED, "bronze/feed.yaml")):
        write(folder, document, file)
    assert list(load_contracts(folder)) == ["bronze.feed", "silver.feed"]


def test_an_input_without_contract(folder):
    assert refused_together(folder, feed()) == (
        "- table: bronze.feed", "silver.feed reads bronze.feed, which has no contract",
    )  # fmt: skip


def test_a_source_column_that_nobody_declares(folder):
    document = feed(column("id", "bigint", of="bronze.feed.idd"))
    assert refused_together(folder, FEED, document) == (
        "transformSourceObjects:",
        "column id comes from bronze.feed.idd, which no contract declares",
    )


@pytest.mark.parametrize("target", [("silver.gone", "id"), ("bronze.feed", "gone")])
def test_a_reference_to_something_that_nobody_declares(folder, target):
    table, name = target
    document = feed(column("id", "bigint", rule("reference", table=table, column=name)))
    assert refused_together(folder, FEED, document) == (
        "quality:", f"rule id_reference refers to {table}.{name}, which no contract declares",
    )  # fmt: skip


def test_a_reference_to_the_column_that_the_values_were_copied_from(folder):
    refers = rule("reference", table="bronze.feed", column="id")
    assert refused_together(folder, FEED, feed(column("id", "string", refers, of="bronze.feed.id"))) == (
        "quality:",
        "rule id_reference cannot fail: column id is copied from bronze.feed.id, so every value is"
        " there: drop it",
    )  # fmt: skip


def test_touched_rows_by_a_column_that_the_input_lacks(folder):
    document = feed(inputs=[{"table": "bronze.feed", "read": "touched", "by": "day"}])
    assert refused_together(folder, FEED, document) == (
        "- table: bronze.feed", "input bronze.feed has no column day",
    )  # fmt: skip


PEOPLE = bronze("people", "json", column("id"), classed("pii"))


def people(*columns: dict, layer: str = "silver", of: str = "bronze.people") -> dict:
    key = column("id", "string", key=1)
    return contract(f"{layer}.people", [key, *columns], inputs=[{"table": of}])


def test_a_column_that_reads_a_personal_one_is_not_called_internal(folder):
    copied = classed("internal", "contact", of="bronze.people.email")
    line, what = refused_together(folder, PEOPLE, people(copied))
    assert line == "classification: internal"
    assert what.startswith("column contact reads bronze.people.email, which is personal")


def test_a_column_that_is_left_to_the_class_of_the_rest_is_called_by_it(folder):
    """Whoever says `internal` of the rest has said it of this column too."""
    document = people(column("contact", of="bronze.people.email"))
    document["customProperties"].append({"property": "classification", "value": "internal"})
    line, what = refused_together(folder, PEOPLE, document)
    assert line == "- name: contact"
    assert what.startswith("column contact reads bronze.people.email, which is personal")


def test_columns_that_say_nothing_have_the_class_of_the_rest_or_none(folder):
    silent = load_contract(write(folder, feed(column("id"), classed("public", "code"))))
    assert silent.concealed == {"id", "_rescued"}, "masked where nobody said anything"
    said = feed(column("id"), classed("pii", "code"), classification="internal")
    found = load_contract(write(folder, said))
    assert (found.column["id"].classification, found.column["code"].pii) == ("internal", True)
    assert found.concealed == {"code", "_rescued"}


def test_a_column_without_logical_type_is_valid(folder):
    """The newest schema of the standard takes it for a map."""
    document = feed()
    for prop in document["schema"][0]["properties"]:
        del prop["logicalType"]
    assert load_contract(write(folder, document)).column["id"].type == "bigint"


def test_a_column_that_says_nothing_and_reads_a_personal_one_is_personal_all_the_way_down(folder):
    first = people(column("contact", of="bronze.people.email"))
    second = people(column("who", of="silver.people.contact"), layer="gold", of="silver.people")
    for document in (PEOPLE, first, second):
        write(folder, document, f"{document['id'].replace('.', '/')}.yaml")
    found = load_contracts(folder)
    assert found["silver.people"].column["contact"].pii
    assert found["gold.people"].column["who"].pii


def test_a_contract_can_say_why_a_column_that_reads_a_personal_one_is_not(folder):
    counted = classed("internal", "contacts", of="bronze.people.email")
    for document in (PEOPLE, people(counted | {"customProperties": NOT_PERSONAL})):
        write(folder, document, f"{document['id'].replace('.', '/')}.yaml")
    found = load_contracts(folder)["silver.people"].column["contacts"]
    assert (found.pii, found.not_personal) == (False, "a count of people")


def test_slices_that_are_read_and_replaced_by_columns_of_two_types(folder):
    document = feed(
        column("day", "date", key=1),
        inputs=[{"table": "bronze.feed", "read": "touched", "by": "id"}],
        publish={"mode": "replace_partition", "column": "day"},
    )
    line, what = refused_together(folder, FEED, document)
    assert line == "- table: bronze.feed"
    assert what == (
        "input bronze.feed is read by id, string, and slices of day, date, are replaced: they must be"
        " of one type"
    )


def test_tables_that_read_each_other(folder):
    def reading(name: str, other: str) -> dict:
        return contract(f"silver.{name}", [column("id", "bigint")],
                        inputs=[{"table": f"silver.{other}"}])  # fmt: skip

    line, what = refused_together(folder, reading("a", "b"), reading("b", "c"), reading("c", "a"))
    assert line == "- property: inputs"
    assert what.startswith("tables read each other: ")
    chain = what.removeprefix("tables read each other: ").split(" <- ")
    assert len(chain) == 4 and chain[0] == chain[-1]
    assert "silver.a <- silver.b" in " <- ".join(chain * 2), "the arrow points from input to reader"


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [
        ({"kind": "oracle"}, "kind: oracle", "source: kind 'oracle' is not known; there are files,"),
        ({"kind": "salesforce", "object": "Account", "table": "x"}, "table: x", "unknown key 'table'"),
        ({"kind": "snowflake", "table": "a; drop"}, "table: a; drop", "table: String should match"),
        ({"kind": "snowflake", "table": "a", "modified": "x y"}, "modified: x y", "modified: String"),
        ({"kind": "snowflake", "table": "a", "overlap": "P9D"}, "overlap: P9D", "less than or equal"),
        ({"kind": "kinesis", "format": "json"}, "value:", "stream: Field required"),
        ({"kind": "fx_api", "base": "euro"}, "base: euro", "base: String should match"),
        ({}, "value:", "system: Field required"),
    ],
    ids=lambda x: str(x)[:30],
)  # fmt: skip
def test_a_source_of_an_unknown_kind_or_with_an_unknown_option_is_named_with_its_line(
    folder, source, line, said
):
    document = bronze("feed", "parquet", column("id"))
    written = document["customProperties"][1]
    assert written["property"] == "source"
    written["value"] = {"dataset": "feed", "format": "parquet", **source}
    path = write(folder, document, "bronze/feed.yaml")
    with pytest.raises(ContractError) as caught:
        load_contract(path)
    place, _, what = str(caught.value).partition(": ")
    assert path.read_text().splitlines()[int(place.rpartition(":")[2]) - 1].strip() == line
    assert said in what


def test_the_sources_of_the_project_say_what_they_are():
    sources = {c.source.dataset: c.source for c in load_contracts(PROJECT / "contracts").values()
               if c.source}  # fmt: skip
    assert {s.kind for s in sources.values()} >= {"snowflake", "redshift", "salesforce", "fx_api"}
    assert (sources["fx_rates"].system, sources["orders"].system) == ("ecb", "snowflake")


def test_tables_that_read_one_dataset_say_the_same_of_it(folder):
    first = bronze("feed", "parquet", column("id"))
    second = {**bronze("feed", "csv", column("id")), "id": "bronze.other"}
    for document in (first, second):
        write(folder, document, document["id"].replace(".", "/") + ".yaml")
    with pytest.raises(ContractError, match=r"other.yaml:\d+: bronze.feed reads dataset feed too"):
        load_contracts(folder)
    write(folder, {**first, "id": "bronze.other"}, "bronze/other.yaml")
    assert set(load_contracts(folder)) == {"bronze.feed", "bronze.other"}


def test_what_a_contract_does_not_have_is_an_error_and_no_empty_name():
    contracts = load_contracts(PROJECT / "contracts")
    delivered = {t for t, c in contracts.items() if c.layer == "bronze"}
    keyed = {t for t, c in contracts.items() if c.keyed}
    assert delivered and keyed and not delivered & keyed
    for table, c in contracts.items():
        if table in delivered:
            assert c.delivered is c.source
        else:
            with pytest.raises(TypeError, match=f"{table} is made of tables"):
                _ = c.delivered
        if table in keyed:
            assert c.sequence in c.column
        else:
            with pytest.raises(TypeError, match=f"{table}: mode {c.publish.mode} has no sequence"):
                _ = c.sequence


def test_rules_of_a_kind_come_with_its_parameters_and_with_their_column():
    contracts = load_contracts(PROJECT / "contracts")
    for c in contracts.values():
        of_kinds = [r for spec in RULES.values() for r, _ in c.rules_of(spec)]
        assert sorted(r.name for r in of_kinds) == sorted(r.name for r in c.rules)
        for of, spec in c.rules_of(Reference):
            assert of.spec is spec and of.about in c.column
    whole = Rule("one_code", "warn", Unique(rule="unique", columns=("code",)))
    with pytest.raises(TypeError, match="rule one_code is about the whole row"):
        _ = whole.about


def test_a_document_is_judged_as_the_standards_own_schema_judges_it():
    """Also one with an unknown property, wherever that is: most objects are let pass at once."""
    quick = standard.validator()
    thorough = jsonschema.validators.validator_for(quick.schema)(quick.schema)
    document = yaml.safe_load((PROJECT / "contracts/silver/fx_rates.yaml").read_text())
    supply_logical_types(document)
    assert quick.is_valid(document) and thorough.is_valid(document)
    refusals = 0
    for place in mappings(document):
        place["unheardOf"] = 1
        assert quick.is_valid(document) == thorough.is_valid(document), place
        refusals += not quick.is_valid(document)
        del place["unheardOf"]
    assert refusals > 10


def test_a_document_that_meets_the_standard_is_asked_about_once(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    document = {**yaml.safe_load((PROJECT / "contracts/silver/fx_rates.yaml").read_text())}
    supply_logical_types(document)
    refused = document | {"version": 3}
    thorough, asked = standard.validator(), []

    class Counting:
        def iter_errors(self, of: object) -> Iterator:
            asked.append(of)
            return thorough.iter_errors(of)

    monkeypatch.setattr(standard, "validator", Counting)
    assert standard.first_unmet(document) is standard.first_unmet(document) is None
    assert asked == [document]
    for _ in range(2):  # what is refused is not remembered
        assert "3 is not of type 'string'" in standard.first_unmet(refused).message
    assert asked == [document, refused, refused]
    assert standard.first_unmet(document | {"version": "9.9.9"}) is None
    assert len(asked) == 4, "another document, although it is of the same name"


@pytest.mark.parametrize("judge", ["_schema", "_library", "_code"])
def test_what_another_judge_has_let_pass_is_judged_anew(monkeypatch, tmp_path, judge):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    document = {**yaml.safe_load((PROJECT / "contracts/silver/fx_rates.yaml").read_text())}
    supply_logical_types(document)
    assert standard.first_unmet(document) is None
    strict = jsonschema.Draft201909Validator({"not": {}})
    monkeypatch.setattr(standard, "validator", lambda: strict)
    assert standard.first_unmet(document) is None
    monkeypatch.setattr(standard, judge, lambda: b"another")
    assert standard.first_unmet(document) is not None


def test_a_document_is_judged_where_nothing_can_be_remembered(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    document = yaml.safe_load((PROJECT / "contracts/silver/fx_rates.yaml").read_text())
    supply_logical_types(document)
    assert standard.first_unmet(document) is None
    assert standard.first_unmet(document | {"version": 3}) is not None


def mappings(node: object) -> Iterator[dict]:
    """Every mapping in a document."""
    if isinstance(node, dict):
        yield node
    inside = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for value in inside:
        yield from mappings(value)
