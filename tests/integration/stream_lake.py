"""A lake of streams, from landing to silver, run by processes that may be killed.

Belongs here: what is given, what producers send, and the process that dies. Does not belong here: what
must hold (test_streams_to_silver.py).
"""

from __future__ import annotations

import atexit
import itertools
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from lakehouse.definitions import build_definitions
from lakehouse.keys import asset_key, landing_key
from lakehouse.local.execution import execute
from lakehouse.local.instance import open_instance
from lakehouse.settings import load as environments
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.sources.cursors import SqliteStore
from lakehouse.sources.stream_datasets import LandingFiles, Streams
from spark_jobs.contract.model import by_dataset
from spark_jobs.engines.session import Engine
from spark_jobs.lake import commits, ledger
from spark_jobs.stream_records import sent as bytes_of
from tests.integration.kinesis_streams import At
from tests.lakes import TinyLake, column, contract, copied, transforms_in
from tests.processes import die

STEPS = {
    "a position": (SqliteStore, "advance"),
    "a landing file": (LandingFiles, "write"),
    "a commit": (commits, "commit"),
    "a ledger row": (ledger, "append"),
}


_mounted = ExitStack()


def define(
    root: Path, sources: Mapping[str, Mapping[str, Any]], connections: dict[str, Any], **parts: Any
) -> TinyLake:
    """Writes the settings, with these connections and parts, and a bronze and a silver table for each
    source by the name of its dataset."""
    data = yaml.safe_load(
        (Path(environments.__file__).parent / "environments/local.yaml").read_text()
    )
    first = (datetime.now(UTC) - timedelta(days=3)).date()
    data |= {"partitions": {"start": first}, "sources": connections, **parts}
    (root / "local.yaml").write_text(yaml.safe_dump(data))
    lake = lake_of(root)
    gates = {"max_quarantine_rate": 0.5}
    for name, source in sources.items():
        bronze, silver = f"bronze.{name}", f"silver.{name}"
        delivered = {"dataset": name, "format": "json", **source}
        columns = [column(n) for n in ("id", "version", "text")]
        lake.define(contract(bronze, columns, source=delivered, gates=gates))
        typed = [
            column("id", "bigint", key=1, of=f"{bronze}.id"),
            column("version", "bigint", required=True, of=f"{bronze}.version"),
            column("text", of=f"{bronze}.text"),
        ]
        numbers = "number('id', 'bigint').alias('id'), number('version', 'bigint').alias('version')"
        publish = {"mode": "upsert", "sequence": "version"}
        inputs = [{"table": bronze}]
        lake.define(
            contract(silver, typed, inputs=inputs, publish=publish, gates=gates),
            copied("text", table=name, extra=numbers),
        )
    return lake


def settings_of(root: Path) -> Settings:
    return load_settings("local", folder=root, home=root, project=root)


def lake_of(root: Path) -> TinyLake:
    settings = settings_of(root)
    return TinyLake(root, zones=dict(settings.zones), storage=settings.storage)


def definitions(root: Path) -> dg.Definitions:
    """What a code location serves, for as long as its process lives."""
    lake = lake_of(root)
    _mounted.enter_context(transforms_in(lake.transforms))
    atexit.register(_mounted.close)
    return build_definitions(settings_of(root), contracts=lake.parsed(), marts=False)


def run(root: Path) -> None:
    """A run under Dagster of all there is of the dataset."""
    settings, lake = settings_of(root), lake_of(root)
    (dataset,) = by_dataset(lake.parsed())
    with open_instance(settings) as instance, transforms_in(lake.transforms):
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        days = ((_landed(settings, dataset) or [today])[0], today)
        definitions = build_definitions(settings, contracts=lake.parsed(), marts=False)
        made = [landing_key(dataset), *map(asset_key, lake.parsed())]
        done = execute(definitions, "lake_daily", instance, partitions=days, assets=made)
    assert done.success, done.failures


def run_and_die(root: Path, step: str, number: int, pause: bool) -> None:
    """What such a run does, without Dagster, which would take most of the time: drains the stream and
    runs its tables. It dies at a step of this number, and with `pause` stops before the first that
    its drain stores until it is told to go on."""
    settings, lake = settings_of(root), lake_of(root)
    _hook(*STEPS[step], At(number, die))
    for stored in ("a position", "a landing file") if pause else ():
        _hook(*STEPS[stored], At(1, partial(_wait, root)))
    contracts = lake.parsed()
    (dataset,) = by_dataset(contracts)
    Streams(settings, contracts)[dataset].drain()
    with Engine.start(cores=2) as lake.engine, transforms_in(lake.transforms):
        for table in contracts:
            report = lake.run(table, *_landed(settings, dataset), run_id=uuid.uuid4().hex)
            assert not any(p.status == "failed" for p in report.partitions), report


def _landed(settings: Settings, dataset: str) -> list[str]:
    return sorted(settings.storage.folders(f"{settings.zones['landing']}/{dataset}"))


def _hook(owner: Any, name: str, hook: Callable[[str], None]) -> None:
    """Has every call be a step before it, and one after it."""
    original = getattr(owner, name)

    def hooked(*args: Any, **kwargs: Any) -> Any:
        hook("before")
        result = original(*args, **kwargs)
        hook("after")
        return result

    setattr(owner, name, hooked)


def _wait(root: Path) -> None:
    (root / "reached").touch()
    wait_for(root / "go on")


@contextmanager
def paused(root: Path) -> Iterator[None]:
    """While the process that was started last has stopped where it does."""
    wait_for(root / "reached")
    yield
    (root / "go on").touch()


def wait_for(file: Path, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < until, f"{file.name}: not after {seconds} s"
        time.sleep(0.02)


@dataclass
class Sent:
    """What producers have sent, and so what tables have to have: the newest version of each key."""

    records: int = 0
    letters: list[bytes] = field(default_factory=list)
    newest: dict[int, tuple[int, str]] = field(default_factory=dict)
    _versions: Iterator[int] = field(default_factory=itertools.count)

    def next(self) -> tuple[bytes, str]:
        """A record and its key: a version of one of some keys, the one before once more, as a producer
        does that has had no answer, or what is no record at all."""
        version = next(self._versions)
        self.records += 1
        if version % 25 == 24:
            self.letters.append(b"\xff %d" % version)
            return self.letters[-1], "0"
        of = version - 1 if version % 10 == 9 else version
        self.newest[of % 37] = (of, f"é {of}")
        body = {"id": of % 37, "version": of, "text": f"é {of}"}
        return json.dumps(body, ensure_ascii=False).encode(), str(of % 37)


@contextmanager
def producing(sent: Sent, send: Callable[[list[tuple[bytes, str]]], None]) -> Iterator[None]:
    """A producer that goes on all the while."""
    done, failed = threading.Event(), list[BaseException]()

    def produce() -> None:
        try:
            while not done.wait(0.05):
                send([sent.next() for _ in range(5)])
        except BaseException as error:
            failed.append(error)

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        yield
    finally:
        done.set()
        producer.join()
    assert not failed, failed


def differences(lake: TinyLake, name: str, sent: Sent) -> list[str]:
    """In what bronze, silver and the quarantine of a dataset are not what was sent."""
    bronze, silver = f"bronze.{name}", f"silver.{name}"
    rows = lake.rows(silver)
    newest = {row["id"]: (row["version"], row["text"]) for row in rows}
    letters = [bytes_of(row["record"]) for row in lake.quarantined(bronze)]
    compared = {
        "records in bronze": (len(lake.rows(bronze)), sent.records - len(sent.letters)),
        "rows in silver": (len(rows), len(sent.newest)),
        "silver": (newest, sent.newest),
        "dead letters": (sorted(filter(None, letters)), sorted(sent.letters)),
    }
    return [f"{what}: {a} is not {b}" for what, (a, b) in compared.items() if a != b]
