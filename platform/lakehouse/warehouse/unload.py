"""Reading relations of Redshift back into the lake's landing, by UNLOAD.

Belongs here: one delivery of one relation, whole or not at all. Does not belong here: when (marts/), and
what becomes of it: a bronze table whose contract names the dataset.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import date

from lakehouse.settings.warehouse import RedshiftWarehouse
from lakehouse.warehouse.login import connected
from spark_jobs.lake.storage import Storage


@dataclass(frozen=True)
class Delivered:
    """The files of a day in landing; `rows` is None if they had been delivered before."""

    folder: str
    files: tuple[str, ...]
    rows: int | None


def deliver(
    warehouse: RedshiftWarehouse,
    storage: Storage,
    landing: str,
    dataset: str,
    relation: str,
    day: date,
) -> Delivered:
    """Delivers a relation as it is now as the dataset's files of a day, unless they are there: what
    lies in landing never changes.

    UNLOAD writes into a folder that nobody reads, and its files are moved when all are there.
    """
    folder = f"{landing}/{dataset}/{day}"
    if there := storage.files(folder):
        return Delivered(folder, tuple(f.name for f in there), None)
    batch = secrets.token_hex(8)
    staging = f"{folder}/_unload-{batch}"
    try:
        with connected(warehouse) as connection:
            cursor = connection.cursor()
            cursor.execute(
                f"unload ('select * from {relation}') to '{staging}/' iam_role"
                f" '{warehouse.role}' format as parquet manifest parallel off"
            )
            cursor.execute("select pg_last_unload_count()")
            rows = int(cursor.fetchone()[0])
            connection.commit()
        names = [_move(storage, url, folder, batch) for url in _listed(storage, staging)]
    finally:
        storage.remove(staging)
    return Delivered(folder, tuple(names), rows)


def _listed(storage: Storage, staging: str) -> list[str]:
    fs, path = storage.filesystem(f"{staging}/manifest")
    with fs.open_input_file(path) as stream:
        return [entry["url"] for entry in json.loads(stream.read())["entries"]]


def _move(storage: Storage, url: str, folder: str, batch: str) -> str:
    name = f"{batch}-{url.rpartition('/')[2]}"
    fs, source = storage.filesystem(url)
    _, target = storage.filesystem(f"{folder}/{name}")
    fs.copy_file(source, target)
    return name
