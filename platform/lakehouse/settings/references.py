"""Values that a settings file does not hold itself: references, secrets, and what was forgotten.

Belongs here: resolving `{env: NAME}`, `{env: NAME, default: VALUE}`, `{secret: NAME}` and
`{secretsmanager: NAME, key: KEY}`, and finding placeholders and credentials. Does not
belong here: which settings there are.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spark_jobs import credentials
from spark_jobs.errors import LakehouseError

_PLACEHOLDER = re.compile(
    r"<[^>]*>|change[_-]?me|example\.(com|org|net)|^(todo|tbd|fixme|xxx+|placeholder)\b|^your[_-]",
    re.IGNORECASE,
)
_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")


class SettingsError(LakehouseError):
    """A settings file is missing, invalid or incomplete; the message names file and key."""


@dataclass(frozen=True)
class Secret:
    """A secret by the name it is kept under: a variable, or a secret of Secrets Manager, of which
    `key` names a value if it holds several. Its value is never printed or stored."""

    name: str
    key: str | None = None
    managed: bool = False

    def reveal(self) -> str:
        """Raises SettingsError if the secret is not there, or may not be read."""
        if self.managed:
            return _managed(self.name, self.key)
        value = os.environ.get(self.name)
        if not value:
            raise SettingsError(f"secret {self.name} is not set: set the variable {self.name}")
        return value


def _managed(name: str, key: str | None) -> str:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = boto3.client("secretsmanager", region_name=os.environ.get("AWS_REGION"))
        text: str = client.get_secret_value(SecretId=name)["SecretString"]
        return text if key is None else str(json.loads(text)[key])
    except (KeyError, TypeError, ValueError):
        raise SettingsError(
            f"secret {name} of Secrets Manager has no text {key or ''}: it is JSON with that key"
        ) from None
    except (BotoCoreError, ClientError) as error:
        said = getattr(error, "response", {}).get("Error", {}).get("Code") or type(error).__name__
        raise SettingsError(
            f"secret {name} of Secrets Manager cannot be read ({said}): check its name and region, and"
            " that this role may read it"
        ) from None


def resolve(value: Any, key: tuple[str, ...], problems: list[str]) -> Any:
    """Replaces references by values; notes what is missing or still a placeholder."""
    if isinstance(value, Mapping):
        if set(value) in ({"env"}, {"env", "default"}, {"secret"}):
            return _referenced(value, ".".join(key), problems)
        if set(value) in ({"secretsmanager"}, {"secretsmanager", "key"}):
            name = resolve(value["secretsmanager"], key, problems)
            return Secret(str(name), value.get("key"), managed=True)
        return {k: resolve(v, (*key, str(k)), problems) for k, v in value.items()}
    if isinstance(value, list):
        return [resolve(v, (*key, str(i)), problems) for i, v in enumerate(value)]
    if isinstance(value, str) and _PLACEHOLDER.search(value):
        problems.append(f"{'.'.join(key)}: the value is a placeholder; put the real one there")
    elif isinstance(value, str):
        _refuse_credentials(value, ".".join(key), problems)
    return value


def _refuse_credentials(value: str, key: str, problems: list[str]) -> None:
    if what := credentials.found_in(value):
        problems.append(
            f"{key}: holds {what}; leave it out: the default credential chain finds it, and a"
            " password is a reference such as {secret: NAME}"
        )


def _referenced(reference: Mapping[str, Any], key: str, problems: list[str]) -> Any:
    kind = "secret" if "secret" in reference else "env"
    name, what = reference[kind], {"secret": "secret", "env": "environment variable"}[kind]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        # It may be the value, written where its name belongs.
        problems.append(f"{key}: {kind} takes the name of a variable: capitals, digits and _")
        return None
    value = os.environ.get(name) or reference.get("default")
    if not value:
        problems.append(f"{key}: {what} {name} is not set; set it, then load again")
    # A secret may look like anything, a placeholder too: nobody looks at it.
    elif kind == "env" and _PLACEHOLDER.search(str(value)):
        problems.append(f"{key}: {what} {name} holds a placeholder; put the real value there")
    elif kind == "env":
        _refuse_credentials(str(value), key, problems)
    return Secret(name) if kind == "secret" else value
