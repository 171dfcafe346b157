"""What Unity Catalog vends: credentials for locations below its external ones.

Belongs here: who gets which. Does not belong here: whether a store honours them.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lakehouse.standins.servers.databricks.volumes import ApiError

PATH = "/api/2.0/unity-catalog/temporary-path-credentials"


@dataclass
class Catalog:
    """`external` are the external locations; `vended` says by access key for which location and
    operation it was given, and `seconds` for how long."""

    external: list[str] = field(default_factory=list)
    seconds: float = 3600
    vended: dict[str, tuple[str, str]] = field(default_factory=dict)

    def vend(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        url, operation = asked.get("url", ""), asked.get("operation", "")
        if operation not in ("PATH_READ", "PATH_READ_WRITE"):
            raise ApiError(400, "INVALID_PARAMETER_VALUE", f"operation {operation!r} is unknown")
        if not any(f"{url}/".startswith(f"{location.rstrip('/')}/") for location in self.external):
            message = f"No parent external location found for path {url}"
            raise ApiError(404, "EXTERNAL_LOCATION_DOES_NOT_EXIST", message)
        key = f"ASIA{secrets.token_hex(8).upper()}"
        self.vended[key] = (url, operation)
        return {
            "url": url,
            "expiration_time": int((time.time() + self.seconds) * 1000),
            "aws_temp_credentials": {
                "access_key_id": key,
                "secret_access_key": secrets.token_urlsafe(30),
                "session_token": secrets.token_urlsafe(60),
            },
        }
