"""The manifest of a landing folder: which of its files count, what is in them, and how far they reach.

Belongs here: its value and its file. Does not belong here: who writes files (the control plane's
sources), or reads them (batch/landing). A folder that others fill has no manifest: all
of its files count.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from spark_jobs.errors import InputError
from spark_jobs.lake.storage import File, Storage

NAME = "_manifest.json"


@dataclass(frozen=True)
class Landed:
    """A file: its rows, its bytes and their SHA-256; `first` and `last` bound what is in it, as times or
    as positions of a stream."""

    name: str
    rows: int
    bytes: int
    sha256: str
    first: str
    last: str


@dataclass(frozen=True)
class Manifest:
    """`positions`: how far the files reach, in the source's own terms; None while the first of them are
    being written. `tail`: the control file that tells records of the end apart from new ones."""

    files: tuple[Landed, ...] = ()
    positions: Mapping[str, str] | None = None
    tail: str | None = None

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    def present(self, folder: str, found: Mapping[str, File]) -> list[File]:
        """The files that count, as they were found. Raises InputError if one is not as it was landed.
        Their version is their content, whenever it was written."""
        for landed in self.files:
            there = found.get(landed.name)
            if there is None or there.size != landed.bytes:
                size = f"{there.size:,} bytes" if there else "not there"
                raise InputError(
                    f"{folder}/{landed.name}: is {size}, and its manifest says {landed.bytes:,} bytes."
                    " Extract the partition again (lakehouse extract --again)."
                )
        return [File(found[f.name].uri, f.bytes, f.sha256) for f in self.files]


def read(storage: Storage, folder: str) -> Manifest | None:
    """The manifest of a folder; None if it has none. Raises InputError if it cannot be understood."""
    uri = f"{folder}/{NAME}"
    if not storage.exists(uri):
        return None
    fs, path = storage.filesystem(uri)
    with fs.open_input_file(path) as stream:
        return _parsed(uri, stream.read())


def _parsed(uri: str, content: bytes) -> Manifest:
    try:
        data: dict[str, Any] = json.loads(content)
        files = tuple(Landed(**file) for file in data.pop("files"))
        return Manifest(files, **data)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{uri}: is no manifest ({type(error).__name__}). Extract the partition again (lakehouse"
            " extract --again), which writes it anew."
        ) from None


def write(storage: Storage, folder: str, manifest: Manifest) -> None:
    """Puts it in the place of the one before, as a whole."""
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True)
    storage.write(f"{folder}/{NAME}", [text.encode(), b"\n"])
