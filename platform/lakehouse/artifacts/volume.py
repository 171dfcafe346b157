"""Artifacts in a volume of Unity Catalog, which jobs of Databricks see as a folder.

Belongs here: the store, and the client of a workspace. Does not belong here: jobs (engines/).
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from spark_jobs import quoting
from spark_jobs.causes import is_transient
from spark_jobs.errors import StorageError

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

    from lakehouse.settings.model import Settings

VOLUMES = "/Volumes/"


def workspace(settings: Settings) -> WorkspaceClient:
    """A client of the settings' workspace, as whoever the SDK's default chain finds."""
    from databricks.sdk import WorkspaceClient

    return WorkspaceClient(host=settings.databricks.host if settings.databricks else None)


@dataclass(frozen=True)
class VolumeStore:
    """Files below `root`, a path that begins with /Volumes/<catalog>/<schema>/<volume>."""

    root: str
    client: WorkspaceClient

    def uri(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def names(self, folder: str) -> list[str]:
        found: list[str] = []
        todo = [folder]
        while todo:
            parent = todo.pop()
            for entry in self._entries(parent):
                name = f"{parent}/{entry[0]}"
                (todo if entry[1] else found).append(name)
        return sorted(found)

    def size(self, name: str) -> int | None:
        from databricks.sdk.errors import NotFound
        from databricks.sdk.errors.base import DatabricksError

        try:
            return self.client.files.get_metadata(self.uri(name)).content_length
        except NotFound:
            return None
        except (DatabricksError, ValueError) as error:
            raise self._described(error, name) from error

    def read(self, name: str) -> bytes | None:
        from databricks.sdk.errors import NotFound
        from databricks.sdk.errors.base import DatabricksError

        try:
            contents = self.client.files.download(self.uri(name)).contents
            assert contents is not None
            with contents:
                return contents.read()
        except NotFound:
            return None
        except (DatabricksError, ValueError) as error:
            raise self._described(error, name) from error

    def write(self, name: str, content: bytes | Path) -> None:
        from databricks.sdk.errors.base import DatabricksError

        try:
            # One that can be read again, since a request that fails is sent again.
            with BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream:
                self.client.files.upload(self.uri(name), stream, overwrite=True)
        except (DatabricksError, ValueError) as error:
            raise self._described(error, name) from error

    def write_once(self, name: str, content: bytes) -> bool:
        """Writes a file, unless it is there; whether it did."""
        from databricks.sdk.errors import ResourceConflict
        from databricks.sdk.errors.base import DatabricksError

        try:
            self.client.files.upload(self.uri(name), BytesIO(content), overwrite=False)
        except ResourceConflict:
            # A request whose answer was lost is sent again, and finds what it wrote.
            return self.read(name) == content
        except (DatabricksError, ValueError) as error:
            raise self._described(error, name) from error
        return True

    def _entries(self, folder: str) -> list[tuple[str, bool]]:
        from databricks.sdk.errors import NotFound
        from databricks.sdk.errors.base import DatabricksError

        try:
            entries = list(self.client.files.list_directory_contents(self.uri(folder)))
        except NotFound:
            return []
        except (DatabricksError, ValueError) as error:
            raise self._described(error, folder) from error
        return [(e.name or "", bool(e.is_directory)) for e in entries]

    def _described(self, error: Exception, name: str) -> StorageError:
        return StorageError(
            f"{self.uri(name)}: {quoting.said(error)}. Check that the volume exists, that"
            " DATABRICKS_HOST and its login (or a profile) lead to its workspace, and that who runs"
            " this may read and write it (READ VOLUME, WRITE VOLUME).",
            permanent=not is_transient(error),
        )
