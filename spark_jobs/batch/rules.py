"""What each row-level rule of a contract means, as a column that is true where a row breaks it.

Belongs here: the meaning of the rule vocabulary on rows. Does not belong here: thresholds over a
partition (gate.py), or what happens to a row that breaks a rule (audit.py).

Every rule but not_null and type passes on null, as SQL check constraints do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from spark_jobs.contract.model import Contract, Rule

if TYPE_CHECKING:
    from pyspark.sql import Column

REFERENCE_MARK = "_references_{}"


def row_rules(contract: Contract) -> Iterator[Rule]:
    """The rules that are decided row by row; uniqueness is decided over all rows of a batch."""
    return (r for r in contract.rules if r.kind != "unique")


def broken(rule: Rule) -> Column:
    """True where a row breaks `rule`, false elsewhere, never null.

    The frame holds the table's columns, `_input` (the source record, for type rules), `_partition`
    (the arrival window, for age rules) and one mark per reference rule (REFERENCE_MARK, true where
    the referenced key exists).
    """
    from pyspark.sql import functions as F

    spec = rule.spec
    column = F.col(rule.column) if rule.column else None
    match rule.kind:
        case "not_null":
            return column.isNull()
        case "type":
            source = F.col(f"_input.{spec.source.rpartition('.')[2]}").cast("string")
            return (F.trim(F.coalesce(source, F.lit(""))) != "") & column.isNull()
        case "accepted_values":
            condition = column.isin(*spec.values)
        case "range":
            condition = _within(column, spec)
        case "pattern":
            condition = column.rlike(portable(spec.pattern))
        case "length":
            size = F.length(column)
            condition = size >= spec.min
            if spec.max is not None:
                condition = condition & (size <= spec.max)
        case "age":
            condition = _near(F.to_date(column), spec)
        case "reference":
            mark = F.col(REFERENCE_MARK.format(rule.name))
            return column.isNotNull() & mark.isNull()
        case "expression":
            condition = F.expr(spec.expression)
    return ~F.coalesce(condition, F.lit(True))


# Outside of a class; within one, what stands between the brackets.
_CLASSES = {"d": "[0-9]", "s": r"[ \t\n\x0B\f\r]", "w": "[A-Za-z0-9_]"}
_CLASSES |= {name.upper(): f"[^{chars[1:]}" for name, chars in _CLASSES.items()}


def portable(pattern: str) -> str:
    """A pattern that means the same on every engine: `\\d`, `\\s` and `\\w` are ASCII, `.` is all
    but a newline, `$` is the very end and not also before a last newline. A pattern with flags of
    its own is left as it is."""
    if re.search(r"\(\?[a-zA-Z]", pattern):
        return pattern
    out, depth = [], 0
    for token in re.findall(r"\\.|.", pattern, re.DOTALL):
        if token == "[":
            depth += 1
        elif token == "]" and depth:
            depth -= 1
        elif token[0] == "\\" and token[1:] in _CLASSES:
            chars = _CLASSES[token[1:]]
            token = chars[1:-1] if depth and token[1].islower() else chars
        elif not depth:
            token = {"$": r"\z", ".": r"[^\n]"}.get(token, token)
        out.append(token)
    return "".join(out)


def _within(column: Column, spec: object) -> Column:
    from pyspark.sql import functions as F

    def literal(value: float) -> Column:
        # Decimal literals: a double would make the comparison inexact.
        return F.lit(Decimal(str(value)))

    condition = F.lit(True)
    if spec.min is not None:  # type: ignore[attr-defined]
        low = literal(spec.min)  # type: ignore[attr-defined]
        condition = column > low if spec.exclusive_min else column >= low  # type: ignore[attr-defined]
    if spec.max is not None:  # type: ignore[attr-defined]
        condition = condition & (column <= literal(spec.max))  # type: ignore[attr-defined]
    return condition


def _near(date: Column, spec: object) -> Column:
    """Whether a date is near the day on which its row arrived, and not near today: a backfill of
    an old partition is judged as it would have been on its day."""
    from pyspark.sql import functions as F

    arrival = F.to_date(F.substring("_partition", 1, 10))
    condition = F.lit(True)
    if spec.max_future_days is not None:  # type: ignore[attr-defined]
        condition = date <= F.date_add(arrival, spec.max_future_days)  # type: ignore[attr-defined]
    if spec.max_past_days is not None:  # type: ignore[attr-defined]
        earliest = F.date_add(arrival, -spec.max_past_days)  # type: ignore[attr-defined]
        condition = condition & (date >= earliest)
    return condition


def broken_names(rules: list[Rule]) -> Column:
    """The names of the rules that a row breaks; null where it breaks none.

    The array is built only for rows that break something: building it for all rows costs more
    than evaluating the rules.
    """
    from functools import reduce

    from pyspark.sql import functions as F

    if not rules:
        return F.lit(None).cast("array<string>")
    conditions = [broken(r) for r in rules]
    any_broken = reduce(lambda a, b: a | b, conditions)
    names = F.array(*[F.when(c, F.lit(r.name)) for c, r in zip(conditions, rules, strict=True)])
    return F.when(any_broken, F.filter(names, lambda n: n.isNotNull()))
