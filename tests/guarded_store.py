"""A store before which somebody looks at who asks: S3 as the policies of vended credentials make it.

Belongs here: what a key may do, and what was asked by whom. Does not belong here: the store (Aws).
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from werkzeug.wrappers import Request, Response

from lakehouse.standins.servers.web import serving

_KEY = re.compile(r"Credential=([^/,]+)/")
_DENIED = "<Error><Code>AccessDenied</Code><Message>{}</Message></Error>"


class _Passed(Response):
    automatically_set_content_length = False  # the answer to a HEAD has a length without a body


@dataclass
class Guard:
    """`vended` says what keys are for (`s3://bucket/folder`, operation); `session` is a key that may do
    everything, as the service's own Spark has one. `asked` are requests as (key, method, path)."""

    store: str
    vended: Mapping[str, tuple[str, str]]
    session: str
    url: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def allows(self, key: str, request: Request) -> bool:
        if key == self.session:
            return True
        if key not in self.vended:
            return False
        location, operation = self.vended[key]
        bucket, _, folder = location.removeprefix("s3://").partition("/")
        asked_bucket, _, name = request.path.lstrip("/").partition("/")
        # A listing names what it is about; without it, it is about the bucket.
        name = name or request.args.get("prefix", "")
        writes = request.method not in ("GET", "HEAD")
        inside = asked_bucket == bucket and f"{name}/".startswith(f"{folder}/")
        return inside and (not writes or operation == "PATH_READ_WRITE")

    def denial(self, key: str, request: Request) -> str:
        """Who asked for what, in words that tell no secret."""
        who = f"a key for {self.vended[key]}" if key in self.vended else "a key of somebody else"
        return f"{who if key else 'nobody'} asks to {request.method} {request.full_path}"

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        request = Request(environ)
        found = _KEY.search(request.headers.get("Authorization", ""))
        key = found[1] if found else ""
        self.asked.append((key, request.method, request.full_path))
        if not self.allows(key, request):
            denied = _DENIED.format(escape(self.denial(key, request)))
            return Response(denied, 403, mimetype="application/xml")(environ, start)
        return self._passed_on(request)(environ, start)

    def _passed_on(self, request: Request) -> Response:
        raw = request.environ.get("RAW_URI") or request.full_path
        headers = {k: v for k, v in request.headers if k.lower() not in ("host", "connection")}
        body = request.get_data()
        headers.pop("Transfer-Encoding", None)
        headers.setdefault("Content-Type", "application/octet-stream")  # or it would be a form
        sent = urllib.request.Request(
            self.store + raw, data=body or None, headers=headers, method=request.method
        )
        try:
            answer = urllib.request.urlopen(sent, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            content = answer.read()
            kept = [
                (k, v)
                for k, v in answer.headers.items()
                if k.lower() not in ("transfer-encoding", "connection", "content-encoding")
            ]
        return _Passed(content, answer.status, kept)


@contextmanager
def guarded(store: str, vended: Mapping[str, tuple[str, str]], session: str) -> Iterator[Guard]:
    guard = Guard(store, vended, session)
    with serving(guard) as guard.url:
        yield guard
