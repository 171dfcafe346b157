"""Records of Salesforce, by the time of their last change: by REST a few, by Bulk 2.0 many.

Belongs here: queries, and what the client does not do by itself. Does not belong here: what records
mean.

Deleted records are records that changed: where a contract has the column `IsDeleted`, they come too, and
say so.
"""

from __future__ import annotations

import csv
import io
import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from simple_salesforce import exceptions
from simple_salesforce.api import Salesforce as Client
from urllib3.util import Retry

from lakehouse.settings.sources import SalesforceConnection
from lakehouse.sources.source import Batch, Meter, Reads
from spark_jobs.contract.source import Salesforce
from spark_jobs.errors import InputError, StorageError

CHANGED, DELETED = "SystemModstamp", "IsDeleted"
_AT_ONCE = 2000
# The client warns of an app that nobody has approved with the app's key; the error that follows says it.
warnings.filterwarnings("ignore", module=r"simple_salesforce\.login")
_BULK_PAGE = 50_000


@dataclass(frozen=True)
class Records:
    """One kind of object."""

    connection: SalesforceConnection
    declared: Salesforce
    columns: tuple[str, ...]
    reads: Reads = "changes"
    changed: str | None = CHANGED

    def pull(self, since: datetime | None, until: datetime, meter: Meter) -> Iterator[Batch]:
        deleted = DELETED in self.columns
        where = " and ".join(self._span(since, until))
        fields = ", ".join(dict.fromkeys([*self.columns, CHANGED]))
        query = f"select {fields} from {self.declared.object} where {where} order by {CHANGED}, Id"
        with self._client(meter) as client:
            self._ensure_requests(client)
            found = client.query(
                f"select count() from {self.declared.object} where {where}", include_deleted=deleted
            )
            if found["totalSize"] >= self.connection.bulk_from:
                yield from self._in_bulk(client, query, deleted=deleted)
                return
            records = client.query_all_iter(query, include_deleted=deleted)
            while page := list(itertools.islice(records, _AT_ONCE)):
                for record in page:
                    record.pop("attributes", None)
                yield page

    def check(self) -> None:
        with self._client(Meter()) as client:
            client.query(f"select Id from {self.declared.object} limit 1")

    def _ensure_requests(self, client: Client) -> None:
        """Raises InputError if what the day has left belongs to others."""
        day = client.limits()["DailyApiRequests"]
        if day["Remaining"] < self.connection.requests_left:
            raise InputError(
                f"salesforce {self.declared.object}: {day['Remaining']:,} of the day's {day['Max']:,}"
                f" requests are left, and {self.connection.requests_left:,} are kept for others. They"
                " come back within 24 hours: extract again then, or lower requests_left (settings)."
            )

    def _in_bulk(self, client: Client, query: str, *, deleted: bool) -> Iterator[Batch]:
        of = getattr(client.bulk2, self.declared.object)
        pull = of.query_all if deleted else of.query
        for text in pull(query, max_records=_BULK_PAGE, wait=self.connection.poll_seconds):
            rows = csv.DictReader(io.StringIO(text, newline=""))
            while page := list(itertools.islice(rows, _AT_ONCE)):
                # A value that is not there is an empty one in CSV, and there is no empty text.
                yield [{k: v or None for k, v in row.items()} for row in page]

    def _span(self, since: datetime | None, until: datetime) -> Iterator[str]:
        if since is not None:
            yield f"{CHANGED} >= {since:%Y-%m-%dT%H:%M:%SZ}"
        yield f"{CHANGED} < {until:%Y-%m-%dT%H:%M:%SZ}"

    @contextmanager
    def _client(self, meter: Meter) -> Iterator[Client]:
        """A client that has logged in. Raises what it raises as an error that says what to do, and that
        holds nothing of the request."""
        of = self.connection
        with requests.Session() as session:
            session.mount("https://", _Requests(of, meter))
            try:
                yield Client(
                    **of.login(),
                    domain=of.domain,
                    session=session,
                )
            except exceptions.SalesforceAuthenticationFailed as error:
                if isinstance(error.code, int):  # no answer of the login, but of what is before it
                    raise StorageError(
                        f"salesforce: the login has status {error.code}. It is tried again.",
                        permanent=False,
                    ) from None
                raise InputError(
                    f"salesforce: the login is refused ({error.code}). Check what the settings"
                    " log in with (sources.salesforce); a new password makes a new security token."
                ) from None
            except exceptions.SalesforceError as error:
                raise _described(error, self.declared.object) from None


def source(
    connection: SalesforceConnection, declared: Salesforce, columns: tuple[str, ...]
) -> Records:
    """The records that a contract asks for."""
    return Records(connection, declared, columns)


class _Requests(HTTPAdapter):
    """Requests with a time limit, which are counted, and tried again where the service is not well; at
    another address than Salesforce's, if the settings give one."""

    def __init__(self, connection: SalesforceConnection, meter: Meter) -> None:
        again = Retry(
            total=connection.attempts - 1,
            backoff_factor=0.5,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods={"GET"},
            raise_on_status=False,
        )
        super().__init__(max_retries=again)
        self._endpoint, self._seconds = connection.endpoint, connection.timeout_seconds
        self._meter = meter

    def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> Any:
        if self._endpoint:
            place, there = urlsplit(str(request.url)), urlsplit(self._endpoint)
            request.url = urlunsplit(place._replace(scheme=there.scheme, netloc=there.netloc))
        self._meter.requests += 1
        more["timeout"] = more.get("timeout") or self._seconds
        return super().send(request, *args, **more)


def _described(error: exceptions.SalesforceError, what: str) -> Exception:
    """What the service has answered, by its own code."""
    answered: list[dict[str, str]] = error.content if isinstance(error.content, list) else []
    code = answered[0].get("errorCode", "") if answered else ""
    if code == "REQUEST_LIMIT_EXCEEDED":
        return InputError(
            f"salesforce {what}: the day's requests are used up. They come back within 24 hours: extract"
            " again then, or have the limit raised."
        )
    status = int(error.status or 0)
    expired = isinstance(error, exceptions.SalesforceExpiredSession)
    passing = expired or status in (408, 429) or status >= 500
    return StorageError(
        f"salesforce {what}: status {status or '?'} {code}. Check the object, its fields and the"
        " permissions of the user, then extract again.",
        permanent=not passing,
    )
