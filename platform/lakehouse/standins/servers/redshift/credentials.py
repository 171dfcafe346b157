"""The APIs that give out temporary passwords of a cluster and of a workgroup, and say where they are.

Belongs here: GetClusterCredentials and DescribeClusters of `redshift`, GetCredentials and GetWorkgroup
of `redshift-serverless`, as boto3 calls them. Does not belong here: logging in with what they gave
(server.py).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.sax.saxutils import escape

from flask import Flask, Response, jsonify, request

_NAMESPACE = "http://redshift.amazonaws.com/doc/2012-12-01/"
WHO = "lakehouse"
"""The name of the role that calls, in the names of users who are made from it."""


@dataclass
class Passwords:
    """Passwords by login; those that were given out run out after `lifetime`."""

    fixed: dict[str, str]
    lifetime: timedelta = timedelta(minutes=15)
    given: dict[str, dict[str, datetime]] = field(default_factory=dict)
    logins: list[str] = field(default_factory=list)

    def give(self, login: str) -> tuple[str, datetime]:
        password, until = secrets.token_urlsafe(24), datetime.now(UTC) + self.lifetime
        self.given.setdefault(login, {})[password] = until
        return password, until

    def accepts(self, login: str, password: str) -> str | None:
        """The database user, if the password is the login's."""
        now = datetime.now(UTC)
        temporary = self.given.get(login, {}).get(password, now) > now
        if not temporary and (not password or password != self.fixed.get(login)):
            return None
        self.logins.append(login)
        return login.partition(":")[2] if login.startswith("IAM:") else login


def api(passwords: Passwords, known: set[str], endpoint: Callable[[], tuple[str, int]]) -> Flask:
    """The app of both APIs; `known` are the names of clusters and workgroups."""
    app = Flask("redshift")

    def query() -> Response:
        action, form = request.form["Action"], request.form
        cluster = form.get("ClusterIdentifier", "")
        if cluster not in known:
            body = (
                f"<Error><Code>ClusterNotFound</Code><Message>Cluster {escape(cluster)} not found."
            )
            return _xml("ErrorResponse", f"{body}</Message></Error>", 404)
        if action == "DescribeClusters":
            host, port = endpoint()
            inner = f"<Endpoint><Address>{host}</Address><Port>{port}</Port></Endpoint>"
            return _result(action, f"<Clusters><Cluster>{inner}</Cluster></Clusters>")
        if action != "GetClusterCredentials":
            return _xml("ErrorResponse", "<Error><Code>InvalidAction</Code></Error>", 400)
        login = f"IAM:{form['DbUser']}"
        password, until = passwords.give(login)
        return _result(
            action,
            f"<DbUser>{escape(login)}</DbUser><DbPassword>{password}</DbPassword>"
            f"<Expiration>{until:%Y-%m-%dT%H:%M:%SZ}</Expiration>",
        )

    def serverless(action: str) -> tuple[Response, int]:
        workgroup = (request.get_json(force=True) or {}).get("workgroupName", "")
        if workgroup not in known:
            return jsonify(
                message=f"{workgroup} not found", __type="ResourceNotFoundException"
            ), 400
        if action == "GetWorkgroup":
            host, port = endpoint()
            return jsonify(workgroup={"endpoint": {"address": host, "port": port}}), 200
        password, until = passwords.give(f"IAMR:{WHO}")
        answer: dict[str, Any] = {"dbUser": f"IAMR:{WHO}", "dbPassword": password}
        return jsonify(**answer, expiration=until.timestamp()), 200

    @app.post("/")
    def call() -> Any:
        target = request.headers.get("X-Amz-Target")
        return serverless(target.rpartition(".")[2]) if target else query()

    return app


def _result(action: str, inner: str) -> Response:
    return _xml(f"{action}Response", f"<{action}Result>{inner}</{action}Result>", 200)


def _xml(root: str, inner: str, status: int) -> Response:
    text = f'<{root} xmlns="{_NAMESPACE}">{inner}</{root}>'
    return Response(text, status, mimetype="text/xml")
