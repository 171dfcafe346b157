"""The user's folder for what this machine can have again at any time.

Belongs here: where it is. Does not belong here: what is kept in it, or anything that a lake needs.
"""

from __future__ import annotations

import os
from pathlib import Path


def folder(what: str) -> Path:
    """The place of one kind of thing; it need not exist. RuntimeError if the user has no home."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "lakehouse", what)
