"""What the driver of a job wrote before it ended: the error in its log.

Belongs here: finding the log, and the lines of it that say why. Does not belong here: what a person is
told besides (emr.py).
"""

from __future__ import annotations

import gzip
import re
from typing import Any

_MOST = 12
_LONGEST = 300
# What stands at the beginning of what matters, the last of which says most.
_ERROR = re.compile(
    r"Traceback \(most recent|^(?:[\w.$]+(?:Error|Exception)\b|error: |Exception in thread|Killed\b)"
    r"|OutOfMemoryError|exit code 137|Command exiting with ret"
)
_FRAME = re.compile(r"^\s+at |^\s+\.\.\. \d+ more")


def driver_error(s3: Any, logs: str, attempt: int = 1) -> str:
    """The error at the end of a driver's log below `logs`; empty if there is none, or no log yet."""
    folder = f"{logs}/attempts/{attempt}" if attempt > 1 else logs
    bucket, _, prefix = folder.removeprefix("s3://").partition("/")
    for stream in ("stderr", "stdout"):
        try:
            key = f"{prefix}/SPARK_DRIVER/{stream}.gz"
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            text = gzip.decompress(body).decode(errors="replace")
        except Exception:  # what it would have told is told by nobody else either
            continue
        if found := error_in(text):
            return found
    return ""


def error_in(log: str) -> str:
    """The last error in a log, without the frames of a JVM."""
    lines = log.splitlines()
    begins = [n for n, line in enumerate(lines) if _ERROR.search(line)]
    if not begins:
        return ""
    # A traceback's last line says what it was: take all from where it begins.
    traced = [n for n in begins if lines[n].startswith("Traceback") and n >= begins[-1] - 60]
    first = traced[-1] if traced else begins[-1]
    told = [line[:_LONGEST] for line in lines[first:] if not _FRAME.match(line)]
    return "\n".join(told[:_MOST] if len(told) <= _MOST else [told[0], "…", *told[2 - _MOST :]])
