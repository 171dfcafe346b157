"""What a batch asks of an object store: requests, and seconds where each takes 30 ms.

Belongs here: one day of products from landing over bronze to silver, by the platform and by a bare
script (contenders/bare_store.py), through a proxy that counts. Does not belong here: what rows cost, of
which there are few.

Both run in one process, on one engine that is warm: requests do not depend on it, and what they wait
for is most of the seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from deltalake import DeltaTable

from benchmarks.contenders import bare_store
from benchmarks.measure import ContenderFailed
from benchmarks.table import Row
from benchmarks.workload import CONTRACTS, Delivery
from lakehouse.standins.servers import proxy
from lakehouse.standins.servers.aws import CREDENTIALS, aws
from spark_jobs.contract.reader import load_contracts
from spark_jobs.engines.session import Engine
from spark_jobs.lake.storage import Lake, Storage
from spark_jobs.report import ZONES, RunSpec
from spark_jobs.run import run_table

LATENCY = 0.03
MOST = 1.5
_TABLES = ("bronze.products", "silver.products")
_OURS, _BARE = "s3://lake/platform", "s3://lake/script"


@dataclass(frozen=True)
class _Day:
    requests: int
    seconds: float


def compared(delivery: Delivery) -> list[Row]:
    """Both for the second day of a delivery and each after it, medians; raises ContenderFailed if the
    script leaves other keys than the platform."""
    os.environ.update(CREDENTIALS)
    with aws() as server, proxy.before(server.url) as network:
        server.create_buckets("lake")
        store = Storage({**server.storage_options, "AWS_ENDPOINT_URL": network.url})
        for root in (_OURS, _BARE):
            store.add(str(delivery.landing / "products"), f"{root}/landing/products")
        with Engine.start("sail", store=store) as engine:
            first, *days = delivery.partitions()
            contenders = _contenders(engine, store)
            for work in contenders.values():
                work(first)
            network.take(LATENCY)
            done = {
                name: [_measured(network, work, day) for day in days]
                for name, work in contenders.items()
            }
            again = _measured(network, contenders["platform"], days[-1])
            network.take(0)
        _check_equal(store)
    return [*_rows(done), _unchanged(again)]


def _contenders(engine: Engine, store: Storage) -> dict[str, Callable[[str], None]]:
    contracts = load_contracts(str(CONTRACTS))
    lake = Lake({zone: f"{_OURS}/{zone}" for zone in ZONES}, store)

    def platform(day: str) -> None:
        for table in _TABLES:
            spec = RunSpec(
                table=table,
                partitions=[day],
                contracts=str(CONTRACTS),
                zones=dict(lake.zones),
                storage_options=dict(store.options),
                run_id="benchmark",
            )
            if failed := run_table(spec, engine, contracts, lake).failed:
                raise ContenderFailed(failed[0].error)

    def script(day: str) -> None:
        bare_store.run(engine.spark, _BARE, day, store.delta_options(_BARE))

    return {"platform": platform, "script": script}


def _measured(network: proxy.Proxy, work: Callable[[str], None], day: str) -> _Day:
    network.asked()
    began = time.perf_counter()
    work(day)
    return _Day(seconds=time.perf_counter() - began, requests=len(network.asked()))


def _check_equal(store: Storage) -> None:
    found = []
    for root in (_OURS, _BARE):
        uri = f"{root}/silver/products"
        rows = DeltaTable(uri, storage_options=store.delta_options(uri)).to_pyarrow_table()
        found.append(set(map(str, rows.column(bare_store.KEY).to_pylist())))
    lost = found[1] ^ found[0]
    # The script knows no rule: it keeps the rows that the platform has put into quarantine.
    if found[0] - found[1] or len(lost) > len(found[1]) / 10:
        raise ContenderFailed(f"the script's silver.products has other keys: {sorted(lost)[:10]}")


def _rows(done: dict[str, list[_Day]]) -> list[Row]:
    requests = {name: median(d.requests for d in days) for name, days in done.items()}
    seconds = {name: median(d.seconds for d in days) for name, days in done.items()}
    ratio = requests["platform"] / requests["script"]

    def said(who: str, name: str) -> str:
        return (
            f"{who}: one day of products on S3 at {LATENCY * 1000:.0f} ms a request, bronze and silver:"
            f" {requests[name]:.0f} requests, {seconds[name]:.1f} s"
        )

    return [
        Row(
            "i",
            said("platform on sail", "platform"),
            ratio=f"{ratio:.2f}",
            target=f"<= {MOST:g}",
            met=ratio <= MOST,
        ),
        Row("i", said("bare PySpark and delta-rs", "script")),
    ]


def _unchanged(again: _Day) -> Row:
    each = again.requests / len(_TABLES)
    return Row(
        "i",
        f"platform on sail, the same day again, nothing changed: {again.requests} requests, "
        f"{each:g} a table, {again.seconds:.1f} s",
    )
