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

from lakehouse.standins.servers.databricks.catalog import Vended
from lakehouse.standins.servers.web import serving

_KEY = re.compile(r"Credential=([^/,]+)/")
_NAME = re.compile("<Key>(.*?)</Key>")  # of objects that are deleted together
_REFUSED = "<Error><Code>{}</Code><Message>{}</Message></Error>"


class _Passed(Response):
    automatically_set_content_length = False  # the answer to a HEAD has a length without a body


@dataclass
class Guard:
    """`vended` says what keys are for; `session` is a key that may do everything, as the service's own
    Spark has one. `asked` are requests as (key, method, path), and `denied` those that were refused.
    Keys in `ended` are past their time: once the session asks for something that has the pattern
    `until`, all that were vended before are."""

    store: str
    vended: Mapping[str, Vended]
    session: str
    url: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    until: str = ""

    def end_all(self) -> None:
        self.ended.update(self.vended)

    def allows(self, key: str, request: Request) -> bool:
        if key == self.session:
            return True
        if key not in self.vended:
            return False
        given = self.vended[key]
        bucket, _, folder = given.url.removeprefix("s3://").partition("/")
        asked_bucket, _, name = request.path.lstrip("/").partition("/")
        names = [name]
        if request.method == "POST" and "delete" in request.args:
            names = _NAME.findall(request.get_data(as_text=True))
        elif not name:  # a listing names what it is about; without it, it is about the bucket
            names = [request.args.get("prefix", "")]
        writes = request.method not in ("GET", "HEAD")
        below = all(f"{n}/".startswith(f"{folder}/") for n in names)
        inside = asked_bucket == bucket and below
        return inside and (not writes or given.operation == "PATH_READ_WRITE")

    def denial(self, key: str, request: Request) -> str:
        """Who asked for what, in words that tell no secret."""
        given = self.vended.get(key)
        who = f"a key to {given.operation} {given.url}" if given else "a key of somebody else"
        return f"{who if key else 'nobody'} asks to {request.method} {request.full_path}"

    def _refused(self, status: int, code: str, what: str) -> Response:
        self.denied.append(what)
        return Response(_REFUSED.format(code, escape(what)), status, mimetype="application/xml")

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        request = Request(environ)
        found = _KEY.search(request.headers.get("Authorization", ""))
        key = found[1] if found else ""
        self.asked.append((key, request.method, request.full_path))
        if self.until and key == self.session and re.search(self.until, request.full_path):
            self.until = ""
            self.end_all()
        if key in self.ended:
            refusal = self._refused(400, "ExpiredToken", "The provided token has expired.")
            return refusal(environ, start)
        if not self.allows(key, request):
            return self._refused(403, "AccessDenied", self.denial(key, request))(environ, start)
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
def guarded(store: str, vended: Mapping[str, Vended], session: str) -> Iterator[Guard]:
    guard = Guard(store, vended, session)
    with serving(guard) as guard.url:
        yield guard
