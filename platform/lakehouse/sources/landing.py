"""What lies in landing: the partitions of every dataset, each with a digest of its files.

Belongs here: listing. The same code watches a local folder and S3. Does not belong here: deciding
what to run (automation/landing_sensor.py), or opening a file (the data plane).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from spark_jobs.lake import manifest

if TYPE_CHECKING:
    from spark_jobs.lake.storage import Storage

Snapshot = Mapping[str, Mapping[str, str]]
"""Dataset to partition to a digest of its files' names, sizes and versions."""

DIGEST_BYTES = 4


def snapshot(storage: Storage, landing: str, datasets: Iterable[str]) -> dict[str, dict[str, str]]:
    """The present content of landing. One recursive listing per dataset: a listing per partition
    would be thousands of requests a day on S3. Unfinished files (`.` or `_` first) are left out. Where a
    manifest says which files count, the folder changes with it, and with nothing else.
    """
    storage.below(landing)  # a file in its place is no landing in which nothing lies
    found: dict[str, dict[str, str]] = {}
    for dataset in datasets:
        files: dict[str, list[str]] = {}
        for path in _files(storage, f"{landing.rstrip('/')}/{dataset}"):
            partition, slash, name = path.partition("/")
            if slash and not is_control(name):
                files.setdefault(partition, []).append(name)
        found[dataset] = {p: _digest(names) for p, names in sorted(files.items())}
    return found


def digest_of(storage: Storage, landing: str, dataset: str, partition: str) -> str | None:
    """The same of one partition; None if nothing is there."""
    names = _files(storage, f"{landing.rstrip('/')}/{dataset}/{partition}")
    counting = [name for name in names if not is_control(name)]
    return _digest(counting) if counting else None


def is_control(name: str) -> bool:
    """Whether a file of a partition, by its path there, says nothing of what has arrived."""
    return name.startswith((".", "_")) and name.partition(":")[0] != manifest.NAME


def _files(storage: Storage, folder: str) -> Iterator[str]:
    """The files below a folder: path, size and time of change."""
    import pyarrow.fs as pafs

    listed, root = storage.below(folder, recursive=True)
    for info in listed:
        if info.type == pafs.FileType.File:
            path = info.path.removeprefix(root.rstrip("/") + "/")
            yield f"{path}:{info.size}:{info.mtime_ns}"


def _digest(names: Iterable[str]) -> str:
    names = sorted(names)
    counting = [n for n in names if n.startswith(f"{manifest.NAME}:")] or names
    return hashlib.sha256("\n".join(counting).encode()).hexdigest()[: 2 * DIGEST_BYTES]
