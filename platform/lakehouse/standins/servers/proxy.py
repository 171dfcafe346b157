"""A proxy before a server over HTTP: it counts requests, takes its time, and fails when it is told to.

Belongs here: what a network, or a store that is not well, does to a request. Does not belong here: what
the server answers (`aws.py`).
"""

from __future__ import annotations

import http.client
import http.server
import json
import re
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from lakehouse.standins.servers import processes

Fault = Literal["slow down", "lose the reply"]

_SLOW_DOWN = (
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
# Of one connection, and not of what is said through it.
_OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding"}


_CONTROL = "/-/"


@dataclass(frozen=True)
class Request:
    """What was asked, and how large it was."""

    method: str
    path: str
    size: int


@dataclass
class Failure:
    """What happens to the next requests, so many `times`, whose method and path have `pattern`."""

    how: Fault
    pattern: str
    times: int = 1


@dataclass(frozen=True)
class Proxy:
    """A proxy that is listening at `url`."""

    url: str

    def take(self, seconds: float) -> None:
        """Each request takes that long from here on."""
        self._say("latency", seconds)

    def fail(self, how: Fault, pattern: str, times: int = 1) -> None:
        """Answers 503 SlowDown in place of the server, or passes a request on and cuts the connection
        before the answer."""
        self._say("fail", asdict(Failure(how, pattern, times)))

    @property
    def to_come(self) -> int:
        """How many failures nobody has met yet."""
        return int(self._say("to-come"))

    def asked(self) -> list[Request]:
        """The requests since this was last called."""
        return [Request(**request) for request in self._say("asked")]

    def _say(self, what: str, value: object = None) -> Any:
        told = urllib.request.Request(f"{self.url}{_CONTROL}{what}", json.dumps(value).encode())
        with urllib.request.urlopen(told, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def before(server: str) -> Iterator[Proxy]:
    """A proxy before the server at that URL."""
    with processes.started(__name__, server) as url:
        yield Proxy(url)


class _State:
    """What the proxy has been told, and has heard."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: list[Request] = []
        self._failures: list[Failure] = []
        self.latency = 0.0

    def told(self, what: str, value: Any) -> object:
        with self._lock:
            if what == "latency":
                self.latency = value
            elif what == "fail":
                self._failures.append(Failure(**value))
            elif what == "to-come":
                return sum(failure.times for failure in self._failures)
            else:
                heard, self._asked = self._asked, []
                return [asdict(request) for request in heard]
        return None

    def heard(self, request: Request) -> Fault | None:
        with self._lock:
            self._asked.append(request)
            for failure in self._failures:
                said = f"{request.method} {request.path}"
                if failure.times and re.search(failure.pattern, said):
                    failure.times -= 1
                    return failure.how
        return None


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet
    upstream: str
    state = _State()

    def setup(self) -> None:
        super().setup()
        self._server = http.client.HTTPConnection(self.upstream, timeout=120)

    def finish(self) -> None:
        super().finish()
        self._server.close()

    def _pass_on(self) -> None:
        body = self._body()
        if self.path.startswith(_CONTROL):
            said = self.state.told(self.path.removeprefix(_CONTROL), json.loads(body))
            self._answer(200, [], json.dumps(said).encode())
            return
        fault = self.state.heard(Request(self.command, self.path, len(body)))
        time.sleep(self.state.latency)
        if fault == "slow down":
            self._answer(503, [("Content-Type", "application/xml")], _SLOW_DOWN)
            return
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _OF_THE_CONNECTION}
        if body or self.command in ("PUT", "POST"):
            headers["Content-Length"] = str(len(body))
        self._server.request(self.command, self.path, body, headers)
        answer = self._server.getresponse()
        content = answer.read()
        if fault == "lose the reply":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._answer(answer.status, answer.getheaders(), content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value  # of what a GET would bring
            elif name.lower() not in {*_OF_THE_CONNECTION, "content-length"}:
                self.send_header(name, value)
        if status >= 200 and status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = _pass_on  # noqa: N815 (http.server's names)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Requests are kept in `asked`."""


if __name__ == "__main__":
    _Handler.upstream = urlsplit(sys.argv[1]).netloc
    processes.serve(http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler))
