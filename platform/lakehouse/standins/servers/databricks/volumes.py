"""Files of Unity Catalog volumes, as the Files API has them.

Belongs here: paths, files and folders below one local folder. Does not belong here: HTTP (server.py).
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class ApiError(Exception):
    """An answer that says no: HTTP status, the service's code, and a message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True)
class Volumes:
    """`/Volumes/<catalog>/<schema>/<volume>/...` is `root/<catalog>/...`; a volume exists if it is
    one of `known`."""

    root: Path
    known: frozenset[str]

    def local(self, path: str) -> Path:
        """Where a path of a volume lies here. Raises ApiError if there is no such volume."""
        parts = [p for p in path.split("/") if p]
        if parts[:1] != ["Volumes"] or ".." in parts or "/".join(parts[1:4]) not in self.known:
            raise ApiError(404, "NOT_FOUND", f"Volume of '{path}' does not exist.")
        return self.root.joinpath(*parts[1:])

    def read(self, path: str) -> bytes:
        file = self.local(path)
        if not file.is_file():
            raise ApiError(404, "NOT_FOUND", f"The file being accessed is not found: {path}")
        return file.read_bytes()

    def write(self, path: str, content: bytes, *, overwrite: bool) -> None:
        file = self.local(path)
        if file.exists() and not overwrite:
            raise ApiError(409, "ALREADY_EXISTS", f"The file being created already exists: {path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{file.name}-{uuid.uuid4().hex}")
        unfinished.write_bytes(content)
        os.replace(unfinished, file)  # a file is there as a whole

    def delete(self, path: str) -> None:
        self.read(path)
        self.local(path).unlink()

    def make_directory(self, path: str) -> None:
        self.local(path).mkdir(parents=True, exist_ok=True)

    def delete_directory(self, path: str) -> None:
        folder = self._directory(path)
        if any(folder.iterdir()):
            raise ApiError(400, "DIRECTORY_NOT_EMPTY", f"The directory is not empty: {path}")
        folder.rmdir()

    def listed(self, path: str) -> list[dict[str, Any]]:
        return [
            {
                "path": f"{path.rstrip('/')}/{file.name}",
                "name": file.name,
                "is_directory": file.is_dir(),
                **({} if file.is_dir() else {"file_size": file.stat().st_size}),
                "last_modified": int(file.stat().st_mtime * 1000),
            }
            for file in sorted(self._directory(path).iterdir())
        ]

    def _directory(self, path: str) -> Path:
        folder = self.local(path)
        if not folder.is_dir():
            raise ApiError(404, "NOT_FOUND", f"The directory being accessed is not found: {path}")
        return folder
