"""Services that are asked over HTTP: the API of rates, and Salesforce.

Belongs here: their settings, and records for them. Does not belong here: the services (servers/).
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakehouse.standins.data.fx import quotations
from lakehouse.standins.servers import fx, salesforce
from lakehouse.standins.systems.system import COPY, CUT, NO_ID, NO_RATE, NO_TIME, counted
from spark_jobs.contract.source import Salesforce, Source
from spark_jobs.window import Window


@dataclass(frozen=True)
class Rates:
    """It has the bank's rates anyway; what else was planted is none of them."""

    service: fx.FxService
    kind: str = "fx_api"

    @property
    def connection(self) -> Mapping[str, Any]:
        return {"url": self.service.url, "key": {"secret": "FX_API_KEY"}}

    @property
    def variables(self) -> Mapping[str, str]:
        return {"FX_API_KEY": fx.KEY}

    def put(self, source: Source, folder: Path) -> Counter[str]:
        with (folder / "fx_rates.csv").open(newline="") as lines:
            planted = Counter(tuple(row) for row in list(csv.reader(lines))[1:])
        day = Window.of(folder.name).start.date()
        return counted(NO_RATE, (planted - Counter(quotations().window(day))).total())


@dataclass(frozen=True)
class Crm:
    """An organization of Salesforce. `columns` are those of a dataset that tables read."""

    service: salesforce.SalesforceService
    columns: Callable[[Source], list[str]]
    kind: str = "salesforce"

    @property
    def connection(self) -> Mapping[str, Any]:
        secrets = {name: {"secret": variable} for name, variable in self._logins.items()}
        return {**secrets, "endpoint": self.service.url}

    @property
    def variables(self) -> Mapping[str, str]:
        values = salesforce.USER, salesforce.PASSWORD, salesforce.TOKEN
        return dict(zip(self._logins.values(), values, strict=True))

    @property
    def _logins(self) -> dict[str, str]:
        names = "username", "password", "security_token"
        return {name: f"SALESFORCE_{name.upper()}" for name in names}

    def put(self, source: Salesforce, folder: Path) -> Counter[str]:
        columns, left = self.columns(source), Counter[str]()
        records: dict[str, dict[str, Any]] = {}
        for text in (folder / f"{source.dataset}.jsonl").read_text().splitlines():
            record, reason = _record(text)
            if reason or record["Id"] in records:
                left[reason or COPY] += 1
            else:
                records[record["Id"]] = {c: record.get(c) for c in (*columns, "SystemModstamp")}
        self.service.put(source.object, records.values())
        return left


def _record(text: str) -> tuple[dict[str, Any], str]:
    """A line as a record, and why Salesforce would not have it."""
    try:
        record = json.loads(text)
    except ValueError:
        return {}, CUT
    return record, "" if record.get("Id") and record.get("SystemModstamp") else (
        NO_TIME if record.get("Id") else NO_ID
    )
