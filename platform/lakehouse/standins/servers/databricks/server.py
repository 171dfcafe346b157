"""The HTTP API of a workspace: Jobs 2.2 (submit, get, get-output, cancel, list), Files, and credentials.

Belongs here: requests and answers, who may ask, and the faults of a network. Does not belong here: what
is asked for (runs.py, volumes.py).
Sources: https://docs.databricks.com/api/workspace/jobs and /files
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask, Response, jsonify, request

from lakehouse.standins.servers.databricks.catalog import PATH, Catalog
from lakehouse.standins.servers.databricks.compute import Compute
from lakehouse.standins.servers.databricks.faults import Fault, Faults
from lakehouse.standins.servers.databricks.runs import Runs
from lakehouse.standins.servers.databricks.volumes import ApiError, Volumes
from lakehouse.standins.servers.web import serving

VOLUME = "main/operations/lakehouse"
_ANSWERS = {
    "throttle": ApiError(429, "REQUEST_LIMIT_EXCEEDED", "Too many requests."),
    "unavailable": ApiError(503, "TEMPORARILY_UNAVAILABLE", "The service is being updated."),
    "error": ApiError(500, "INTERNAL_ERROR", "Something went wrong."),
}


@dataclass(frozen=True)
class Workspace:
    """A running workspace: where it is and how to log in, its files, its runs, and its faults."""

    host: str
    token: str
    volumes: Volumes
    runs: Runs
    faults: Faults
    requests: list[str]
    catalog: Catalog

    @property
    def volume(self) -> str:
        return f"/Volumes/{VOLUME}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead the SDK here."""
        return {"DATABRICKS_HOST": self.host, "DATABRICKS_TOKEN": self.token}


@contextmanager
def workspace(
    home: Path,
    jars: Sequence[Path],
    spark_conf: Mapping[str, str],
    environment: Mapping[str, str] | None = None,
) -> Iterator[Workspace]:
    """A workspace on a free port of this machine, with one volume; it ends with the block, as do
    its runs. What its Spark and its drivers are given is the service's, not a job's."""
    volumes = Volumes(home / "volumes", frozenset({VOLUME}))
    volumes.make_directory(f"/Volumes/{VOLUME}")
    (home / "runs").mkdir(parents=True, exist_ok=True)
    compute = Compute(
        home / "environments", volumes.root, jars, spark_conf, dict(environment or {})
    )
    faults, token, asked = Faults(), secrets.token_urlsafe(24), list[str]()
    runs = Runs(home / "runs", compute, volumes, faults)
    catalog = Catalog()
    app = _app(runs, volumes, faults, token, asked)
    app.add_url_rule(
        PATH, "vend", lambda: jsonify(catalog.vend(request.get_json())), methods=["POST"]
    )
    with serving(app) as host:
        compute.environment.update(DATABRICKS_HOST=host, DATABRICKS_TOKEN=token)
        try:
            yield Workspace(host, token, volumes, runs, faults, asked, catalog)
        finally:
            runs.stop()


def _app(runs: Runs, volumes: Volumes, faults: Faults, token: str, asked: list[str]) -> Flask:
    app = Flask(__name__)

    @app.before_request
    def before() -> None:
        asked.append(f"{request.method} {request.path}")
        if request.headers.get("Authorization") != f"Bearer {token}":
            raise ApiError(401, "UNAUTHENTICATED", "The token is not known.")
        fault = faults.of_request(request.method, request.path)
        if fault and fault.kind in _ANSWERS:
            raise _ANSWERS[fault.kind]
        request.environ["standin.fault"] = fault

    @app.after_request
    def after(response: Response) -> Response:
        fault: Fault | None = request.environ.get("standin.fault")
        if fault:  # it was done, and nobody hears of it
            line: socket.socket = request.environ["werkzeug.socket"]
            if fault.kind == "hold_reply":
                line.recv(1, socket.MSG_PEEK)  # nothing more comes but the end
            line.shutdown(socket.SHUT_RDWR)
        return response

    @app.errorhandler(ApiError)
    def refused(error: ApiError) -> tuple[Response, int, dict[str, str]]:
        retry = {"Retry-After": "1"} if error.status in (429, 503) else {}
        return jsonify(error_code=error.code, message=error.message), error.status, retry

    _add_jobs(app, runs)
    _add_files(app, volumes)
    return app


def _add_jobs(app: Flask, runs: Runs) -> None:
    def host() -> str:
        return request.host_url.rstrip("/")

    def run_id() -> int:
        return int(request.args["run_id"])

    def active() -> bool:
        return request.args.get("active_only") == "true"

    routes: dict[str, tuple[str, Callable[[], Any]]] = {
        "submit": ("POST", lambda: runs.submit(request.get_json())),
        "get": ("GET", lambda: runs.get(run_id(), host())),
        "get-output": ("GET", lambda: runs.output(run_id(), host())),
        "cancel": ("POST", lambda: runs.cancel(int(request.get_json()["run_id"]))),
        "list": ("GET", lambda: runs.listed(host(), active=active())),
    }
    for name, (method, answer) in routes.items():
        rule = f"/api/2.2/jobs/runs/{name}"
        app.add_url_rule(rule, f"runs {name}", lambda a=answer: jsonify(a()), methods=[method])


def _add_files(app: Flask, volumes: Volumes) -> None:
    @app.route("/api/2.0/fs/files/<path:path>", methods=["GET", "PUT", "DELETE", "HEAD"])
    def files(path: str) -> tuple[bytes, int]:
        path = f"/{path}"
        if request.method == "PUT":
            overwrite = request.args.get("overwrite") == "true"
            volumes.write(path, request.get_data(), overwrite=overwrite)
        elif request.method == "DELETE":
            volumes.delete(path)
        else:
            return volumes.read(path), 200
        return b"", 204

    @app.route("/api/2.0/fs/directories/<path:path>", methods=["GET", "PUT", "DELETE", "HEAD"])
    def directories(path: str) -> tuple[Any, int]:
        path = f"/{path}"
        if request.method == "PUT":
            volumes.make_directory(path)
        elif request.method == "DELETE":
            volumes.delete_directory(path)
        else:
            return jsonify(contents=volumes.listed(path)), 200
        return b"", 204
