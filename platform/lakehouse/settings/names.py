"""The one normaliser of names that other systems restrict: buckets, databases, schemas.

Belongs here: turning a name into one that is valid there, or saying why it cannot be.
"""

from __future__ import annotations

import re

_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


def bucket_name(name: str) -> str:
    """An S3 bucket name: lower case, `-` for `_`, spaces and dots; ValueError if it cannot be one."""
    normal = re.sub(r"[_\s.]+", "-", name.strip().lower())
    if not _BUCKET.fullmatch(normal):
        raise ValueError(
            "the value is not a bucket name: 3 to 63 letters, digits and hyphens,"
            " beginning and ending with a letter or digit"
        )
    return normal
