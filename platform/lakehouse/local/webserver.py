"""Dagster's webserver with a guard before it, its code server and its daemon: `lakehouse ui`.

Belongs here: which requests are refused before Dagster sees them, and the processes of one served
lake. Does not belong here: what Dagster serves, and ending the processes (`cli/ui.py`).

Dagster's webserver answers whoever asks: it has no login, and takes mutations by GET, from pages of
any site and under any name. A page that somebody has open in a browser could so launch runs here,
or read everything by having its own name resolve to this machine.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import dagster as dg
import uvicorn
import yaml
from dagster_webserver.webserver import DagsterWebserver
from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lakehouse.dagster_private import (
    ModuleTarget,
    ProxyServerManager,
    WorkspaceFileTarget,
    WorkspaceProcessContext,
)

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
POLL_MILLISECONDS = 2000


@dataclass(frozen=True)
class Names:
    """Under which names this server may be asked for: `host`, on which it listens, and those under
    which a proxy serves it. An address cannot be made to resolve to another one, so any will do
    where the server listens on all."""

    host: str
    proxies: frozenset[str] = frozenset()

    def include(self, name: str) -> bool:
        if name in {"localhost", "127.0.0.1", "::1", self.host.lower()} | self.proxies:
            return True
        own, asked = _ip(self.host), _ip(name)
        return own is not None and own.is_unspecified and asked is not None


def _ip(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def refusal(names: Names, method: str, headers: Headers) -> tuple[int, str] | None:
    """Why a request is refused, with the status that says so; None if it is not."""
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not names.include(_name(f"//{hosts[0]}")):
        return 421, "This is not the server of that name. Behind a proxy: lakehouse ui --name NAME"
    for origin in headers.getlist("origin"):
        own = urlsplit(origin).netloc.lower() == hosts[0].lower()
        if not own and _name(origin) not in names.proxies:
            return 403, "Pages of another site may not ask this server anything."
    content = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method not in SAFE_METHODS and content != "application/json":
        return 415, "Only application/json changes anything here."
    return None


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # such as `[`
        return ""


class Guard:
    """Answers requests that are refused, those of websockets too, in place of the app."""

    def __init__(self, app: ASGIApp, names: Names) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            # A websocket is asked for by GET.
            refused = refusal(self.names, scope.get("method", "GET"), Headers(scope=scope))
            if refused is not None and scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": refused[1]})
                return
            if refused is not None:
                await PlainTextResponse(f"{refused[1]}\n", refused[0])(scope, receive, send)
                return
        await self.app(scope, receive, send)


class Webserver(DagsterWebserver[Any, Any]):
    """Dagster's, behind the guard; what comes by GET can only ask. Without further names it is
    asked for by those of this machine alone, whatever it listens on."""

    names = Names("localhost")

    def build_middleware(self) -> list[Middleware]:
        return [Middleware(Guard, names=self.names), *super().build_middleware()]

    async def graphql_http_endpoint(self, request: Request) -> Response:
        if request.method != "POST" and not only_queries(request.query_params.getlist("query")):
            text = "Only queries are taken by GET; send a mutation by POST.\n"
            return PlainTextResponse(text, 405, {"Allow": "POST"})
        return await super().graphql_http_endpoint(request)


def guard_this_process(names: Collection[str] = ()) -> None:
    """From here on, Dagster's own commands (`dagster-webserver`, and `dagster dev` and `dg dev`, which
    start it) serve behind the guard too. None of them loads code of a code location, but all open
    the run history, which is how they come by here."""
    from dagster_webserver import app

    Webserver.names = Names("localhost", frozenset(name.lower() for name in names))
    vars(app)["DagsterWebserver"] = Webserver


def only_queries(texts: Iterable[str]) -> bool:
    """Whether every operation in these GraphQL documents is a query. What cannot be read is left
    to the server, which cannot read it either."""
    for text in texts:
        try:
            document = parse(text)
        except GraphQLError:
            continue
        for definition in document.definitions:
            if isinstance(definition, OperationDefinitionNode):
                if definition.operation is not OperationType.QUERY:
                    return False
    return True


@click.command()
@click.option("--host", required=True)
@click.option("--port", type=int, required=True)
@click.option("--name", "proxies", multiple=True)
def main(host: str, port: int, proxies: Collection[str]) -> None:
    """Serves workspace.yaml, or the lake's code location alone, with a daemon until SIGTERM."""
    # The server gives the signal back when it has ended; everything else ends in order then.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.environ["DAGSTER_IS_DEV_CLI"] = "1"  # what Dagster's own `dev` tells its processes
    target = (
        WorkspaceFileTarget(["workspace.yaml"])
        if Path("workspace.yaml").is_file()
        else ModuleTarget("lakehouse.definitions", None, None, "lakehouse")
    )
    names = Names(host, frozenset(name.lower() for name in proxies))
    with (
        dg.DagsterInstance.get() as instance,
        # One code server for all, on a socket that only this user can connect to.
        ProxyServerManager(instance, target, "WARNING") as code,
        tempfile.TemporaryDirectory(prefix="lakehouse-ui-") as folder,
    ):
        workspace = Path(folder, "workspace.yaml")
        workspace.write_text(yaml.safe_dump({"load_from": list(code.get_code_server_specs())}))
        served = WorkspaceFileTarget([str(workspace)])
        command = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(workspace)]
        with (
            WorkspaceProcessContext(instance, served, version=dg.__version__) as context,
            subprocess.Popen(command) as daemon,
        ):
            sys.exit(_serve(context, names, port, daemon))


def _serve(
    context: WorkspaceProcessContext, names: Names, port: int, daemon: subprocess.Popen[bytes]
) -> int:
    """Serves until a signal, or the end of the daemon; returns an exit code."""
    webserver = Webserver(context, live_data_poll_rate=POLL_MILLISECONDS)
    webserver.names = names
    server = uvicorn.Server(
        uvicorn.Config(
            webserver.create_asgi_app(),
            host=names.host,
            port=port,
            log_level="warning",
            timeout_graceful_shutdown=1,  # an open page keeps its websocket for ever
        )
    )

    def end_with_daemon() -> None:
        daemon.wait()
        server.should_exit = True

    threading.Thread(target=end_with_daemon, daemon=True).start()
    try:
        server.run()
    finally:
        lost = daemon.poll() is not None
        daemon.terminate()
    return 1 if lost else 0


if __name__ == "__main__":
    main()
