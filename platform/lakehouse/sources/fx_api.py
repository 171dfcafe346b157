"""Exchange rates of an API that answers a range of days with the rates of each.

Belongs here: its requests, and its answer as rows. Does not belong here: re-basing, or days without
quotations, which are the tables' affair.

`GET <url>/<first>..<last>?base=EUR` answers `{"base": …, "rates": {day: {currency: rate or null}}}`, as
Frankfurter and others that serve the rates of the European Central Bank do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import tenacity

from lakehouse.settings.sources import FxApiConnection
from lakehouse.sources.source import Batch, Meter, Reads
from spark_jobs.causes import is_transient
from spark_jobs.contract.source import FxApi
from spark_jobs.errors import InputError

NOT_QUOTED = "N/A"
_LONGEST_WAIT = 120.0
_DAYS_AT_ONCE = 31
_BACKOFF = tenacity.wait_random_exponential(multiplier=0.5, max=30)


@dataclass(frozen=True)
class FxRates:
    """Rates of the days of a span, and of so many before as the contract says; newest day first."""

    connection: FxApiConnection
    declared: FxApi
    reads: Reads = "window"
    changed: str | None = None

    def pull(self, since: datetime | None, until: datetime, meter: Meter) -> Iterator[Batch]:
        last = (until - timedelta(microseconds=1)).date()
        first = (since or until).date() - timedelta(days=self.declared.days_before)
        with self._client() as client:
            while last >= first:  # newest first, a request for each month
                begin = max(first, last - timedelta(days=_DAYS_AT_ONCE - 1))
                path = f"{begin}..{last}"
                yield self._rows(self._ask(client, path, meter), path)
                last = begin - timedelta(days=1)

    def check(self) -> None:
        today = datetime.now(UTC).date()
        with self._client() as client:
            self._rows(self._ask(client, f"{today - timedelta(days=7)}..{today}", Meter()), "")

    def _client(self) -> httpx.Client:
        key = self.connection.key
        headers = {"Authorization": f"Bearer {key.reveal()}"} if key else {}
        return httpx.Client(headers=headers, timeout=self.connection.timeout_seconds)

    def _ask(self, client: httpx.Client, path: str, meter: Meter) -> str:
        @tenacity.retry(
            retry=tenacity.retry_if_exception(is_transient),
            wait=_wait,
            stop=tenacity.stop_after_attempt(self.connection.attempts),
            reraise=True,
        )
        def ask() -> str:
            meter.requests += 1
            url, base = f"{self.connection.url}/{path}", self.declared.base
            answer = client.get(url, params={"base": base})
            answer.raise_for_status()
            return answer.text

        return ask()

    def _rows(self, text: str, path: str) -> list[dict[str, Any]]:
        where = f"{self.connection.url}/{path}"
        try:
            # As they are written: a rate is no binary fraction, and 1.10 is not 1.1.
            answer = json.loads(text, parse_float=str, parse_int=str)
            base, days = answer["base"], answer["rates"]
            rows = [
                {"as_of_date": day, "base_currency": base, "ccy": ccy, "rate": rate or NOT_QUOTED}
                for day, rates in sorted(days.items(), reverse=True)
                for ccy, rate in rates.items()
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"{where}: the answer is not one of exchange rates. Check the address in the settings"
                " (sources.fx_api.url)."
            ) from None
        if base != self.declared.base:
            raise InputError(f"{where}: the rates are against {base}, not {self.declared.base}")
        return rows


def source(connection: FxApiConnection, declared: FxApi, columns: tuple[str, ...]) -> FxRates:
    """The rates that a contract asks for. Raises InputError for a column that the API does not have."""
    known = {"as_of_date", "base_currency", "ccy", "rate"}
    if strange := set(columns) - known:
        raise InputError(
            f"{declared.dataset}: the API of rates has no {', '.join(sorted(strange))}"
        )
    return FxRates(connection, declared)


def _wait(state: tenacity.RetryCallState) -> float:
    """As long as the API says, in seconds or as a date; else longer each time."""
    error = state.outcome.exception() if state.outcome else None
    headers: Mapping[str, str] = (
        error.response.headers if isinstance(error, httpx.HTTPStatusError) else {}
    )
    said = headers.get("Retry-After", "")
    if said.isdigit():
        return min(float(said), _LONGEST_WAIT)
    try:
        wait = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return _BACKOFF(state)
    return min(max(wait, 0.0), _LONGEST_WAIT)
