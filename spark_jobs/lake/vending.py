"""Credentials of stores that Unity Catalog vends to a job, for what reads and writes there besides the
session: the log of each table, listings, landing files.

Belongs here: asking for them, and keeping them as long as they are good. Does not belong here: who uses
them (storage.py), or the session, to which the service gives its own.

They are good for an hour or less, and for one zone. None is ever a setting, an argument, or in a log:
they are in the memory of the driver, and those to read by travel to workers with the code that reads.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from spark_jobs import quoting
from spark_jobs.causes import is_transient
from spark_jobs.errors import StorageError
from spark_jobs.report import ZONES

Operation = Literal["PATH_READ", "PATH_READ_WRITE"]

_PATH = "/api/2.0/unity-catalog/temporary-path-credentials"
# What the catalogue says of a privilege that is missing.
_MISSING = re.compile(r"does not have (?P<right>[A-Z ]+) on (?P<kind>[A-Za-z ]+) '(?P<name>[^']+)'")
# What is about to end is not begun with.
_SPARE_SECONDS = 600
_NAMES = {
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
}


@dataclass(frozen=True)
class Vended:
    """Credentials by the names that delta-rs has for them; `until` is in seconds since 1970."""

    options: Mapping[str, str] = field(repr=False)
    until: float

    @property
    def good(self) -> bool:
        return time.time() < self.until - _SPARE_SECONDS


_lock = threading.Lock()
_kept: dict[tuple[str, Operation], Vended] = {}
_brought: dict[str, Vended] = {}


def credentials(uri: str) -> dict[str, str]:
    """Credentials to read and write a location. Raises StorageError if the catalogue gives none."""
    return dict(_current(zone_of(uri), "PATH_READ_WRITE").options)


def carried() -> dict[str, Vended]:
    """Credentials to read the zones that this process knows, for workers, which cannot ask."""
    with _lock:
        zones = {zone for zone, _ in _kept}
    return {zone: _current(zone, "PATH_READ") for zone in zones}


def receive(brought: Mapping[str, Vended]) -> None:
    """Keeps what was carried here, of each zone what lasts longest: a worker is used for task after
    task."""
    with _lock:
        for zone, vended in brought.items():
            if zone not in _brought or _brought[zone].until < vended.until:
                _brought[zone] = vended


def zone_of(uri: str) -> str:
    """The zone that a location is in, or the location itself: one request serves all tables of it."""
    scheme, _, path = uri.partition("://")
    parts = path.split("/")
    for n, part in enumerate(parts[1:], start=1):
        if part in ZONES:
            return f"{scheme}://{'/'.join(parts[: n + 1])}"
    return uri.rstrip("/")


def _current(zone: str, operation: Operation) -> Vended:
    with _lock:
        vended = _kept.get((zone, operation))
        if vended is None and zone in _brought:
            return _brought[zone]  # a worker, to which the store says when they have ended
        if vended is None or not vended.good:
            vended = _kept[zone, operation] = _asked(zone, operation)
        return vended


def _asked(zone: str, operation: Operation) -> Vended:
    try:
        from databricks.sdk import WorkspaceClient  # the runtime's own
    except ImportError as error:
        raise StorageError(
            f"{zone}: its credentials are to come from Unity Catalog, and there is no databricks-sdk"
            " here. Run the table as a job of Databricks, or leave vended_by out of"
            " lake.storage_options."
        ) from error
    url = zone.replace("s3a://", "s3://")
    try:
        answer: Any = WorkspaceClient().api_client.do(
            "POST", _PATH, body={"url": url, "operation": operation}
        )
        given = answer["aws_temp_credentials"]
        options = {ours: str(given[theirs]) for theirs, ours in _NAMES.items()}
        return Vended(options, float(answer["expiration_time"]) / 1000)
    except (KeyError, TypeError, ValueError, OSError) as error:
        said = quoting.said(error)
        raise StorageError(
            f"{zone}: Unity Catalog gives no credentials for it ({said}). {_advice(said)}",
            permanent=not is_transient(error),
        ) from error


def _advice(said: str) -> str:
    """What to do about a refusal: the grant that is missing, if the catalogue has named it."""
    missing = _MISSING.search(said)
    if missing is not None:
        right, kind, name = missing.groups()
        return f"Its owner can: GRANT {right} ON {kind.upper()} `{name}` TO whoever runs this."
    return (
        "It has to be below an external location, on which who runs this has EXTERNAL USE LOCATION,"
        " READ FILES and WRITE FILES (and EXTERNAL USE SCHEMA on the schemas of its tables); and the"
        " metastore has to allow external access."
    )
