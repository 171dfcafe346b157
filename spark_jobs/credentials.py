"""What a credential is: neither settings nor run specifications hold one.

Belongs here: telling credentials by their key, and by their form in a location. Does not belong
here: where credentials come from (the default chain of each store).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_KEY = re.compile(
    r"secret|token|passw|passphrase|pwd|credential|private|bearer|authorization|signature"
    r"|(access|account|storage|master|shared|api|auth|customer)_?key|connection_?string"
    r"|(^|_)(sas|pass|key)(_|$)(?!(id|enabled)(_|$))",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"^[a-z][a-z0-9+.-]*://[^/?#]*@", re.IGNORECASE)


def refused(options: Mapping[str, str]) -> Mapping[str, str]:
    """The options, if none of them is a credential. Raises ValueError that names the key, and never
    a value."""
    for key, value in options.items():
        if _KEY.search(re.sub(r"[^A-Za-z0-9]+", "_", key)):
            raise ValueError(
                f"{key} is a credential: leave it out, the default credential chain finds it"
            )
        if _LOGIN.match(value):
            raise ValueError(f"{key} holds a login: leave it out of the location")
    return options
