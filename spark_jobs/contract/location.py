"""Where a run finds its contracts: in a folder, at a URI, or inside the installed package.

Belongs here: fetching them, and knowing them for the ones that the specification was made for. Does not
belong here: reading them (reader.py).
"""

from __future__ import annotations

import hashlib
import importlib.resources
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contracts
from spark_jobs.errors import ContractError
from spark_jobs.lake.storage import Storage, describe
from spark_jobs.report import INSTALLED


@contextmanager
def contracts_at(
    location: str, sha256: str | None, storage: Storage
) -> Iterator[dict[str, Contract]]:
    """The contracts at a path or URI, or those of this package (`installed:`). They know the files that
    they were read from, which may be gone afterwards.

    Raises ContractError if `sha256` is given and is not theirs, as `digest` has it.
    """
    with tempfile.TemporaryDirectory() as local:
        folder = location
        if location == INSTALLED:
            folder = str(importlib.resources.files("spark_jobs") / "contracts")
        elif "://" in location:
            folder = local
            _fetch(location, Path(local), storage)
        if sha256 is not None and (found := digest(folder)) != sha256:
            raise ContractError(
                f"{location}: the contracts there have SHA-256 {found}, and the run was specified for"
                f" {sha256}. Deploy contracts and code of one version: upload the contracts again, or"
                " install the spark_jobs that was built with them, and restart the control plane"
                " where that is the older one."
            )
        yield load_contracts(folder)


def digest(folder: str | Path) -> str:
    """SHA-256 of the contracts below a folder: of their paths and their bytes."""
    total = hashlib.sha256()
    for path in sorted(Path(folder).glob("*/*.yaml")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return total.hexdigest()


def _fetch(uri: str, to: Path, storage: Storage) -> None:
    fs, root = storage.filesystem(uri.rstrip("/"))
    try:
        for name, _ in storage.tree(uri.rstrip("/"), ".yaml"):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            with fs.open_input_stream(f"{root}/{name}") as stream:
                (to / name).write_bytes(stream.read())
    except OSError as error:
        raise describe(error, uri) from error
