"""Who may read the files that the platform writes: its user, and nobody else unless told otherwise.

Belongs here: the one call that every entry point makes before it writes anything (the command
line, the code location, the data plane). Does not belong here: the files, or access to a bucket.
"""

from __future__ import annotations

import os
import re

from spark_jobs.errors import LakehouseError

VARIABLE = "LAKEHOUSE_UMASK"


def keep_files_private() -> None:
    """From here on, what this process and those that it starts create is for this user alone.

    LAKEHOUSE_UMASK says otherwise, for a lake that people share on purpose: 007 for a group, 027
    for a group that only reads. Raises LakehouseError if it is no umask, or shuts out its own user.
    """
    given = os.environ.get(VARIABLE) or "077"
    if not re.fullmatch(r"0?0[0-7]{2}", given):
        raise LakehouseError(
            f"{VARIABLE} is {given!r}: not a umask that leaves its user all rights. Use 077 (the"
            " default), 027 or 007."
        )
    os.umask(int(given, 8))
