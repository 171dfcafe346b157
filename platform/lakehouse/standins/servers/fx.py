"""An API of exchange rates, over the real history of the European Central Bank.

Belongs here: requests and answers, and what goes wrong when it is told to. Does not belong here: the
rates (data/fx.py).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta

from flask import Flask, Response, request

from lakehouse.standins.data.fx import BASE, NOT_QUOTED, quotations
from lakehouse.standins.servers.web import serving

KEY = "a key of the rates' API"


@dataclass
class FxService:
    """The service. `answers` are given to the next requests in place of rates: a status, and headers;
    `asked` are the paths of the requests so far."""

    url: str = ""
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def rates(self, span: str) -> Response:
        self.asked.append(span)
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return Response(json.dumps({"message": "no such key"}), 401)
        if self.answers:
            status, headers = self.answers.pop(0)
            return Response(json.dumps({"message": "not now"}), status, headers)
        if request.args.get("base") != BASE:
            return Response(json.dumps({"message": "the base is EUR"}), 422)
        first, _, last = span.partition("..")
        text = _answer(date.fromisoformat(first), date.fromisoformat(last))
        return Response(text, content_type="application/json")


def _answer(first: date, last: date) -> str:
    """Rates as they are written in the bank's file; null where there was none."""
    history = quotations()
    days = []
    for i in range((last - first).days + 1):
        day = first + timedelta(days=i)
        if day in history.rates:
            row = history.rates[day]
            rates = [
                f'"{c}": {"null" if row[c] == NOT_QUOTED else row[c]}' for c in history.currencies
            ]
            days.append(f'"{day}": {{{", ".join([*rates, f"{json.dumps(BASE)}: 1"])}}}')
    head = f'"base": "{BASE}", "start_date": "{first}", "end_date": "{last}"'
    return f'{{{head}, "rates": {{{", ".join(days)}}}}}'


@contextmanager
def serve() -> Iterator[FxService]:
    """The service, at a port of its own."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    service, app = FxService(), Flask(__name__)
    app.add_url_rule("/v1/<span>", "rates", service.rates)
    with serving(app) as url:
        service.url = f"{url}/v1"
        yield service
