"""Which names of columns say that a person stands behind the values.

Belongs here: the names. Does not belong here: what follows from it; a name is a guess, and a
contract's `classification` is what counts.
"""

from __future__ import annotations

import re

# What stands for a person's data wherever it stands in a name.
_WORDS = re.compile(
    r"e?mail|(tele)?phone|mobile|fax|address|street|postcode|postal|zip|birth(day|date)?|dob|age"
    r"|gender|sex|(sur|first|last|full|fore|user|nick)name|maiden|salary|ssn|passport|iban|bic"
    r"|licence|nin|vat|ip|ipaddress|latitude|longitude|password|religion|nationality|signature"
)
# What makes a name or a number one of a person.
_WHOSE = re.compile(
    r"first|last|middle|full|given|family|person|contact|customer|user|employee|patient|member"
    r"|owner|guest|driver|sender|recipient|cardholder|account|card|tax|identity|national|social"
    r"|security|insurance"
)


def words(name: str) -> list[str]:
    """The words of a name, in lower case, whether it is `last_name`, `LastName` or `last-name`."""
    parted = re.sub(r"([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3 \2\4", name)
    return [w for w in re.split(r"[^0-9a-zß-öø-ÿ]+", parted.lower()) if w]


def looks_personal(name: str) -> bool:
    """Whether a column of this name most likely holds data of persons."""
    found = words(name)
    if found == ["name"] or any(map(_WORDS.fullmatch, found)):
        return True
    return found[-1:] in (["name"], ["number"]) and any(map(_WHOSE.fullmatch, found[:-1]))
