"""Column expressions that several transforms share, written so that every engine agrees on them.

Patterns spell out what they mean: `\\d` takes in the digits of every script on one engine only,
and `$` also stands before a last newline on the other.
"""

from __future__ import annotations

from decimal import Decimal

from pyspark.sql import Column
from pyspark.sql import functions as F

# What every row-grain transform passes through from its first input: where a row came from.
LINEAGE = ("_partition", "_arrival_date", "_input")

_DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\z"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\z"
_SCIENTIFIC = r"^([+-]?)([0-9]*)\.?([0-9]*)[eE]([+-]?[0-9]+)\z"
_PADDED = r"^0*([0-9]+\.[0-9]+?)0*\z"
_LARGEST_EXPONENT = 400  # beyond a double's
# Python, and with it the statistics of data files, knows no other years.
_FIRST, _LAST = "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"


def text(name: str) -> Column:
    """A trimmed string; null where blank."""
    return F.nullif(F.trim(F.col(name)), F.lit(""))


def number(name: str, type_: str) -> Column:
    """A delivered string as a number; null where it is none."""
    return as_number(text(name), type_)


def as_number(value: Column, type_: str) -> Column:
    """Text as an integer or decimal type, rounded half up; null where it is no number, or too
    large for the type."""
    if not type_.startswith("decimal"):
        return value.try_cast(type_)
    value = F.trim(F.translate(value, "\t\r\n", "   "))
    # More digits than any decimal has decide nothing, and make one engine refuse the text.
    short = F.regexp_replace(without_exponent(value), r"(\.[0-9]{40})[0-9]+\z", "$1")
    return F.when(value.rlike(_NUMBER), short).try_cast(type_)


def without_exponent(value: Column) -> Column:
    """A number's text with its exponent worked in, `1.5E3` as `1500.0`; other text as it is.
    JSON and doubles have exponents, and not every engine reads them as decimals or writes them."""

    def part(n: int) -> Column:
        return F.regexp_extract(value, _SCIENTIFIC, n)

    # Each part as seldom as can be: a plan holds a copy of all below it for every time it is used.
    bound, zeros = F.lit(_LARGEST_EXPONENT), F.lit("0" * (_LARGEST_EXPONENT + 1))
    exponent = F.greatest(F.least(part(4).try_cast("int"), bound), -bound)
    digits = F.concat(zeros, part(2), part(3), zeros)
    pointed = F.overlay(digits, F.lit("."), bound + 2 + F.length(part(2)) + exponent, F.lit(0))
    shifted = F.concat(part(1), F.regexp_replace(pointed, _PADDED, "$1"))
    return F.when(value.rlike(_SCIENTIFIC), shifted).otherwise(value)


def quotient(dividend: Column, divisor: Column, type_: str) -> Column:
    """`dividend / divisor` of decimals or integers as a decimal type of up to 20 digits, rounded
    half up. Null where it is too large; the divisor must not be 0.

    Exact: engines give the quotient of decimals different scales, and doubles lose halves. They
    agree on remainders, and on a division that leaves none. A dividend has room for 30 digits,
    those of the type's scale included.
    """
    scale = int(type_.partition(",")[2].rstrip(")"))
    units = dividend * F.lit(Decimal(10**scale))
    rest = units % divisor
    whole = ((units - rest) / divisor).try_cast("decimal(20,0)")
    away = F.when((units < 0) == (divisor < 0), 1).otherwise(-1)
    half_up = F.when(F.abs(rest) * 2 >= F.abs(divisor), away).otherwise(0)
    return ((whole + half_up) * F.lit(Decimal(1).scaleb(-scale))).try_cast(type_)


def boolean(name: str) -> Column:
    """A delivered true or false, in any case; null where it is neither."""
    value = F.lower(text(name))
    return F.when(value.isin("true", "false"), value == "true")


def day(name: str) -> Column:
    """A delivered ISO 8601 date; null where it is none, or not of the years 1 to 9999."""
    value = text(name)
    date = value.try_cast("date")
    return F.when(value.rlike(_DAY) & (date >= F.lit(_FIRST[:10]).cast("date")), date)


def instant(name: str) -> Column:
    """A delivered ISO 8601 time as UTC. A time without zone is UTC by contract; the basic offset
    form of Salesforce (+0000) is read as the extended one (+00:00). Null where it is no time, or
    not of the years 1 to 9999."""
    extended = F.regexp_replace(text(name), r"([+-][0-9]{2})([0-9]{2})\z", "$1:$2")
    looks_right = extended.rlike("^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}")
    time = extended.try_cast("timestamp")
    first, last = (F.lit(t).cast("timestamp") for t in (_FIRST, _LAST))
    return F.when(looks_right & time.between(first, last), time)


def has_zone(name: str) -> Column:
    """Whether a delivered ISO 8601 time says its zone; null where there is none."""
    return text(name).rlike(r"(Z|[+-][0-9]{2}:?[0-9]{2})\z")


def hour(time: Column) -> Column:
    """The start of the hour of a time. By way of its text: truncating and counting seconds fail,
    or go the other way, far from the present on one engine."""
    return F.concat(F.substring(time.cast("string"), 1, 13), F.lit(":00:00")).cast("timestamp")


def surrogate_key(*names: str) -> Column:
    """A deterministic key: xxHash64 of the natural key. 0 is kept for the unknown member."""
    return F.xxhash64(*[F.col(n) for n in names])


def position_of(time: Column) -> Column:
    """A time as a place among changes that `change_position` tells: before all of the same moment."""
    digits = F.regexp_replace(time.cast("string"), "[^0-9]", "")
    moment = F.substring(F.concat(digits, F.lit("0" * 16)), 1, 16)
    return F.concat(moment, F.lit("0" * 20))


def change_position(commit: Column) -> Column:
    """Where a captured change (columns `Op` and `change_seq`) stands among all: changes are in the
    order of their commits, by which DMS numbers them, and a full load stands at its moment. Of two
    changes at one position, as an update of a primary key is, the one that takes a key stands after
    the one that gives it away."""
    loaded = F.substring(position_of(commit), 1, 35)
    gives_away = F.when(F.col("Op") == "D", "0").otherwise("1")
    return F.concat(F.coalesce(text("change_seq"), loaded), gives_away)
