"""The rules of a contract on the rows of a batch, all in one pass.

Belongs here: which rules are decided row by row, and the names of those that a row breaks. Does not
belong here: what a rule means (contract/rules.py), or what happens to a row that breaks one (audit.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import TYPE_CHECKING

from spark_jobs.contract.model import Contract, Rule

if TYPE_CHECKING:
    from pyspark.sql import Column


def row_rules(contract: Contract) -> Iterator[Rule]:
    """The rules that are decided row by row; uniqueness is decided over all rows of a batch."""
    return (r for r in contract.rules if r.spec.per_row)


def broken(rule: Rule) -> Column:
    """True where a row breaks `rule`, false elsewhere, never null."""
    return rule.spec.broken(rule)


def broken_names(rules: list[Rule]) -> Column:
    """The names of the rules that a row breaks; null where it breaks none.

    The array is built only for rows that break something: building it for all rows costs more
    than evaluating the rules.
    """
    from pyspark.sql import functions as F

    if not rules:
        return F.lit(None).cast("array<string>")
    conditions = [broken(r) for r in rules]
    any_broken = reduce(lambda a, b: a | b, conditions)
    names = F.array(*[F.when(c, F.lit(r.name)) for c, r in zip(conditions, rules, strict=True)])
    return F.when(any_broken, F.filter(names, lambda n: n.isNotNull()))
