"""Finds rules that no input can break: they look like a guard and are none.

Belongs here: what follows from a rule, its column's type and the table's publish mode. Does not
belong here: whether a rule is well formed (model.py), or what it means on rows (rules.py).

What cannot be decided (most expressions, patterns with assertions) counts as able to fire.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spark_jobs.contract.model import Contract, Rule

# The expression of all text between two anchors, in the spellings that people use.
_ANYTHING = {r"[\s\S]*", r"[\S\s]*", r"[\d\D]*", r"[\w\W]*", r"(.|\n)*", r"(?:.|\n)*"}
# What makes a match depend on where in the text it stands.
_ASSERTION = re.compile(r"\\[AbBGZz]|\(\?[=!<]|\(\?P?[=(]|\\[1-9]|[$^]")

_KEYWORDS = {"true", "false", "null", "and", "or", "not", "is", "in", "between", "like", "as"}
_KEYWORDS |= {"case", "when", "then", "else", "end", "date", "timestamp"}


def idle(c: Contract, rule: Rule) -> str | None:
    """Why no row could ever break the rule, and what to do; None if one could."""
    spec, column = rule.spec, c.column.get(rule.column or "")
    gate_only = rule.severity == "warn" or rule.kind == "unique"
    if gate_only and rule.max_failing is not None and rule.max_failing >= 1:
        return "max_failing 1 allows every row to break it: give a smaller share, or drop it"
    match rule.kind:
        case "length" if not spec.min and spec.max is None:
            return "every text has at least 0 characters: give a min above 0, or a max"
        case "range" if column and _covers(spec, column.type):
            return f"its bounds hold every {column.type}: narrow them, or drop the rule"
        case "pattern" if _matches_everything(spec.pattern):
            return "the pattern is found in every text: narrow it, or drop the rule"
        case "unique" if c.keyed and set(c.key) <= set(spec.columns):
            return "publishing keeps the primary key unique, and these columns include it: drop it"
        case "expression" if constant := _constant(spec.expression, c):
            return f"{constant}: it is the same for every row"
    return None


def _covers(spec: Any, type_: str) -> bool:
    low, high = _domain(type_)
    below = spec.min is None or (
        Decimal(repr(spec.min)) < low or (Decimal(repr(spec.min)) == low and not spec.exclusive_min)
    )
    return below and (spec.max is None or Decimal(repr(spec.max)) >= high)


def _domain(type_: str) -> tuple[Decimal, Decimal]:
    if type_ in ("int", "bigint"):
        half = 2 ** (31 if type_ == "int" else 63)
        return Decimal(-half), Decimal(half - 1)
    precision, scale = map(int, type_[8:-1].split(","))
    most = Decimal((0, (9,) * precision, -scale))
    return -most, most


def _matches_everything(pattern: str) -> bool:
    """Without assertions, whether a pattern matches the empty text does not depend on the place;
    one that does is found in every text."""
    body = pattern[1:] if pattern.startswith("^") else pattern
    if body != pattern and body.endswith("$"):
        return body[:-1] in _ANYTHING
    body = body.removesuffix("$") if not body.endswith("\\$") else body
    plain = re.sub(r"\[\^", "[", body)  # a class that is negated asserts nothing
    return not _ASSERTION.search(plain) and re.fullmatch(body, "") is not None


def _constant(expression: str, c: Contract) -> str | None:
    """A comparison of a value with itself, or an expression that reads no column."""
    bare = re.sub(r"'(?:[^'\\]|\\.)*'", "''", expression)
    sides = re.fullmatch(r"\s*(\w+)\s*(?:=|==|<=|>=|<=>)\s*(\w+)\s*", bare)
    if sides and sides[1].lower() == sides[2].lower():
        return f"{sides[1]} is compared with itself"
    names = re.findall(r"\b[a-z_]\w*\b(?!\s*\()", bare.lower())  # without functions
    if (_KEYWORDS - {n.lower() for n in c.column}).issuperset(names):
        return "the expression reads no column"
    return None
