"""Where artifacts are kept, and what runs elsewhere are told: a folder, or a bucket.

Belongs here: reading and writing files by name, and which store the settings mean. Does not belong
here: what is in the files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lakehouse.artifacts.volume import VOLUMES, VolumeStore, workspace
from spark_jobs.lake.storage import Storage, describe

if TYPE_CHECKING:
    import pyarrow.fs as pafs

    from lakehouse.settings.model import Settings

_CHUNK = 8 * 2**20


class ArtifactStore(Protocol):
    """Files by name, such as `dist/<version>/spark_jobs.zip`. Whoever reads a file sees all of it or
    none. Raises StorageError if the store cannot be reached."""

    def uri(self, name: str) -> str:
        """How a job reaches a file."""
        ...

    def names(self, folder: str) -> list[str]:
        """The names of all files below a folder; none if it is not there."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if it is not there."""
        ...

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if it is not there."""
        ...

    def write(self, name: str, content: bytes | Path) -> None:
        """Writes a file, from memory or from a file here."""
        ...


@dataclass(frozen=True)
class FolderStore:
    """A folder on any file system that the lake knows: local, or `s3://bucket/path`. Bytes are kept as
    they are: Arrow would compress a file by its name."""

    root: str
    storage: Storage = field(default_factory=Storage)

    def uri(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def names(self, folder: str) -> list[str]:
        return [f"{folder}/{name}" for name, _ in self.storage.tree(self.uri(folder), "")]

    def size(self, name: str) -> int | None:
        fs, root = self._opened
        try:
            (info,) = fs.get_file_info([f"{root}/{name}"])
        except OSError as error:
            raise describe(error, self.uri(name)) from error
        return info.size if info.is_file else None

    def read(self, name: str) -> bytes | None:
        fs, root = self._opened
        try:
            with fs.open_input_stream(f"{root}/{name}", compression=None) as stream:
                return stream.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise describe(error, self.uri(name)) from error

    def write(self, name: str, content: bytes | Path) -> None:
        fs, root = self._opened
        path = f"{root}/{name}"
        # A bucket has an object when all of it is there, a folder a file when it has its name.
        local = "://" not in self.root
        to = f"{path}.unfinished" if local else path
        try:
            if local:
                fs.create_dir(path.rpartition("/")[0], recursive=True)
            with fs.open_output_stream(to, compression=None) as stream:
                if isinstance(content, bytes):
                    stream.write(content)
                else:
                    with content.open("rb") as file:
                        while chunk := file.read(_CHUNK):
                            stream.write(chunk)
            if local:
                fs.move(to, path)
        except OSError as error:
            raise describe(error, self.uri(name)) from error

    @cached_property
    def _opened(self) -> tuple[pafs.FileSystem, str]:
        return self.storage.filesystem(self.root.rstrip("/"))


def store_of(settings: Settings) -> ArtifactStore:
    """The store at the location of the settings."""
    root = settings.artifacts.root(settings.home)
    if root.startswith(VOLUMES):
        return VolumeStore(root, workspace(settings))
    return FolderStore(root, settings.storage)
