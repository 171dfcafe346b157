"""What lies in landing: the partitions of every dataset, each with a digest of its files.

Belongs here: listing. The same code watches a local folder and S3. Does not belong here: deciding
what to run (automation/landing_sensor.py), or opening a file (the data plane).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

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
    import pyarrow.fs as pafs

    from spark_jobs.lake import manifest

    storage.below(landing)  # a file in its place is no landing in which nothing lies
    found: dict[str, dict[str, str]] = {}
    for dataset in datasets:
        listed, root = storage.below(f"{landing.rstrip('/')}/{dataset}", recursive=True)
        files: dict[str, list[str]] = {}
        for info in listed:
            relative = info.path.removeprefix(root.rstrip("/") + "/")
            partition, slash, name = relative.partition("/")
            control = name.startswith((".", "_")) and name != manifest.NAME
            if info.type != pafs.FileType.File or not slash or control:
                continue
            files.setdefault(partition, []).append(f"{name}:{info.size}:{info.mtime_ns}")
        for partition, names in files.items():
            listed = [n for n in names if n.startswith(f"{manifest.NAME}:")]
            files[partition] = listed or names
        found[dataset] = {p: _digest(sorted(names)) for p, names in sorted(files.items())}
    return found


def _digest(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[: 2 * DIGEST_BYTES]
