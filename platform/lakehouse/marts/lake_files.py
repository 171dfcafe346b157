"""The lake's files as DuckDB reads them from an object store: through the platform's own client.

Belongs here: that file system, which only reads. Does not belong here: which files there are
(lake_views.py).

DuckDB's own client of S3 is an extension that it downloads while it runs, and that would look for
credentials in its own way. Files are named as they are there, so that whoever opens the warehouse with
that extension reads the same views.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem

from spark_jobs.lake.storage import Storage

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class LakeFiles(AbstractFileSystem):  # type: ignore[misc] # it has no types
    """Files of object stores, by URI."""

    protocol = "s3"
    cachable = False  # by its arguments, which are no text

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self._storage = storage

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        fs, key = self._located(path)
        found = fs.get_file_info(key)
        if not found.is_file:
            raise FileNotFoundError(path)
        mtime = found.mtime
        return {"name": path, "size": found.size, "type": "file", "mtime": mtime, "created": mtime}

    def modified(self, path: str) -> Any:
        return self.info(path)["mtime"]

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        if mode != "rb":
            raise PermissionError(f"{path}: the warehouse only reads the lake")
        fs, key = self._located(path)
        return fs.open_input_file(key)

    def _located(self, path: str) -> Any:
        return self._storage.filesystem(f"{self.protocol}://{self._strip_protocol(path)}")


def register(connection: DuckDBPyConnection, storage: Storage) -> None:
    """Lets a connection read from object stores."""
    if not connection.filesystem_is_registered("s3"):
        connection.register_filesystem(LakeFiles(storage))
