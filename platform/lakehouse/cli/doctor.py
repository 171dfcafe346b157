"""`lakehouse doctor`: whether every configured connection works."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from lakehouse.settings.load import load_settings
from spark_jobs import quoting
from spark_jobs.errors import LakehouseError

if TYPE_CHECKING:
    from lakehouse.settings.model import Settings
    from lakehouse.settings.warehouse import RedshiftWarehouse
    from lakehouse.sources.stream_datasets import Streams
    from spark_jobs.contract.model import Contract


@click.command()
def doctor() -> None:
    """Try every connection of the settings, and the secrets that they take: the lake, the artifact that
    jobs are sent with and the applications that run them, the store of positions, the queue of landing,
    each dataset that is extracted or drained, a warehouse that one logs in to. Prints `ok`, or why not,
    and never a value."""
    from lakehouse.sources.cursors import cursors_of
    from lakehouse.sources.notifications import Queue
    from lakehouse.sources.registry import extracted
    from lakehouse.sources.stream_datasets import Streams
    from spark_jobs.contract.reader import load_contracts

    settings = load_settings()
    contracts = load_contracts(settings.contracts)
    there, streams = extracted(settings, contracts), Streams(settings, contracts)
    tried = [_tried("lake", lambda: _writable(settings))]
    tried += [_tried(name, check) for name, check in _of_jobs(settings, contracts).items()]
    if there or streams.readers:
        tried.append(_tried("positions", lambda: cursors_of(settings).read("doctor")))
    if settings.landing.queue is not None:
        tried.append(_tried("landing queue", Queue(settings.landing.queue).check))
    for dataset, readers in there.items():
        kind = readers[0].delivered.kind
        name = f"{kind} {dataset}"
        tried.append(_tried(name, partial(_check, settings, readers)))
    for dataset, readers in streams.readers.items():
        name = f"{readers[0].delivered.kind} {dataset}"
        tried.append(_tried(name, partial(_read, streams, dataset)))
    if settings.warehouse.target == "redshift":
        tried.append(_tried("warehouse redshift", partial(_answers, settings.warehouse)))
    sys.exit(0 if all(tried) else 1)


def _of_jobs(
    settings: Settings, contracts: Mapping[str, Contract]
) -> dict[str, Callable[[], object]]:
    """What tables need that run as jobs of a service."""
    from lakehouse.engines.remote import Shipping
    from lakehouse.engines.runner import build_runners, runner_of

    used = {runner_of(contract, settings) for contract in contracts.values()}
    found: dict[str, Callable[[], object]] = {}
    if used & {"emr", "databricks"}:
        found["artifact"] = lambda: Shipping.of(settings).artifact()
    if "emr" in used:
        from lakehouse.engines.emr import EmrRunner

        runner = build_runners(settings, contracts)["emr"]
        assert isinstance(runner, EmrRunner)
        found |= {f"emr application {name}": check for name, check in runner.checks().items()}
    return found


def _check(settings: Settings, readers: Sequence[Contract]) -> None:
    from lakehouse.sources.registry import dataset_of

    dataset_of(settings, readers).source.check()


def _read(streams: Streams, dataset: str) -> None:
    streams[dataset].lag()


def _answers(warehouse: RedshiftWarehouse) -> None:
    from lakehouse.warehouse.login import connected

    with connected(warehouse) as connection:
        connection.cursor().execute("select 1")


def _writable(settings: Settings) -> None:
    for zone in settings.zones.values():
        settings.storage.ensure_writable(zone)


def _tried(name: str, attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except Exception as error:
        click.echo(f"{name}: {_reason(error)}")
        return False
    click.echo(f"{name}: ok")
    return True


def _reason(error: Exception) -> str:
    """Ours say it themselves. What a client says may hold what it was given: a login, an address with a
    token in it; its class and status tell enough."""
    if isinstance(error, LakehouseError):
        return str(error)
    answer = getattr(error, "response", None)
    status = getattr(answer, "status_code", None) or getattr(error, "status", None)
    return quoting.plain(f"{type(error).__name__}{f', status {status}' if status else ''}")
