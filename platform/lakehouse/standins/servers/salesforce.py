"""Salesforce's API, as simple-salesforce speaks it: login, REST queries page by page, Bulk 2.0.

Belongs here: requests and answers, and what goes wrong when it is told to. Does not belong here: the
records (data/crm.py).
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import logging
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import jwt
from flask import Flask, Response, jsonify, request

from lakehouse.standins.servers.web import serving

USER, PASSWORD, TOKEN = "loader@lakehouse.standin", "a password & a half", "token-of-the-user"
APP_KEY, APP_SECRET = "key-of-the-app", "secret-of-the-app"
_DATA = "/services/data/v59.0"
_QUERY = re.compile(
    r"select (?P<fields>.+) from (?P<object>\w+)"
    r"(?: where (?P<where>.+?))?(?: order by SystemModstamp, Id)?(?: limit (?P<limit>\d+))?"
)
_CONDITION = re.compile(r"SystemModstamp (>=|<) (\S+)")


@dataclass
class SalesforceService:
    """An organization. `expire` sessions end at their next request; `answers` (a status and a code) are
    given to the next requests in place of records; `requests` are those so far, by method and path;
    `remaining` of a day's are left. `app_certificate`: the public key of its connected app."""

    url: str = ""
    page: int = 2000
    objects: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    expire: int = 0
    remaining: int = 15_000
    app_certificate: bytes = b""
    answers: list[tuple[int, str]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _sessions: set[str] = field(default_factory=set)
    _kept: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _jobs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def put(self, kind: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Makes or changes records, by their Id."""
        for record in records:
            self.objects.setdefault(kind, {})[record["Id"]] = {"IsDeleted": False, **record}

    def forget(self) -> None:
        """Removes all records, and mends what goes wrong."""
        for kept in (self.objects, self.answers, self.requests, self._sessions, self._kept):
            kept.clear()
        self.expire, self.page, self.remaining = 0, 2000, 15_000

    # -- requests ------------------------------------------------------------------------------

    def admit(self) -> Response | None:
        self.requests.append(f"{request.method} {request.path}")
        if request.path.startswith(("/services/Soap", "/services/oauth2")):
            return None
        session = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.expire > 0:
            self.expire -= 1
            self._sessions.clear()
        if session not in self._sessions:
            return _refused(401, "INVALID_SESSION_ID")
        if self.answers:
            return _refused(*self.answers.pop(0))
        return None

    def login(self) -> Response:
        text = request.get_data(as_text=True)
        password = PASSWORD.replace("&", "&amp;") + TOKEN
        if f">{USER}<" not in text or f">{password}<" not in text:
            fault = (
                '<f xmlns:sf="urn:fault.partner.soap.sforce.com">'
                "<sf:exceptionCode>INVALID_LOGIN</sf:exceptionCode>"
                "<sf:exceptionMessage>no such login</sf:exceptionMessage></f>"
            )
            return Response(fault, 500, content_type="text/xml")
        session = self._session()
        server = "https://standin.my.salesforce.com/services/Soap/u/59.0/00D"
        body = f"<r><sessionId>{session}</sessionId><serverUrl>{server}</serverUrl></r>"
        return Response(body, content_type="text/xml")

    def token(self) -> Response:
        """A login by OAuth: of the app alone, or of the app for a user."""
        if request.form["grant_type"] == "client_credentials":
            said = request.authorization
            good = said is not None and (said.username, said.password) == (APP_KEY, APP_SECRET)
            wrong = "invalid_client"
        else:
            good, wrong = self._vouched(request.form["assertion"]), "invalid_grant"
        if not good:
            return Response(json.dumps({"error": wrong}), 400, content_type="application/json")
        place = "https://standin.my.salesforce.com"
        return jsonify(access_token=self._session(), instance_url=place)

    def _vouched(self, assertion: str) -> bool:
        try:
            said = jwt.decode(
                assertion,
                self.app_certificate,
                algorithms=["RS256"],
                audience="https://login.salesforce.com",
            )
        except jwt.PyJWTError:
            return False
        return bool((said["iss"], said["sub"]) == (APP_KEY, USER))

    def _session(self) -> str:
        session = secrets.token_hex(16)
        self._sessions.add(session)
        return session

    def limits(self) -> Response:
        return jsonify(DailyApiRequests={"Max": 15_000, "Remaining": self.remaining})

    def query(self, of: str = "") -> Response:
        if of in ("query", "queryAll"):
            found = self._found(request.args["q"], deleted=of == "queryAll")
            if found is None:
                return _refused(400, "MALFORMED_QUERY")
            if request.args["q"].startswith("select count()"):
                return jsonify(totalSize=len(found), done=True, records=[])
            return self._page(secrets.token_hex(8), found, 0)
        key, _, first = of.rpartition("-")
        return self._page(key, self._kept[key], int(first))

    def _page(self, key: str, found: list[dict[str, Any]], first: int) -> Response:
        self._kept[key] = found
        page = [{"attributes": {"type": "sObject"}, **r} for r in found[first : first + self.page]]
        body: dict[str, Any] = {"totalSize": len(found), "done": first + self.page >= len(found)}
        if not body["done"]:
            body["nextRecordsUrl"] = f"{_DATA}/query/{key}-{first + self.page}"
        return jsonify(**body, records=page)

    def create_job(self) -> Response:
        wanted = request.get_json(force=True)
        found = self._found(wanted["query"], deleted=wanted["operation"] == "queryAll")
        if found is None:
            return _refused(400, "INVALIDJOB")
        job = secrets.token_hex(9)
        self._jobs[job] = found
        return jsonify(id=job, state="UploadComplete")

    def job(self, job: str) -> Response:
        return jsonify(id=job, state="JobComplete", numberRecordsProcessed=len(self._jobs[job]))

    def results(self, job: str) -> Response:
        first, most = int(request.args.get("locator", 0)), int(request.args["maxRecords"])
        page = self._jobs[job][first : first + min(most, self.page)]
        rest = first + len(page) < len(self._jobs[job])
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, list(self._jobs[job][0]) if self._jobs[job] else [])
        writer.writeheader()
        writer.writerows({k: _in_csv(v) for k, v in record.items()} for record in page)
        headers = {
            "Sforce-Locator": str(first + len(page)) if rest else "null",
            "Sforce-NumberOfRecords": str(len(page)),
        }
        return Response(out.getvalue().encode(), headers=headers, content_type="text/csv")

    def _found(self, query: str, *, deleted: bool) -> list[dict[str, Any]] | None:
        """The records of a query, with its fields; None for one that asks for what is not there."""
        said = _QUERY.fullmatch(query)
        if said is None or said["object"] not in self.objects:
            return None
        records = [
            r for r in self.objects[said["object"]].values() if deleted or not r["IsDeleted"]
        ]
        for sign, bound in _CONDITION.findall(said["where"] or ""):
            limit = datetime.fromisoformat(bound)
            records = [r for r in records if (_changed(r) < limit) == (sign == "<")]
        records.sort(key=lambda r: (_changed(r), r["Id"]))
        records = list(itertools.islice(records, int(said["limit"]) if said["limit"] else None))
        if said["fields"] == "count()":
            return records
        fields = said["fields"].split(", ")
        if records and not set(fields) <= set(records[0]):
            return None
        return [{f: r[f] for f in fields} for r in records]


def _changed(record: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(record["SystemModstamp"])


def _in_csv(value: object) -> object:
    return json.dumps(value) if isinstance(value, bool) else value


def _refused(status: int, code: str) -> Response:
    body = json.dumps([{"errorCode": code, "message": f"{code} of the stand-in"}])
    return Response(body, status, content_type="application/json")


@contextmanager
def serve() -> Iterator[SalesforceService]:
    """The service, at a port of its own."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    service, app = SalesforceService(), Flask(__name__)
    for method, path, operation in (
        ("POST", "/services/Soap/u/59.0", service.login),
        ("POST", "/services/oauth2/token", service.token),
        ("GET", f"{_DATA}/limits/", service.limits),
        ("GET", f"{_DATA}/<of>/", service.query),
        ("GET", f"{_DATA}/query/<of>", service.query),
        ("POST", f"{_DATA}/jobs/query", service.create_job),
        ("GET", f"{_DATA}/jobs/query/<job>", service.job),
        ("GET", f"{_DATA}/jobs/query/<job>/results", service.results),
    ):
        app.add_url_rule(path, f"{path} {method}", operation, methods=[method])
    app.before_request(service.admit)
    with serving(app) as service.url:
        yield service
