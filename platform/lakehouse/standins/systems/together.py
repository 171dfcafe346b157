"""All systems of the sample, started together.

Belongs here: which there are, the settings that lead to them, and which has which dataset. Does not
belong here: any of them, or what extracts the sample (cli/source_days.py).
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import yaml

from lakehouse.settings.load import FILES, SETTINGS
from lakehouse.standins.servers import aws, fx, redshift, salesforce, snowflake
from lakehouse.standins.servers.kafka import broker
from lakehouse.standins.servers.redshift import server
from lakehouse.standins.systems.bucket import KINDS, Bucket
from lakehouse.standins.systems.relations import Accounts, Warehouse
from lakehouse.standins.systems.services import Crm, Rates
from lakehouse.standins.systems.streams import KafkaTopics, KinesisStreams
from lakehouse.standins.systems.system import System
from lakehouse.standins.systems.vendors import Vendors
from spark_jobs.contract.model import Contract, by_dataset
from spark_jobs.contract.source import Kafka, Kinesis, Source
from spark_jobs.errors import EngineUnavailable
from spark_jobs.lake.storage import Storage
from spark_jobs.window import Window

LeftOut = dict[str, dict[str, Counter[str]]]
"""Dataset to partition to how many rows no system holds, or no pull brings, by reason."""


@dataclass
class Systems:
    """They are up. `contracts` are those of the lake, and `variables` the environment that leads to
    the systems. `without` are the kinds of sources that have none here, and why."""

    contracts: Mapping[str, Contract]
    bucket: Bucket
    by_kind: dict[str, System]
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    without: dict[str, str] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=dict)

    @property
    def datasets(self) -> dict[str, Source]:
        return {name: of[0].delivered for name, of in by_dataset(self.contracts).items()}

    @property
    def settings(self) -> dict[str, Any]:
        """Those of a laptop, with these systems as sources, and the bucket as landing."""
        laptop = yaml.safe_load((FILES / "local.yaml").read_text(encoding="utf-8"))
        connections = {kind: dict(of.connection) for kind, of in self.by_kind.items()}
        sources = {**connections, "streams": {"drain_after_seconds": 1}}
        return {**laptop, "lake": {**laptop["lake"], **self.bucket.settings}, "sources": sources}

    def told(self) -> Iterator[str]:
        """What comes another way than its source's."""
        for name, source in sorted(self.datasets.items()):
            if source.kind not in (*self.by_kind, *KINDS):
                why = self.without.get(source.kind, "it has no stand-in here")
                yield f"{name} comes as files, without {source.kind}: {why}"

    def fill(self, sample: Path, day: str, *, evening: bool, first: bool) -> None:
        """Puts a day of the sample into the systems that it comes from: files and what has hours come by
        day, all else in the evening. On the first day files do too: what they are joined with is not
        there before."""
        for name, source in self.datasets.items():
            system = self.by_kind.get(source.kind)
            for folder in sorted((sample / name).glob(f"{day}*")):
                hourly = Window.of(folder.name).scheme == "hourly"
                by_day = hourly or (system is None and not first)
                if by_day == evening:
                    continue
                if system is None:
                    self.bucket.put(source, folder)
                elif left := system.put(source, folder):
                    self.left_out.setdefault(name, {})[folder.name] = left


@contextmanager
def systems(contracts: Mapping[str, Contract], folder: Path) -> Iterator[Systems]:
    """All of them, with nothing in them yet, and gone at the end. Settings that lead to them are written
    into the folder."""
    contracts = {table: _by_the_clock_of_the_sample(c) for table, c in contracts.items()}
    found = [of[0].delivered for of in by_dataset(contracts).values()]
    with ExitStack() as stack:
        cloud = stack.enter_context(aws.aws())
        # moto takes any: nobody who looks for it finds another.
        login = {**aws.CREDENTIALS, "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(24)}
        bucket = Bucket(cloud, _client("s3", cloud, login))
        bucket.create()
        vendors = Vendors(cloud, bucket.client)
        vendors.create()
        kinesis = KinesisStreams(cloud, _client("kinesis", cloud, login))
        kinesis.create(s.stream for s in found if isinstance(s, Kinesis))

        def columns(source: Source) -> list[str]:
            """Those that tables read."""
            readers = by_dataset(contracts)[source.dataset]
            return list(dict.fromkeys(c.name for reader in readers for c in reader.columns))

        up: list[System] = [
            kinesis,
            vendors,
            Rates(stack.enter_context(fx.serve())),
            Crm(stack.enter_context(salesforce.serve()), columns),
            Accounts(stack.enter_context(snowflake.serve()), columns, secrets.token_urlsafe(24)),
        ]
        options, password = cloud.storage_options, secrets.token_urlsafe(24)
        warehouse = stack.enter_context(redshift.serve(Storage(options), {server.USER: password}))
        up.append(Warehouse(warehouse, columns, password, bucket.uri("unloaded"), options))
        without: dict[str, str] = {}
        try:
            kafka = KafkaTopics(stack.enter_context(broker.broker()))
        except EngineUnavailable as error:
            without["kafka"] = str(error)
        else:
            kafka.create(s.topic for s in found if isinstance(s, Kafka))
            up.append(kafka)
        made = Systems(contracts, bucket, {s.kind: s for s in up}, without=without)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "local.yaml").write_text(yaml.safe_dump(made.settings), encoding="utf-8")
        made.variables = {
            **{name: value for system in up for name, value in system.variables.items()},
            **login,
            "AWS_DEFAULT_REGION": aws.REGION,
            "LAKEHOUSE_ENV": "local",
            SETTINGS: str(folder),
        }
        yield made


def _client(service: str, cloud: aws.Aws, login: Mapping[str, str]) -> Any:
    return boto3.client(
        service,
        endpoint_url=cloud.url,
        region_name=aws.REGION,
        aws_access_key_id=login["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=login["AWS_SECRET_ACCESS_KEY"],
    )


def _by_the_clock_of_the_sample(contract: Contract) -> Contract:
    """A topic's arrivals are told by its producer here: the broker's clock is today's."""
    if not isinstance(contract.source, Kafka):
        return contract
    return replace(contract, source=contract.source.model_copy(update={"clock": "producer"}))
