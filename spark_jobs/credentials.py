"""What a credential is: neither settings nor run specifications hold one.

Belongs here: telling credentials by their key, and by their form in any text. Does not belong
here: where credentials come from (the default chain of each store).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_KEY = re.compile(
    r"secret|token|passw|passphrase|pwd|credential|private|bearer|authorization|signature|cookie|jwt"
    r"|(access|account|storage|master|shared|api|auth|customer|encryption)_?key"
    r"|connection_?string"
    r"|(^|_)(sas|sig|pass|key)(_|$)(?!(id|enabled)(_|$))",
    re.IGNORECASE,
)
# Names of values within a text: of a query string, a connection string, or JSON, escaped or not.
_NAMED = re.compile(r"""(?:^|[?&;,\s{])[\\"']*([\w.%-]+)[\\"']*\s*[=:]\s*[^\s&;,}]""")
_FORMS = {
    "a login": re.compile(r"(?i)[a-z][a-z0-9+.-]*://[^/?#\s]*@"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a token": re.compile(r"(?i)\b(bearer|basic)\s+[\w+/=.~-]{8}|\beyJ[\w-]+\.eyJ"),
}


def refused(options: Mapping[str, str]) -> Mapping[str, str]:
    """The options, if none of them is a credential. Raises ValueError that names the key, and never
    a value."""
    for key, value in options.items():
        if _is_key(key):
            raise ValueError(
                f"{key} is a credential: leave it out, the default credential chain finds it"
            )
        if what := found_in(value):
            raise ValueError(f"{key} holds {what}: leave it out of the location")
    return options


def found_in(text: str) -> str | None:
    """What kind of credential a text holds, by its form; None if none can be seen. Never says the
    value, nor a name that is part of the text."""
    for what, form in _FORMS.items():
        if form.search(text):
            return what
    return "a credential" if any(map(_is_key, _NAMED.findall(text))) else None


def _is_key(name: str) -> bool:
    return _KEY.search(re.sub(r"[^A-Za-z0-9]+", "_", name)) is not None
