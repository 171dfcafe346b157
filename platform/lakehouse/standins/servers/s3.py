"""S3 as AWS has it, where moto plays it more simply.

Belongs here: what many clients at once see of one object. Does not belong here: the server (aws.py).

moto looks whether an object is there, and then writes it; here nobody writes in between, as S3 promises
for a write that names a condition. moto closes an object's content as soon as another takes its place;
here whoever reads it has all of it, and never a part.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_CONDITIONS = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH")


class OneWriterAtATime:
    """Requests to write under a condition one after another."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("PUT", "POST") and any(c in environ for c in _CONDITIONS):
            with self._lock:
                return self._app(environ, start)
        return self._app(environ, start)


def as_in_aws() -> None:
    """Changes moto's S3 for the rest of this process."""
    from moto.s3 import models

    etag: Any = models.FakeKey.etag

    def read_alone(key: Any) -> Any:
        with key.lock:  # as `value` is: both move through one file
            return etag.fget(key)

    changed: dict[Any, dict[str, Any]] = {
        models.FakeKey: {
            "__new__": _untracked,
            "dispose": _dispose,
            "etag": property(read_alone),
        },
        models.FakeMultipart: {"dispose": lambda upload: upload.parts.clear()},
    }
    for kind, methods in changed.items():
        for name, method in methods.items():
            setattr(kind, name, method)


def _untracked(kind: Any, *_: Any, **__: Any) -> Any:
    """moto keeps every object that ever was, and so relies on `dispose`."""
    return object.__new__(kind)


def _dispose(key: Any, garbage: bool = False) -> None:
    """The content goes with its last reader."""
    if garbage:
        key._value_buffer.close()
    key.disposed = True
