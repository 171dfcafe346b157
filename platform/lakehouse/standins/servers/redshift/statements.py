"""Redshift's SQL in PostgreSQL's words.

Belongs here: what is rewritten of a statement, by its text. Does not belong here: what Redshift's
functions and system views do (functions.sql), and files (files.py). Statements that PostgreSQL takes
as they are go through untouched.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from lakehouse.standins.servers.redshift.external import ExternalSchemas
from lakehouse.standins.servers.redshift.files import CopyError, spool, unload
from lakehouse.standins.servers.redshift.postgres import Postgres
from spark_jobs.lake.storage import Storage

_FLAGS = re.IGNORECASE | re.DOTALL
_COMMENTS = re.compile(r"\A(?:\s|--[^\n]*\n|/\*.*?\*/)*", re.DOTALL)
_LATE_VIEW = re.compile(
    r"create\s+(?:or\s+replace\s+)?view\s+(?P<name>\S+)\s+as\s*(?P<query>.+?)\s*"
    r"with\s+no\s+schema\s+binding\s*;?\s*\Z",
    _FLAGS,
)
_COPY = re.compile(
    r"copy\s+(?P<table>[\w.\"]+)\s*(?:\((?P<columns>[^)]*)\))?\s*from\s+'(?P<from>s3://[^']+)'"
    r"\s+iam_role\s+'(?P<role>[^']+)'\s*(?P<options>.*?);?\s*\Z",
    _FLAGS,
)
_UNLOAD = re.compile(
    r"unload\s*\(\s*'(?P<query>(?:[^']|'')+)'\s*\)\s*to\s+'(?P<to>s3://[^']+)'"
    r"\s+iam_role\s+'(?P<role>[^']+)'\s*(?P<options>.*?);?\s*\Z",
    _FLAGS,
)
_EXTERNAL = re.compile(
    r"create\s+external\s+schema\s+if\s+not\s+exists\s+(?P<schema>\w+)\s+from\s+data\s+catalog"
    r"\s+database\s+'(?P<database>\w+)'\s+iam_role\s+'(?P<role>[^']+)'\s*;?\s*\Z",
    _FLAGS,
)
_COPY_OPTIONS = {"manifest", "serializetojson", "fillrecord", "statupdate", "explicit_ids"}
_UNLOAD_OPTIONS = {"format", "as", "parquet", "manifest", "verbose", "parallel", "off", "on"}
_CREATE_TABLE = re.compile(r"\Acreate\s+(?:local\s+)?(?:temp(?:orary)?\s+)?table\b", _FLAGS)
# Of tables and columns: where rows lie on a cluster's nodes, and how they are packed.
_PLACEMENT = re.compile(
    r"\bdiststyle\s+(?:all|even|key|auto)\b|\bdistkey\s*\([^)]*\)"
    r"|\b(?:compound\s+|interleaved\s+)?sortkey\s*\([^)]*\)|\bsortkey\s+auto\b"
    r"|\bbackup\s+(?:no|yes)\b|\bencode\s+\w+",
    _FLAGS,
)
_UNSIZED = re.compile(r"(\bvarchar|\bcharacter\s+varying)\b(?!\s*\()", _FLAGS)
_MAX = re.compile(r"\bvarchar\s*\(\s*max\s*\)", _FLAGS)
# Functions whose first argument is a word and no value.
_PART = re.compile(r"\b(dateadd)\s*\(\s*(\w+)\s*,", _FLAGS)
_QUERY_GROUP = re.compile(r"\A(set|reset)\s+query_group\b", _FLAGS)


@dataclass(frozen=True)
class Translator:
    """Rewrites statements; `roles` are those that the cluster may take to reach the store."""

    postgres: Postgres
    storage: Storage
    roles: frozenset[str]
    external: ExternalSchemas

    def translate(self, sql: str, database: str, user: str) -> str:
        """The statement for PostgreSQL. COPY and UNLOAD reach for the store here."""
        body = sql[_COMMENTS.match(sql).end() :]  # type: ignore[union-attr] # it matches nothing, too
        try:
            if found := _COPY.match(body):
                return self._copy(found)
            if found := _UNLOAD.match(body):
                return self._unload(found, database, user)
            if found := _EXTERNAL.match(body):
                self._assume(found["role"])
                self.external.create(found["schema"], found["database"], database, user)
                return _done("1")
        except CopyError as error:
            detail = f"error: {error.detail}" if error.detail else ""
            return _done(f"standin.refuse({_text(str(error))}, {_text(detail)})")
        body = _PART.sub(r"\1('\2',", _MAX.sub("varchar(65535)", body))
        if found := _LATE_VIEW.match(body):
            name, query = _text(found["name"]), _text(found["query"])
            return _done(f"standin.create_late_binding_view({name}, {query})")
        if _CREATE_TABLE.match(body):
            body = _PLACEMENT.sub("", body)
            head, as_, query = _before_as(body)
            # Redshift gives a text without a length 256 bytes.
            return _UNSIZED.sub(r"\1(256)", head) + as_ + query
        return _QUERY_GROUP.sub(r"\1 standin.query_group", body)

    def _copy(self, found: re.Match[str]) -> str:
        self._assume(found["role"])
        words = found["options"].lower().split()
        if words[:2] == ["format", "as"]:
            words = ["format", *words[2:]]
        if words[:2] != ["format", "parquet"] or "manifest" not in words:
            raise CopyError("the stand-in loads FORMAT PARQUET with a MANIFEST only")
        for word in words[2:]:
            if word not in _COPY_OPTIONS:
                raise CopyError(f"{word.upper()} argument is not supported for PARQUET based COPY")
        nested = "serializetojson" in words
        files = spool(self.storage, self.postgres.spool, found["from"], nested=nested)
        wanted = ",".join(c.strip(' "') for c in (found["columns"] or "").split(",") if c.strip())
        arguments = ", ".join(map(_text, (found["table"], wanted, json.dumps(files))))
        return _done(f"standin.load({arguments})")

    def _unload(self, found: re.Match[str], database: str, user: str) -> str:
        self._assume(found["role"])
        words = found["options"].lower().split()
        if words[:2] != ["format", "parquet"] and words[:3] != ["format", "as", "parquet"]:
            raise CopyError("the stand-in unloads FORMAT PARQUET only")
        if strange := set(words) - _UNLOAD_OPTIONS:
            raise CopyError(f"syntax error at or near {sorted(strange)[0]}")
        query = found["query"].replace("''", "'")
        rows = unload(self.postgres, self.storage, database, user, query, found["to"])
        return _done(f"set_config('standin.last_unload', '{rows}', false)")

    def _assume(self, role: str) -> None:
        if role not in self.roles:
            raise CopyError(
                "User arn:aws:redshift:dbuser:standin is not authorized to assume IAM Role",
                f"Status 403,Error UnauthorizedException,Role {role}",
            )

    def forget(self) -> None:
        """Removes what was spooled."""
        for path in Path(self.postgres.spool).glob("*.csv"):
            path.unlink(missing_ok=True)


def _before_as(body: str) -> tuple[str, str, str]:
    """A CREATE TABLE up to the query that it is made of, if it is made of one."""
    found = re.search(r"\)?\s+as\s*\(?\s*(?:select|with|--|/\*)", body, _FLAGS)
    return (body, "", "") if found is None else (body[: found.start()], "", body[found.start() :])


def _done(call: str) -> str:
    """A statement that calls a function and returns no rows."""
    return f"do $standin$ begin perform {call}; end $standin$"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
