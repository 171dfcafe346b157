"""Expressions that fail on some rows: which partitions hold them, and what may be said of that.

Belongs here: telling such a failure from one of the engine, its text without the value that it quotes,
and finding its partitions and its place in the code. Does not belong here: what becomes of a
partition that fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_jobs import quoting
from spark_jobs.batch.rules import broken, row_rules
from spark_jobs.contract.document import place
from spark_jobs.contract.model import Contract

# A run looks for so many failing partitions one by one; more are no matter of single rows.
_SOUGHT = 20
_COLUMNS_TRIED = 100
_CAST = re.compile(r"""(?:to value of|to type|cannot be cast to) "?([A-Za-z]\w*(?:\([\d, ]+\))?)""")
_CONDITION = re.compile(r"\[([A-Z]+_[A-Z_.]+)\]")
_RAISED = re.compile(r"^\s*(?:\w+\.)*(\w+(?:Error|Exception))\b", re.MULTILINE)
_OTHERS = {
    r"(?i)divi(sion|de) by zero": "a division by zero",
    r"(?i)overflow": "a number beyond its type",
    r"(?i)cast error|parser error|datetime field": "a value that cannot be converted",
}


def evaluation(error: PySparkException) -> str | None:
    """What failed, if an expression did on a value; None for any other failure. The plan must have
    been analysed before. Engines quote the value: nothing of their text but names of types,
    conditions and exceptions is passed on."""
    text = str(error).partition("JVM stacktrace")[0]
    if "Python worker" in text:
        raised = _RAISED.findall(text)
        return f"Python code raised {raised[-1]}" if raised else "Python code failed"
    cast = _CAST.search(text)
    if cast and re.search(r"(?i)cast", text):
        return f"a value cannot be cast to {cast[1]}"
    for pattern, meaning in _OTHERS.items():
        if re.search(pattern, text):
            return meaning
    if "SQLSTATE: 22" in text or "USER_RAISED" in text:
        condition = _CONDITION.search(text)
        return f"an expression failed ({condition[1]})" if condition else "an expression failed"
    # The plan has been analysed before: what the embedded engine calls so now, a value has caused.
    return "an expression failed" if isinstance(error, AnalysisException) else None


def isolated(attempt: Callable[[list[str]], object], group: list[str], what: str) -> dict[str, str]:
    """The partitions of a failing group that fail, and why, by halves. `attempt` evaluates some."""
    if len(group) == 1:
        return {group[0]: what}
    found: dict[str, str] = {}
    middle = len(group) // 2
    for half in (group[:middle], group[middle:]):
        if len(found) >= _SOUGHT:
            rest = f"{what} in {len(found)} partitions before this one, which was not tried"
            found |= dict.fromkeys(half, rest)
            continue
        try:
            attempt(half)
        except PySparkException as error:
            why = evaluation(error)
            if why is None:
                raise
            found |= isolated(attempt, half, why)
    return found or dict.fromkeys(group, what)


def at_fault(contract: Contract, module: ModuleType | None, frame: DataFrame) -> tuple[str, str]:
    """What fails on the rows of `frame`, transformed, as the place of its code and the columns that
    it is about: columns of the transform that fail by themselves, or else rules. Where all columns
    do what fails is common to them."""
    names = [c.name for c in contract.columns if c.name in frame.columns][:_COLUMNS_TRIED]
    columns = [n for n in names if _fails(frame, F.col(f"`{n}`"))]
    if not columns:
        by_row = (r for r in row_rules(contract) if r.kind != "reference")
        rule = next((r for r in by_row if _fails(frame, broken(r))), None)
        if rule is not None:
            code = f"{place(contract, rule.where)}: rule {rule.name}: "
            return code, f" in column {quoting.name(rule.column)}" if rule.column else ""
    code = f"{module.__name__.replace('.', '/')}.py: transform: " if module else ""
    some = 0 < len(columns) < len(names)
    return code, f" in column {quoting.names(columns)}" if some else ""


def _fails(frame: DataFrame, value: Column) -> bool:
    """Whether an expression cannot be evaluated on some row."""
    try:
        frame.agg(F.max(F.xxhash64(value))).toArrow()
    except PySparkException:
        return True
    return False
