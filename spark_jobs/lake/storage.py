"""Where things are in the lake, and the file operations that are not Delta's.

Belongs here: zone and table locations, listing and removing files on any file system that Arrow
knows (local, S3). Does not belong here: reading rows, or the Delta log.
"""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow.fs as pafs

from spark_jobs import quoting
from spark_jobs.causes import is_transient
from spark_jobs.errors import StorageError
from spark_jobs.report import ZONES


@dataclass(frozen=True)
class File:
    """One object: `uri` to read it by, `size` in bytes, `version` that changes with its content."""

    uri: str
    size: int
    version: str

    @property
    def name(self) -> str:
        return self.uri.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Lake:
    """The locations of the zones, as local paths or URIs.

    `storage_options` are those of delta-rs and never hold secrets: credentials come from the
    environment's default chain.
    """

    zones: Mapping[str, str]
    storage_options: Mapping[str, str] = field(default_factory=dict)
    # Tables that are elsewhere than in the zone of their layer.
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, root: str) -> Lake:
        """A lake with every zone below one root."""
        return cls({zone: f"{str(root).rstrip('/')}/{zone}" for zone in ZONES})

    def table(self, table: str) -> str:
        """The location of `layer.name`."""
        if table in self.elsewhere:
            return self.elsewhere[table]
        layer, _, name = table.partition(".")
        return f"{self.zones[layer]}/{name}"

    def quarantine(self, table: str) -> str:
        return f"{self.zones['quarantine']}/{table.replace('.', '/')}"

    def superseded(self, table: str) -> str:
        """Where the records of a keyed table are that lost; in the zone of the table."""
        layer, _, name = table.partition(".")
        return f"{self.zones[layer]}/_superseded/{name}"

    @property
    def decisions(self) -> str:
        """What people and runs decided about quarantined rows: copies of rows, so that they stay
        in the quarantine's zone, with its readers."""
        return f"{self.zones['quarantine']}/decisions"

    def ledger(self, name: str) -> str:
        return f"{self.zones['ledger']}/{name}"

    def landing(self, dataset: str, partition: str) -> str:
        return f"{self.zones['landing']}/{dataset}/{partition}"


def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """The Arrow file system of a location and the path within it."""
    scheme, separator, path = uri.partition("://")
    if not separator:
        return pafs.LocalFileSystem(), uri
    if scheme == "file":
        return pafs.LocalFileSystem(), path
    # Only the store is parsed as a URI: a name may hold what means something in one, such as %.
    store, _, key = path.partition("/")
    try:
        fs, root = pafs.FileSystem.from_uri(f"{scheme.replace('s3a', 's3')}://{store}")
    except (OSError, ValueError) as error:  # it looks for the bucket at once
        raise describe(error, uri) from error
    return fs, f"{root.rstrip('/')}/{key}".rstrip("/")


def files(folder: str) -> list[File]:
    """The data files directly in `folder`, by name; none if it does not exist."""
    return listing(folder)[0]


def listing(folder: str) -> tuple[list[File], list[str]]:
    """The data files directly in `folder`, and the names of the folders in it.

    Names that begin with `.` or `_` are unfinished or control files and are left out.
    """
    found = [i for i in below(folder)[0] if not i.base_name.startswith((".", "_"))]
    files = [
        File(f"{folder}/{i.base_name}", i.size, f"{i.size}-{_stamp(i.mtime)}")
        for i in sorted(found, key=lambda i: i.base_name)
        if i.type == pafs.FileType.File
    ]
    return files, sorted(i.base_name for i in found if i.type == pafs.FileType.Directory)


def below(folder: str, *, recursive: bool = False) -> tuple[list[pafs.FileInfo], str]:
    """What lies in a folder, nothing if it does not exist, and its path within its file system.

    Raises StorageError if it cannot be listed: it is a file, or its store does not answer.
    """
    fs, path = filesystem(folder)
    selector = pafs.FileSelector(path, recursive=recursive, allow_not_found=True)
    try:
        return fs.get_file_info(selector), path
    except OSError as error:
        raise describe(error, folder) from error


def folders(folder: str) -> list[str]:
    """The names of the folders directly in `folder`, sorted."""
    infos, _ = below(folder)
    return sorted(i.base_name for i in infos if i.type == pafs.FileType.Directory)


def tree(folder: str, suffix: str = ".parquet") -> list[tuple[str, int]]:
    """Every file below `folder` that ends in `suffix`, as path relative to it and size in bytes."""
    infos, path = below(folder, recursive=True)
    root = path.rstrip("/") + "/"
    return sorted(
        (i.path.removeprefix(root), i.size)
        for i in infos
        if i.type == pafs.FileType.File and i.path.endswith(suffix)
    )


def copy(source: str, destination: str) -> None:
    """Copies the files below one folder to another of the same file system."""
    fs, path = filesystem(destination)
    _, origin = filesystem(source)
    for name, _ in tree(source):
        fs.create_dir(f"{path}/{name}".rpartition("/")[0], recursive=True)
        fs.copy_file(f"{origin}/{name}", f"{path}/{name}")


def remove(folder: str) -> None:
    """Removes a folder and everything in it; no error if it is not there."""
    fs, path = filesystem(folder)
    if fs.get_file_info(path).type != pafs.FileType.NotFound:
        fs.delete_dir(path)


def remove_files(root: str, relative: Iterable[str]) -> None:
    fs, path = filesystem(root)
    for name in relative:
        fs.delete_file(f"{path}/{name}")


def ensure_writable(folder: str) -> None:
    """Creates `folder`; raises StorageError that says why if it cannot be written."""
    fs, path = filesystem(folder)
    try:
        fs.create_dir(path, recursive=True)
        if isinstance(fs, pafs.LocalFileSystem):
            # A name of its own: two runs that probe at once must not remove each other's file.
            probe = f"{path}/.writable-{uuid.uuid4().hex}"
            with fs.open_output_stream(probe) as stream:
                stream.write(b"")
            fs.delete_file(probe)
    except OSError as error:
        raise describe(error, folder) from error


def describe(error: BaseException, where: str) -> StorageError:
    """A StorageError that says what to do about a failed file operation."""
    return recognized(error, where) or StorageError(
        f"{where}: {quoting.said(error)}. No batch was published in part; check that the location"
        " exists, and the store's endpoint and region, then run again."
    )


def recognized(error: BaseException, where: str) -> StorageError | None:
    """The same for an error of any origin, an engine's too, if it is known to be about files."""
    text, code = quoting.said(error), getattr(error, "errno", None)
    for numbers, words, what in _KNOWN:
        if code in numbers or any(w in text for w in words):
            return StorageError(f"{where}: {what.format(text)}")
    if is_transient(error):
        return StorageError(
            f"{where}: the store did not answer as it should ({text}). No batch was published in"
            " part. It is tried again; if that does not help, check the network, and the store's"
            " endpoint and region.",
            permanent=False,
        )
    return None


# The numbers of the error, or words of its text where a library gives no number; what to say.
_KNOWN: tuple[tuple[tuple[int, ...], tuple[str, ...], str], ...] = (
    (
        (errno.ENOSPC,),
        ("No space left", "os error 28"),
        "the disk is full; no batch was published in part. Free space, then run again.",
    ),
    (
        (errno.EFBIG,),
        ("File too large", "os error 27"),
        "a file has grown beyond what this system allows ({}); no batch was published in part."
        " Raise the limit (ulimit -f) or the quota, then run again.",
    ),
    (
        (errno.ENOTDIR, errno.EEXIST),
        ("Not a directory",),
        "a file is where a folder should be ({}). Move it away, or set another lake root in the"
        " settings.",
    ),
    (
        (errno.EACCES, errno.EROFS, errno.EPERM),
        ("ermission denied",),
        "not writable ({}). Give this user write access, or set another lake root in the settings.",
    ),
    (
        (),
        ("ACCESS_DENIED", "AccessDenied", "403 Forbidden"),
        "access is denied ({}). Allow this role to list, read and write there.",
    ),
    (
        (),
        ("NO_SUCH_BUCKET", "NoSuchBucket"),
        "the bucket does not exist ({}). Create it, or correct its name in the settings.",
    ),
)


def _stamp(mtime: datetime | None) -> str:
    return str(int(mtime.timestamp() * 1_000_000)) if mtime else "0"
