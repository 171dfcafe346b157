"""Variables of this process, by which Sail is told what its interface has no word for.

Belongs here: setting them, and taking them back. Does not belong here: which there are for how fast it
is (`session.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spark_jobs.errors import EngineUnavailable

if TYPE_CHECKING:
    from spark_jobs.lake.storage import Storage

# What is held now, once for each engine that holds it, and what was there before.
_held: list[dict[str, str]] = []
_before: dict[str, str | None] = {}
# Of the credentials with which Sail first reached a store: the id of the key, None for those of a role.
_first_key: list[str | None] = []


def of_store(store: Storage) -> dict[str, str]:
    """How Sail reaches a store. Its endpoint goes by the name that is of S3 alone: by the other one,
    clients of other services in this process would follow it too."""
    given = {
        "AWS_REGION": store.region,
        "AWS_ENDPOINT_URL_S3": store.endpoint,
        "AWS_ALLOW_HTTP": "true" if (store.endpoint or "").startswith("http://") else None,
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true" if store.virtual_hosted else None,
    }
    return {name: value for name, value in given.items() if value}


def ensure_same_key() -> None:
    """Sail keeps for a quarter of an hour, for all engines of the process, the credentials that it found
    first, whatever the variables say by then.

    Raises EngineUnavailable if they say other ones now: it would go on with those of before.
    """
    key = os.environ.get("AWS_ACCESS_KEY_ID")
    if not _first_key:
        _first_key.append(key)
    elif _first_key != [key]:
        raise EngineUnavailable(
            "AWS_ACCESS_KEY_ID is another one than when this process first reached an object store, and"
            " Sail would go on with the credentials of then. Start a new process."
        )


def held(values: Mapping[str, str]) -> Callable[[], None]:
    """Sets variables until the returned function is called: Sail asks for them whenever it meets a
    bucket for the first time.

    Raises EngineUnavailable if an engine of this process holds them at other values.
    """
    if not values:
        return lambda: None
    holder = dict(values)
    if _held and _held[0] != holder:
        raise EngineUnavailable(
            "an engine that runs in this process reaches another object store; two of them need a"
            " process each"
        )
    if not _held:
        _before.update({name: os.environ.get(name) for name in holder})
        os.environ.update(holder)
    _held.append(holder)

    def release() -> None:
        _held[:] = [other for other in _held if other is not holder]
        if not _held:
            for name in holder:
                os.environ.pop(name, None)
            os.environ.update({n: v for n, v in _before.items() if v is not None})
            _before.clear()

    return release


@contextmanager
def defaults(values: Mapping[str, str]) -> Iterator[None]:
    """Sets variables that are not set already, and takes them back."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
