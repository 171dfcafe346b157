"""The systems that the sample comes from, on this machine: an API of rates, Salesforce, Snowflake,
Kinesis.

Belongs here: starting them together, the settings that lead to them, and filling them with a day of the
sample. Does not belong here: any of them (servers/), the sample (data/), or what extracts it
(cli/source_days.py).

A system holds no row that it could not have: a record without an Id, or a line that does not parse.
These are left out, and counted with the reason; so is what a pull by the time of change can never bring.
"""

from __future__ import annotations

import csv
import json
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq

from lakehouse.standins.data.fx import quotations
from lakehouse.standins.servers import aws, fx, salesforce, snowflake
from spark_jobs.contract.model import Contract, by_dataset
from spark_jobs.contract.source import Kinesis, Salesforce, Snowflake, Source
from spark_jobs.window import Window

NO_ID, NO_TIME, CUT, COPY = "without an Id", "without a time of change", "does not parse", "twice"
LATE, NO_RATE = "changed before the day", "no rate of the bank"
_SHARDS, _AT_ONCE = 2, 500
LeftOut = dict[str, dict[str, Counter[str]]]
"""Dataset to partition to how many rows no system holds, or no pull brings, by reason."""


@dataclass
class Systems:
    """They are up. `sources` is the part `sources` of settings, `variables` the environment that it and
    its clients need; `secrets` are the values among these that nobody may see."""

    contracts: Mapping[str, Contract]
    rates: fx.FxService
    crm: salesforce.SalesforceService
    accounts: snowflake.SnowflakeService
    cloud: aws.Aws
    secrets: Mapping[str, str]
    left_out: LeftOut = field(default_factory=dict)

    @property
    def sources(self) -> dict[str, Any]:
        given = self.accounts.given
        place = {name: given[name] for name in ("account", "user", "host", "port", "protocol")}
        logins = {
            name: {"secret": f"SALESFORCE_{name.upper()}"}
            for name in ("username", "password", "security_token")
        }
        return {
            "fx_api": {"url": self.rates.url, "key": {"secret": "FX_API_KEY"}},
            "salesforce": {**logins, "endpoint": self.crm.url},
            "snowflake": {
                **place,
                "password": {"secret": "SNOWFLAKE_PASSWORD"},
                "database": snowflake.DATABASE,
                "schema": snowflake.SCHEMA,
                "warehouse": snowflake.WAREHOUSE,
                "timeout_seconds": 60,
            },
            "kinesis": {"region": aws.REGION, "endpoint": self.cloud.url, "calls_per_second": 1000},
            "streams": {"drain_after_seconds": 1},
        }

    @property
    def variables(self) -> dict[str, str]:
        return {
            **self.secrets,
            "AWS_ACCESS_KEY_ID": aws.CREDENTIALS["AWS_ACCESS_KEY_ID"],
            "AWS_DEFAULT_REGION": aws.REGION,
            "SALESFORCE_USERNAME": salesforce.USER,
        }

    @property
    def datasets(self) -> dict[str, Source]:
        return {name: of[0].delivered for name, of in by_dataset(self.contracts).items()}

    @property
    def delivered(self) -> dict[str, str]:
        """The datasets that have no system here, with their kinds: they come as files."""
        return {n: s.kind for n, s in self.datasets.items() if s.kind not in self.sources}

    def create_streams(self) -> None:
        for source in self.datasets.values():
            if isinstance(source, Kinesis):
                self._kinesis().create_stream(StreamName=source.stream, ShardCount=_SHARDS)

    def fill(self, sample: Path, day: str, landing: Path, *, hourly: bool) -> None:
        """Puts a day of the sample into the systems that it comes from, or its files into landing: that
        of datasets with hours, or that of the others."""
        for name, source in self.datasets.items():
            for folder in sorted((sample / name).glob(f"{day}*")):
                if (Window.of(folder.name).scheme == "hourly") == hourly:
                    self._put(source, folder, landing)

    def _put(self, source: Source, folder: Path, landing: Path) -> None:
        puts: dict[str, Callable[[Any, Path], Counter[str]]] = {
            "fx_api": self._put_rates,
            "salesforce": self._put_records,
            "snowflake": self._put_rows,
            "kinesis": self._put_stream,
        }
        if source.kind not in puts:
            shutil.copytree(folder, landing / source.dataset / folder.name)
        elif left := puts[source.kind](source, folder):
            self.left_out.setdefault(source.dataset, {})[folder.name] = left

    def _put_rates(self, source: Source, folder: Path) -> Counter[str]:
        """The service has the bank's rates anyway; what else was planted is none of them."""
        with (folder / "fx_rates.csv").open(newline="") as lines:
            planted = Counter(tuple(row) for row in list(csv.reader(lines))[1:])
        day = Window.of(folder.name).start.date()
        return _counted(NO_RATE, (planted - Counter(quotations().window(day))).total())

    def _put_records(self, source: Salesforce, folder: Path) -> Counter[str]:
        columns, left = self._columns(source), Counter[str]()
        records: dict[str, dict[str, Any]] = {}
        for text in (folder / f"{source.dataset}.jsonl").read_text().splitlines():
            record, reason = _record(text)
            if reason or record["Id"] in records:
                left[reason or COPY] += 1
            else:
                records[record["Id"]] = {c: record.get(c) for c in (*columns, "SystemModstamp")}
        self.crm.put(source.object, records.values())
        return left

    def _put_rows(self, source: Snowflake, folder: Path) -> Counter[str]:
        (file,) = folder.iterdir()
        rows = pq.read_table(file)
        self.accounts.put(
            source.table, rows.select([c for c in self._columns(source) if c in rows.column_names])
        )
        if source.modified is None:
            return Counter()
        changed: list[datetime | None] = rows[source.modified.lower()].to_pylist()
        start = Window.of(folder.name).start - source.overlap
        first = not any(p.name < folder.name for p in folder.parent.iterdir())
        late = [at for at in changed if at is not None and at < start and not first]
        return _counted(NO_TIME, changed.count(None)) + _counted(LATE, len(late))

    def _put_stream(self, source: Kinesis, folder: Path) -> Counter[str]:
        client, window = self._kinesis(), Window.of(folder.name)
        self.cloud.set_kinesis_clock((window.start + (window.end - window.start) / 2).isoformat())
        lines = [t for f in sorted(folder.iterdir()) for t in f.read_bytes().splitlines()]
        for first in range(0, len(lines), _AT_ONCE):
            records = [
                {"Data": text, "PartitionKey": str((first + n) % 16)}
                for n, text in enumerate(lines[first : first + _AT_ONCE])
            ]
            client.put_records(StreamName=source.stream, Records=records)
        return Counter()

    def _columns(self, source: Source) -> list[str]:
        readers = by_dataset(self.contracts)[source.dataset]
        return list(dict.fromkeys(c.name for reader in readers for c in reader.columns))

    def _kinesis(self) -> Any:
        return boto3.client(
            "kinesis",
            endpoint_url=self.cloud.url,
            region_name=aws.REGION,
            aws_access_key_id=aws.CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.secrets["AWS_SECRET_ACCESS_KEY"],
        )


def _record(text: str) -> tuple[dict[str, Any], str]:
    """A line as a record, and why Salesforce would not have it."""
    try:
        record = json.loads(text)
    except ValueError:
        return {}, CUT
    return record, "" if record.get("Id") and record.get("SystemModstamp") else (
        NO_TIME if record.get("Id") else NO_ID
    )


def _counted(reason: str, rows: int) -> Counter[str]:
    return Counter({reason: rows} if rows else {})


@contextmanager
def systems(contracts: Mapping[str, Contract]) -> Iterator[Systems]:
    """All of them, with nothing in them yet, and gone at the end."""
    hidden = {
        "FX_API_KEY": fx.KEY,
        "SALESFORCE_PASSWORD": salesforce.PASSWORD,
        "SALESFORCE_SECURITY_TOKEN": salesforce.TOKEN,
        # Any will do; whoever looks for them finds no others.
        "SNOWFLAKE_PASSWORD": secrets.token_urlsafe(24),
        "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(24),
    }
    with (
        fx.serve() as rates,
        salesforce.serve() as crm,
        snowflake.serve() as accounts,
        aws.aws() as cloud,
    ):
        up = Systems(contracts, rates, crm, accounts, cloud, hidden)
        up.create_streams()
        yield up
