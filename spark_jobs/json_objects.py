"""What a line of JSON says, exactly (RFC 8259): the one judgement of what is an object.

Belongs here: decoding one text. Does not belong here: files of many lines (batch/landing).
"""

from __future__ import annotations

import json
from typing import Any


class Number(str):
    """A number as it was written: 1.10 is not 1.1, and 12345678901234567890 fits no double."""

    __slots__ = ()


def decoded(text: str) -> Any:
    """The value, with numbers as they were written. Raises ValueError or RecursionError where the text
    is no JSON, or where one value of two under the same key would be lost."""
    return _DECODER.decode(text)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")  # Python would read NaN and Infinity


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")  # one of its values would be lost
    return found


_DECODER = json.JSONDecoder(
    parse_float=Number,
    parse_int=Number,
    parse_constant=_no_number,
    object_pairs_hook=_unique,
)
