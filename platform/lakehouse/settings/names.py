"""The one normaliser of names that other systems restrict: buckets, databases, schemas.

Belongs here: turning a name into one that is valid there, or saying why it cannot be.
"""

from __future__ import annotations

import re

_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,126}")


def bucket_name(name: str) -> str:
    """An S3 bucket name: lower case, `-` for `_`, spaces and dots; ValueError if it cannot be one."""
    normal = re.sub(r"[_\s.]+", "-", name.strip().lower())
    if not _BUCKET.fullmatch(normal):
        raise ValueError(
            "the value is not a bucket name: 3 to 63 letters, digits and hyphens,"
            " beginning and ending with a letter or digit"
        )
    return normal


def schema_name(name: str) -> str:
    """A database, a schema or a user of Redshift, a database of Glue, or a part of such a name: lower
    case, `_` for `-`, spaces and dots; ValueError if it cannot be one."""
    normal = re.sub(r"[-\s.]+", "_", name.strip().lower())
    if not _SCHEMA.fullmatch(normal):
        raise ValueError(
            "the value is not a name: up to 127 letters, digits and underscores, no digit first"
        )
    return normal
