"""The vocabulary of rules: one class each, with its parameters, what it can judge, and its meaning.

Belongs here: everything about one rule. A new rule is a class here, registered by its `Literal` name.
Does not belong here: what happens to a row that breaks a rule (audit.py), thresholds over a partition
(gate.py), uniqueness across rows (uniqueness.py).

Every rule but not_null and type passes on null, as SQL check constraints do. The engine is imported
only when a rule is asked for its column: reading contracts takes none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

if TYPE_CHECKING:
    from pyspark.sql import Column as Expression

    from spark_jobs.contract.model import Column, Contract, Rule

# A thousand years: dates stay within the years that every engine knows.
MOST_DAYS = 365_250
REFERENCE_MARK = "_references_{}"


class RuleSpec(BaseModel):
    """One rule of the vocabulary with its parameters.

    `judges` are the physical types, without parameters, of columns that it can be about (any, if
    there are none); a rule that is not `about_column` is written for the whole row. Only a `per_row`
    rule has a column that tells which rows break it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    judges: ClassVar[tuple[str, ...]] = ()
    about_column: ClassVar[bool] = True
    per_row: ClassVar[bool] = True

    rule: str

    def misfit(self, column: Column) -> str | None:
        """Why it cannot judge a column; None if it can."""
        base = column.type.partition("(")[0]
        if self.judges and base not in self.judges:
            return f"rule {self.rule} cannot judge {column.name}, a {column.type}"
        return None

    def idle(self, rule: Rule, contract: Contract) -> str | None:
        """Why no row could ever break it, and what to do; None if one could, or nobody can tell."""
        return None

    def broken(self, rule: Rule) -> Expression:
        """True where a row breaks the rule, false elsewhere, never null.

        The frame holds the table's columns, `_input` (the source record, for type rules),
        `_partition` (the arrival window, for age rules) and one mark per reference rule
        (REFERENCE_MARK, true where the referenced key exists).
        """
        from pyspark.sql import functions as F

        return ~F.coalesce(self.holds(F.col(rule.about)), F.lit(True))

    def holds(self, value: Expression) -> Expression:
        """True where a value is as it should be; may be null."""
        raise TypeError(f"rule {self.rule} has no condition on one value")


class NotNull(RuleSpec):
    rule: Literal["not_null"]

    def broken(self, rule: Rule) -> Expression:
        from pyspark.sql import functions as F

        return F.col(rule.about).isNull()


class AcceptedValues(RuleSpec):
    judges = ("string", "int", "bigint")
    rule: Literal["accepted_values"]
    # Strict: YAML reads an unquoted NO or ON as a truth value, which is no currency and no country.
    values: tuple[StrictStr | StrictInt, ...] = Field(min_length=1)

    def misfit(self, column: Column) -> str | None:
        wanted = str if column.type == "string" else int
        wrong = next((v for v in self.values if not isinstance(v, wanted)), None)
        if wrong is not None and super().misfit(column) is None:
            return f"rule {self.rule}: {wrong!r} is no {column.type}: mind the quotes"
        return super().misfit(column)

    def holds(self, value: Expression) -> Expression:
        return value.isin(*self.values)


class Range(RuleSpec):
    judges = ("int", "bigint", "decimal")
    rule: Literal["range"]
    min: float | None = Field(None, allow_inf_nan=False)
    max: float | None = Field(None, allow_inf_nan=False)
    exclusive_min: bool = False

    @model_validator(mode="after")
    def _can_fail(self) -> Range:
        return _bounded(self, self.min, self.max)

    def idle(self, rule: Rule, contract: Contract) -> str | None:
        type_ = contract.column[rule.about].type
        low, high = _domain(type_)
        least, most = (None if v is None else Decimal(repr(v)) for v in (self.min, self.max))
        below = least is None or least < low or (least == low and not self.exclusive_min)
        if below and (most is None or most >= high):
            return f"its bounds hold every {type_}: narrow them, or drop the rule"
        return None

    def holds(self, value: Expression) -> Expression:
        from pyspark.sql import functions as F

        def literal(bound: float) -> Expression:
            # Decimal literals: a double would make the comparison inexact.
            return F.lit(Decimal(str(bound)))

        condition = F.lit(True)
        if self.min is not None:
            low = literal(self.min)
            condition = value > low if self.exclusive_min else value >= low
        if self.max is not None:
            condition = condition & (value <= literal(self.max))
        return condition


class Pattern(RuleSpec):
    judges = ("string",)
    rule: Literal["pattern"]
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    def idle(self, rule: Rule, contract: Contract) -> str | None:
        if _matches_everything(self.pattern):
            return "the pattern is found in every text: narrow it, or drop the rule"
        return None

    def holds(self, value: Expression) -> Expression:
        return value.rlike(portable(self.pattern))


class Length(RuleSpec):
    judges = ("string",)
    rule: Literal["length"]
    min: int | None = Field(None, ge=0)
    max: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _can_fail(self) -> Length:
        return _bounded(self, self.min, self.max)

    def idle(self, rule: Rule, contract: Contract) -> str | None:
        if not self.min and self.max is None:
            return "every text has at least 0 characters: give a min above 0, or a max"
        return None

    def holds(self, value: Expression) -> Expression:
        from pyspark.sql import functions as F

        size, condition = F.length(value), F.lit(True)
        if self.min is not None:
            condition = size >= self.min
        if self.max is not None:
            condition = condition & (size <= self.max)
        return condition


class Age(RuleSpec):
    """Whether a date is near the day on which its row arrived, and not near today: a backfill of an
    old partition is judged as it would have been on its day."""

    judges = ("date", "timestamp")
    rule: Literal["age"]
    max_future_days: int | None = Field(None, ge=0, le=MOST_DAYS)
    max_past_days: int | None = Field(None, ge=0, le=MOST_DAYS)

    @model_validator(mode="after")
    def _can_fail(self) -> Age:
        if self.max_future_days is None and self.max_past_days is None:
            raise ValueError(
                "give max_future_days, max_past_days or both: without a bound the rule cannot fail"
            )
        return self

    def holds(self, value: Expression) -> Expression:
        from pyspark.sql import functions as F

        date, arrival = F.to_date(value), F.to_date(F.substring("_partition", 1, 10))
        condition = F.lit(True)
        if self.max_future_days is not None:
            condition = date <= F.date_add(arrival, self.max_future_days)
        if self.max_past_days is not None:
            condition = condition & (date >= F.date_add(arrival, -self.max_past_days))
        return condition


class Reference(RuleSpec):
    rule: Literal["reference"]
    table: str
    column: str

    def broken(self, rule: Rule) -> Expression:
        from pyspark.sql import functions as F

        mark = F.col(REFERENCE_MARK.format(rule.name))
        return F.col(rule.about).isNotNull() & mark.isNull()


class ExpressionHolds(RuleSpec):
    about_column = False
    rule: Literal["expression"]
    expression: str

    def idle(self, rule: Rule, contract: Contract) -> str | None:
        constant = _constant(self.expression, contract)
        return f"{constant}: it is the same for every row" if constant else None

    def broken(self, rule: Rule) -> Expression:
        from pyspark.sql import functions as F

        return ~F.coalesce(F.expr(self.expression), F.lit(True))


class Unique(RuleSpec):
    about_column = False
    per_row = False
    rule: Literal["unique"]
    columns: tuple[str, ...] = Field(min_length=1)

    def idle(self, rule: Rule, contract: Contract) -> str | None:
        if contract.keyed and set(contract.key) <= set(self.columns):
            return "publishing keeps the primary key unique, and these columns include it: drop it"
        return None


class TypeKept(RuleSpec):
    """A value of the source that is not blank has become one of the column's type."""

    rule: Literal["type"]
    source: str

    def broken(self, rule: Rule) -> Expression:
        from pyspark.sql import functions as F

        source = F.col(f"_input.`{self.source.rpartition('.')[2]}`").cast("string")
        return (F.trim(F.coalesce(source, F.lit(""))) != "") & F.col(rule.about).isNull()


def _named() -> Iterator[tuple[str, type[RuleSpec]]]:
    for spec in RuleSpec.__subclasses__():
        (name,) = get_args(spec.model_fields["rule"].annotation)
        yield name, spec


RULES: Mapping[str, type[RuleSpec]] = dict(_named())

_Spec = TypeVar("_Spec", bound=RuleSpec)


def _bounded(spec: _Spec, low: float | None, high: float | None) -> _Spec:
    if low is None and high is None:
        raise ValueError("give min, max or both: without a bound the rule cannot fail")
    if low is not None and high is not None and low > high:
        raise ValueError(f"min {low:g} is above max {high:g}")
    return spec


# -- patterns --------------------------------------------------------------------------------------

# Outside of a class; within one, what stands between the brackets.
_CLASSES = {"d": "[0-9]", "s": r"[ \t\n\x0B\f\r]", "w": "[A-Za-z0-9_]"}
_CLASSES |= {name.upper(): f"[^{chars[1:]}" for name, chars in _CLASSES.items()}

# The expression of all text between two anchors, in the spellings that people use.
_ANYTHING = {r"[\s\S]*", r"[\S\s]*", r"[\d\D]*", r"[\w\W]*", r"(.|\n)*", r"(?:.|\n)*"}
# What makes a match depend on where in the text it stands.
_ASSERTION = re.compile(r"\\[AbBGZz]|\(\?[=!<]|\(\?P?[=(]|\\[1-9]|[$^]")


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


def _matches_everything(pattern: str) -> bool:
    """Without assertions, whether a pattern matches the empty text does not depend on the place;
    one that does is found in every text."""
    body = pattern[1:] if pattern.startswith("^") else pattern
    if body != pattern and body.endswith("$"):
        return body[:-1] in _ANYTHING
    body = body.removesuffix("$") if not body.endswith("\\$") else body
    plain = re.sub(r"\[\^", "[", body)  # a class that is negated asserts nothing
    return not _ASSERTION.search(plain) and re.fullmatch(body, "") is not None


# -- ranges and expressions ------------------------------------------------------------------------

_KEYWORDS = {"true", "false", "null", "and", "or", "not", "is", "in", "between", "like", "as"}
_KEYWORDS |= {"case", "when", "then", "else", "end", "date", "timestamp"}


def _domain(type_: str) -> tuple[Decimal, Decimal]:
    if type_ in ("int", "bigint"):
        half = 2 ** (31 if type_ == "int" else 63)
        return Decimal(-half), Decimal(half - 1)
    precision, scale = map(int, type_[8:-1].split(","))
    most = Decimal((0, (9,) * precision, -scale))
    return -most, most


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
