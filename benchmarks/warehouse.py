"""Loading a gold table into the warehouse: the platform's load, against COPY and nothing else.

Belongs here: both, from one Delta table on S3 into one warehouse. Does not belong here: marts.

The bare script reads the table, writes it as Parquet, and copies that into a table that it empties in
the same transaction. It does not compare what arrived, cannot bring what has changed alone, and keeps no
record. The warehouse is a stand-in, PostgreSQL behind a shim: what both have to wait for is its COPY.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq
from deltalake import DeltaTable

from benchmarks.contenders import data_plane
from benchmarks.measure import ContenderFailed, environment
from benchmarks.table import Row
from benchmarks.workload import Delivery, contracts
from lakehouse.settings.references import Secret
from lakehouse.settings.warehouse import RedshiftWarehouse
from lakehouse.standins.servers.aws import CREDENTIALS, REGION, aws
from lakehouse.standins.servers.redshift.server import DATABASE, NAME, ROLE, USER, serve
from lakehouse.warehouse import layout, login
from lakehouse.warehouse.load import Loader
from spark_jobs.contract.model import Contract
from spark_jobs.lake.storage import Lake, Storage

TABLE = "gold.fact_sales"
_ROOT, _PASSWORD, _BARE = "s3://lake", "BENCHMARK_REDSHIFT_PASSWORD", "bare_fact_sales"


def compared(delivery: Delivery, work: Path, turns: int, tell: Callable[[str], None]) -> list[Row]:
    """Both by turns, medians; raises ContenderFailed if they leave other rows."""
    local = work / "lake-to-load"
    tell(f"{TABLE} of {delivery.days} days")
    data_plane.run(delivery.landing, local, delivery.partitions())
    given = {**CREDENTIALS, "AWS_DEFAULT_REGION": REGION, _PASSWORD: "of a benchmark"}
    with environment(**given), aws() as store:
        store.create_buckets("lake")
        storage = Storage(store.storage_options)
        lake, contract = Lake(Lake.at(_ROOT).zones, storage), contracts()[TABLE]
        storage.add(f"{local}/{TABLE.replace('.', '/')}", lake.table(TABLE))
        with serve(storage, {USER: os.environ[_PASSWORD]}) as server:
            os.environ.update(store.storage_options | dict(server.environment))
            warehouse = RedshiftWarehouse(
                target="redshift", host=server.host, port=server.port, database=DATABASE, user=USER,
                region=REGION, cluster=NAME, role=ROLE, password=Secret(_PASSWORD),
            )  # fmt: skip
            loader = Loader(warehouse, lake)
            loader.load(contract, "benchmark")  # what is made once is made before
            ours, bare = [], []
            for turn in range(turns):
                tell(f"l, turn {turn + 1}")
                ours.append(_timed(lambda: loader.load(contract, "benchmark", whole=True)))
                bare.append(_timed(lambda: _copied(warehouse, lake, contract)))
            again = _timed(lambda: loader.load(contract, "benchmark"))
            rows = _equal(server.execute, contract)
    ratio = median(ours) / median(bare)
    return [
        Row("l", f"load of {TABLE}, {rows:,} rows, as a whole: {median(ours):.2f} s",
            ratio=f"{ratio:.2f}"),
        Row("l", f"the same rows by COPY alone: {median(bare):.2f} s"),
        Row("l", f"load of the same version once more, nothing to do: {again:.2f} s"),
    ]  # fmt: skip


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _copied(warehouse: RedshiftWarehouse, lake: Lake, contract: Contract) -> None:
    uri, folder = lake.table(TABLE), f"{_ROOT}/bare"
    names = [c.name for c in contract.columns]
    table = DeltaTable(uri, storage_options=lake.storage.delta_options(uri))
    fs, path = lake.storage.filesystem(f"{folder}/rows.parquet")
    pq.write_table(table.to_pyarrow_table(columns=names), path, filesystem=fs)
    (info,) = fs.get_file_info([path])
    entry = {"url": f"{folder}/rows.parquet", "mandatory": True,
             "meta": {"content_length": info.size}}  # fmt: skip
    fs, path = lake.storage.filesystem(f"{folder}/manifest.json")
    with fs.open_output_stream(path) as stream:
        stream.write(json.dumps({"entries": [entry]}).encode())
    with login.connected(warehouse) as connection:
        cursor = connection.cursor()
        cursor.execute(layout.create_table(contract).replace('"fact_sales"', f'"{_BARE}"'))
        cursor.execute(f'delete from gold."{_BARE}"')
        cursor.execute(
            f"copy gold.\"{_BARE}\" from '{folder}/manifest.json' iam_role '{warehouse.role}'"
            " format as parquet manifest"
        )
        connection.commit()


def _equal(execute: Callable[[str], list[tuple[Any, ...]]], contract: Contract) -> int:
    """How many rows both tables have; raises if they differ in one."""
    columns = ", ".join(f'"{c.name}"' for c in contract.columns)
    ours, bare = (f'select {columns} from gold."{n}"' for n in (contract.name, _BARE))
    ((differ,),) = execute(
        f"select count(*) from (({ours} except all {bare}) union all ({bare} except all {ours})) d"
    )
    ((rows,),) = execute(f'select count(*) from gold."{contract.name}"')
    if differ or not rows:
        raise ContenderFailed(f"{TABLE}: {differ} rows of {rows} differ from those of COPY alone")
    return int(rows)
