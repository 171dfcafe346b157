"""Text from data that is shown to people: names of columns, files and folders, errors, records.

Belongs here: making such text harmless for a terminal, for Markdown, and in length. Whoever
delivers a file chooses it, so it may hold escape sequences, line ends that forge a line of a log,
marks that turn the reading direction, or markup. Does not belong here: what may be shown at all.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable

LONGEST_NAME = 64
NAMES = 10
# Controls, invisible format marks (which turn the reading direction), surrogates, line separators.
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_MARKUP = re.compile(r"([\\`*\[\]|~])")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LINK = re.compile(r"(?i)\b(https?|ftp|www)([:.])")


def plain(text: str, *, lines: bool = False) -> str:
    """The text with every character that is not printed written out, as `\\u001b`: JSON stays what
    it was. Line ends too, unless the text may have `lines`."""
    if text.isascii() and text.isprintable():
        return text

    def written(c: str) -> str:
        if c == "\n" and lines:
            return c
        if unicodedata.category(c) not in _HIDDEN:
            return c
        return f"\\u{ord(c):04x}" if ord(c) < 0x10000 else json.dumps(c)[1:-1]

    return "".join(map(written, text))


def name(text: str) -> str:
    """One name that a source chose, in a bearable length."""
    text = plain(text)
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}… ({len(text)} characters)"


def names(found: Iterable[str]) -> str:
    """A few names that a source chose, and how many more there are."""
    return some([name(n) for n in found])


def some(found: list[str], separator: str = ", ") -> str:
    """The first few of a list, and how many more there are."""
    more = f" and {len(found) - NAMES} more" if len(found) > NAMES else ""
    return separator.join(found[:NAMES]) + more


def said(error: BaseException) -> str:
    """The message of an error in one line, without the colours that some libraries give it."""
    return plain(" ".join(_COLOUR.sub("", str(error)).split()))


def markdown(text: str) -> str:
    """Text as it reads, within a line or a table cell of Markdown: no markup, link, image or HTML
    of it is taken for such."""
    text = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LINK.sub(lambda m: f"{m[1]}&#{ord(m[2])};", _MARKUP.sub(r"\\\1", text))


def code(text: str) -> str:
    """Text as a span of code within a table cell of Markdown, where only its marks mean anything."""
    return "`" + plain(text).replace("`", "'").replace("|", "\\|") + "`"
