"""The code of a draft: the transform, and its test.

Belongs here: Python as the formatter writes it. Does not belong here: what is proposed (proposal.py).
No value of a row is written: the test makes up its own.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator

from spark_jobs.draft.inference import Column
from spark_jobs.draft.proposal import Proposal, title

_WIDTH, _LONGEST = 100, 105  # of a line: the formatter's, and the linter's


def transform(p: Proposal) -> str:
    terms = [t for c in p.columns for t in _term(c, p.names[c.name])]
    used = sorted({c.read for c in p.columns} - {"copy"})
    functions = (
        ["from pyspark.sql import functions as F"] if "copy" in {c.read for c in p.columns} else []
    )
    body = "\n".join(_measured(f"        {t}") for t in terms)
    imports = "\n".join(["from pyspark.sql import DataFrame", *functions])
    return f'''"""{title(p)}, each column in its type."""

{imports}

from spark_jobs.columns import {", ".join(["LINEAGE", *used])}


def transform({p.name}: DataFrame) -> DataFrame:
    """One row per delivered row."""
    return {p.name}.select(
        *LINEAGE,
{body}
    )
'''


def _term(c: Column, name: str) -> list[str]:
    """A term of the select, broken as the formatter breaks it."""
    function, arguments = {
        "copy": ("F.col", [_text(c.name)]),
        "number": ("number", [_text(c.name), _text(c.type)]),
    }.get(c.read, (c.read, [_text(c.name)]))
    inner, alias = ", ".join(arguments), _text(name)
    room = _WIDTH - 8
    if _width(f"{function}({inner}).alias({alias}),") <= room:
        return [f"{function}({inner}).alias({alias}),"]
    if _width(f"{function}({inner}).alias(") <= room:
        return [f"{function}({inner}).alias(", f"    {alias}", "),"]
    lines = [f"    {inner}"]
    if _width(lines[0]) > room and len(arguments) > 1:
        lines = [f"    {a}," for a in arguments]
    if _width(f").alias({alias}),") <= room:
        return [f"{function}(", *lines, f").alias({alias}),"]
    return [f"{function}(", *lines, ").alias(", f"    {alias}", "),"]


def unit_test(p: Proposal) -> str:
    """A test that gives each column a value of its type, and one that is of none."""
    given = {c.name: _example(c, delivered=True) for c in p.columns}
    expected = {p.names[c.name]: _example(c, delivered=False) for c in p.columns}
    typed = [c for c in p.columns if c.read not in ("text", "copy")]
    types = {c.name: _text(c.delivered) for c in p.columns}
    tests = _TEST.format(
        title=title(p),
        imports="\n".join(_imports([*given.values(), *expected.values()])),
        name=p.name,
        types=_dict(types),
        given=_dict(given),
        expected=_dict(expected),
    )
    if typed:
        tests += _LOST.format(wrong=_dict({c.name: _text("?") for c in typed}, "    "))
    return tests


_TEST = '''"""{title}: what a delivered row becomes."""

{imports}
from spark_jobs.tables.silver.{name} import transform

TYPES = {types}
DELIVERED = {given}
TYPED = {expected}


def becomes(sail, delivered):
    """The row that a delivered one becomes."""
    names = ", ".join(f"`{{name}}` {{type_}}" for name, type_ in TYPES.items())
    schema = f"_partition string, _arrival_date date, _input string, {{names}}"
    values = [("2026-10-05", None, None, *(delivered[name] for name in TYPES))]
    (row,) = transform(sail.spark.createDataFrame(values, schema)).toArrow().to_pylist()
    return {{name: value for name, value in row.items() if not name.startswith("_")}}


def test_each_column_gets_its_type(sail):
    assert becomes(sail, DELIVERED) == TYPED


def test_a_row_without_values_has_none(sail):
    assert set(becomes(sail, dict.fromkeys(TYPES)).values()) == {{None}}
'''

_LOST = """

def test_what_is_not_of_its_type_is_lost_for_a_rule_to_see(sail):
    wrong = {wrong}
    found = becomes(sail, DELIVERED | wrong)
    assert [n for n in TYPED if found[n] is None] == [
        new for new, name in zip(TYPED, TYPES, strict=True) if name in wrong
    ]
"""


def _example(c: Column, *, delivered: bool) -> str:
    """A value of a column as Python writes it: as it may be delivered, and as it should become."""
    text = delivered and c.delivered == "string"
    match c.type.partition("(")[0]:
        case "string":
            return _text("  a text " if delivered and c.read == "text" else "a text")
        case "int" | "bigint":
            return _text(" 42 ") if text else "42"
        case "decimal":
            scale = int(c.type.rstrip(")").partition(",")[2])
            exact = "7" if scale == 0 else f"7.{'5'.ljust(scale, '0')}"
            return _text(exact) if text else f"Decimal({_text(exact)})"
        case "boolean":
            return _text("TRUE") if text else "True"
        case "date":
            return _text("2026-10-05") if text else "date(2026, 10, 5)"
        case "timestamp":
            return _text("2026-10-05T12:30:00Z") if text else (
                "datetime(2026, 10, 5, 12, 30, tzinfo=UTC)"
            )  # fmt: skip
    return "[]"


def _imports(values: list[str]) -> Iterator[str]:
    """What the values need, as the linter sorts it."""
    text = "\n".join(values)
    uses = {"UTC": r"=UTC\)", "date": r"^date\(", "datetime": r"^datetime\("}
    times = [name for name, use in uses.items() if re.search(use, text, re.MULTILINE)]
    if times:
        yield f"from datetime import {', '.join(times)}"
    if decimal := re.search(r"^Decimal\(", text, re.MULTILINE):
        yield "from decimal import Decimal"
    if times or decimal:
        yield ""


def _dict(values: dict[str, str], indent: str = "") -> str:
    """A dict, one entry a line."""
    lines = [line for k, v in values.items() for line in _entry(f"{_text(k)}: {v},", v)]
    return "\n".join(["{", *(_measured(f"{indent}    {line}") for line in lines), f"{indent}}}"])


def _entry(entry: str, value: str) -> list[str]:
    """An entry of a dict; a call that is too long for its line is broken within its parentheses."""
    arguments = value.partition("(")[2]
    if _width(entry) <= _WIDTH - 4 or not arguments or value.startswith(("'", '"')):
        return [entry]
    return [entry.removesuffix(f"{arguments},"), f"    {arguments[:-1]}", "),"]


def _measured(line: str) -> str:
    too_long = _width(line) > _LONGEST and len(line.split()) > 1  # one word may be as long as it is
    return f"{line}  # noqa: E501" if too_long else line


def _text(value: str) -> str:
    """A literal of Python, in the quotes that the formatter takes: those with fewer escapes."""
    double = json.dumps(value, ensure_ascii=False)
    if value.count('"') <= value.count("'"):
        return double
    return "'" + double[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"


def _width(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)
