"""What Unity Catalog vends: credentials for locations below its external ones.

Belongs here: who gets which. Does not belong here: whether a store honours them.
Source: https://docs.databricks.com/api/workspace/temporarypathcredentials
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lakehouse.standins.servers.databricks.volumes import ApiError

PATH = "/api/2.0/unity-catalog/temporary-path-credentials"
_NEEDED = {
    "PATH_READ": ("EXTERNAL USE LOCATION", "READ FILES"),
    "PATH_READ_WRITE": ("EXTERNAL USE LOCATION", "READ FILES", "WRITE FILES"),
}


@dataclass
class ExternalLocation:
    """A location by its name, and what whoever asks here has been granted on it."""

    name: str
    url: str
    grants: set[str] = field(default_factory=lambda: set(_NEEDED["PATH_READ_WRITE"]))

    def covers(self, url: str) -> bool:
        return f"{url}/".startswith(f"{self.url.rstrip('/')}/")


@dataclass(frozen=True)
class Vended:
    """What an access key was given for."""

    url: str
    operation: str


@dataclass
class Catalog:
    """`vended` says by access key what it is for; those to come are good for so many `seconds`."""

    external: list[ExternalLocation] = field(default_factory=list)
    seconds: float = 3600
    vended: dict[str, Vended] = field(default_factory=dict)

    def vend(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        url, operation = asked.get("url", ""), asked.get("operation", "")
        if operation not in _NEEDED:
            raise ApiError(400, "INVALID_PARAMETER_VALUE", f"operation {operation!r} is unknown")
        location = next((one for one in self.external if one.covers(url)), None)
        if location is None:
            message = f"No parent external location found for path {url}"
            raise ApiError(404, "EXTERNAL_LOCATION_DOES_NOT_EXIST", message)
        for privilege in _NEEDED[operation]:
            if privilege not in location.grants:
                message = f"User does not have {privilege} on External Location '{location.name}'."
                raise ApiError(403, "PERMISSION_DENIED", message)
        key = f"ASIA{secrets.token_hex(8).upper()}"
        self.vended[key] = Vended(url, operation)
        return {
            "url": url,
            "expiration_time": int((time.time() + self.seconds) * 1000),
            "aws_temp_credentials": {
                "access_key_id": key,
                "secret_access_key": secrets.token_urlsafe(30),
                "session_token": secrets.token_urlsafe(60),
            },
        }
