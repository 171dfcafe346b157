"""Where things are in the lake, how its stores are reached, and the file operations that are not
Delta's.

Belongs here: zone and table locations, the one configuration of a store for every client, listing
and removing files on any file system that Arrow knows (local, S3). Does not belong here: reading
rows, or the Delta log.
"""

from __future__ import annotations

import errno
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow.fs as pafs

from spark_jobs import quoting
from spark_jobs.causes import is_transient
from spark_jobs.errors import StorageError
from spark_jobs.lake import vending
from spark_jobs.report import STORAGE_OPTIONS, ZONES, storage_options

if TYPE_CHECKING:
    import pyarrow.dataset as pads

_RETRIES = "8"  # over some seconds: whoever runs a table tries again too, and later
_AT_ONCE = 8
# A bucket that was there is not looked for again for so long: each batch would ask several times.
_SEEN_SECONDS = 60
_seen: dict[str, tuple[pafs.FileSystem, float]] = {}
_SCHEME = re.compile(r"s3a?://")
VENDED_BY = "vended_by"
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_OF_THE_ENVIRONMENT = [name for name in STORAGE_OPTIONS if name.startswith("AWS_")]


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
class Storage:
    """How the stores of a lake are reached, the same for Arrow and for delta-rs: by `options`
    (report.STORAGE_OPTIONS), and by the environment variables of the same names for what they leave
    out. It can be sent to workers: it holds no connection and no secret; vended credentials to read by
    go with it.

    Credentials come from the environment's default chain, or from a catalogue that vends them
    (`vended_by`). Raises ValueError for an option that is not known, or that is a credential.
    """

    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", storage_options(self.options))

    def __reduce__(self) -> tuple[Any, ...]:
        return _sent, (dict(self.options), vending.carried() if self.vended else {})

    @property
    def vended(self) -> bool:
        """Whether a catalogue gives the credentials, each for one zone, and for nothing of its bucket
        besides."""
        return VENDED_BY in self.options

    @property
    def options_in_force(self) -> dict[str, str]:
        """The options, and what the environment says for those that are left out."""
        found = {n: os.environ[n] for n in _OF_THE_ENVIRONMENT if n in os.environ}
        return {"max_retries": _RETRIES, **found, **self.options}

    @property
    def region(self) -> str | None:
        """None leaves it to each client to find out."""
        found = self.options_in_force.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return found or None

    @property
    def endpoint(self) -> str | None:
        """Where the store is, if it is not AWS's. Raises ValueError if requests would go there
        unencrypted, and nobody has said that they may."""
        endpoint = self.options_in_force.get("AWS_ENDPOINT_URL", "").rstrip("/")
        if endpoint.startswith("http://") and not self._is_true("AWS_ALLOW_HTTP"):
            raise ValueError(
                "AWS_ENDPOINT_URL is not encrypted (http). Set AWS_ALLOW_HTTP to true if it may be so"
            )
        return endpoint or None

    @property
    def virtual_hosted(self) -> bool:
        """Whether requests name a bucket in their host, and not in their path."""
        return self._is_true("AWS_VIRTUAL_HOSTED_STYLE_REQUEST")

    def _is_true(self, name: str) -> bool:
        return self.options_in_force.get(name, "").lower() in ("1", "true", "on", "yes", "y")

    def delta_options(self, uri: str) -> dict[str, str]:
        """What delta-rs is given for the store at `uri`, with the credentials that a catalogue vends for
        it, if one does."""
        if "://" not in uri:
            return {}
        given = {name: value for name, value in self.options.items() if name != VENDED_BY}
        return {"max_retries": _RETRIES, **given, **self._credentials(uri)}

    def _credentials(self, uri: str) -> dict[str, str]:
        return vending.credentials(uri) if self.vended else {}

    def filesystem(self, uri: str) -> tuple[pafs.FileSystem, str]:
        """The Arrow file system of a location and the path within it."""
        scheme, separator, path = uri.partition("://")
        if not separator:
            return pafs.LocalFileSystem(), uri
        if scheme == "file":
            return pafs.LocalFileSystem(), path
        # Only the store is parsed as a URI: a name may hold what means something in one, such as %.
        store, _, key = path.partition("/")
        with _described(uri):
            if scheme in ("s3", "s3a"):
                retries = int(self.options_in_force["max_retries"])
                given = (self.region, self.endpoint, self.virtual_hosted, retries)
                fs, root = _s3(store, *given, *map(self._credentials(uri).get, _KEYS)), store
            else:
                fs, root = pafs.FileSystem.from_uri(f"{scheme}://{store}")
        return fs, f"{root.rstrip('/')}/{key}".rstrip("/")

    def files(self, folder: str) -> list[File]:
        """The data files directly in `folder`, by name; none if it does not exist."""
        return self.listing(folder)[0]

    def listing(self, folder: str, control: str = "") -> tuple[list[File], list[str]]:
        """The data files directly in `folder`, and the names of the folders in it.

        Names that begin with `.` or `_` are unfinished or control files and are left out, but for the
        one that is asked for.
        """
        found = [
            i
            for i in self.below(folder)[0]
            if i.base_name == control or not i.base_name.startswith((".", "_"))
        ]
        files = [
            File(f"{folder}/{i.base_name}", i.size, f"{i.size}-{_stamp(i.mtime)}")
            for i in sorted(found, key=lambda i: i.base_name)
            if i.type == pafs.FileType.File
        ]
        return files, sorted(i.base_name for i in found if i.type == pafs.FileType.Directory)

    def below(self, folder: str, *, recursive: bool = False) -> tuple[list[pafs.FileInfo], str]:
        """What lies in a folder, nothing if it does not exist, and its path within its file system.

        Raises StorageError if it cannot be listed: it is a file, or its store does not answer, or
        does not exist.
        """
        fs, path = self.filesystem(folder)
        selector = pafs.FileSelector(path, recursive=recursive, allow_not_found=True)
        with _described(folder):
            try:
                found = fs.get_file_info(selector)
            except FileNotFoundError:  # something went, or a folder came, while it was listed
                found = fs.get_file_info(selector)
            if not found and isinstance(fs, pafs.S3FileSystem) and not self.vended:
                _ensure_bucket(fs, path)  # a wrong name must not pass for an empty folder
        return found, path

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly in `folder`, sorted."""
        infos, _ = self.below(folder)
        return sorted(i.base_name for i in infos if i.type == pafs.FileType.Directory)

    def tree(self, folder: str, suffix: str = ".parquet") -> list[tuple[str, int]]:
        """Every file below `folder` that ends in `suffix`, as path relative to it and size in
        bytes."""
        infos, path = self.below(folder, recursive=True)
        root = path.rstrip("/") + "/"
        return sorted(
            (i.path.removeprefix(root), i.size)
            for i in infos
            if i.type == pafs.FileType.File and i.path.endswith(suffix)
        )

    def exist(self, files: Iterable[str]) -> bool:
        """Whether all of some files of one store are there."""
        places = [self.filesystem(file) for file in files]
        if not places:
            return True
        with _described(places[0][1]):
            infos = places[0][0].get_file_info([path for _, path in places])
        return all(info.is_file for info in infos)

    def copy(self, source: str, destination: str) -> None:
        """Copies the files below one folder to another of the same file system."""
        fs, path = self.filesystem(destination)
        _, origin = self.filesystem(source)
        for name, _ in self.tree(source):
            with _described(f"{destination}/{name}"):
                if not isinstance(fs, pafs.S3FileSystem):
                    fs.create_dir(f"{path}/{name}".rpartition("/")[0], recursive=True)
                fs.copy_file(f"{origin}/{name}", f"{path}/{name}")

    def exists(self, file: str) -> bool:
        """Whether there is such a file."""
        fs, path = self.filesystem(file)
        with _described(file):
            return fs.get_file_info(path).type == pafs.FileType.File

    def parquet(self, file: str, size: int) -> pads.ParquetFileFragment:
        """A Parquet file whose size in bytes a listing has told: whoever opens it by its name alone asks
        for that first."""
        import pyarrow.dataset as pads  # brings pandas, which most commands do without

        fs, path = self.filesystem(file)
        return pads.ParquetFileFormat().make_fragment(path, fs, file_size=size)

    def write(self, file: str, blocks: Iterable[bytes]) -> None:
        """Writes a file, which is there as a whole or not at all: a stream that is given up is
        closed too, and closing it would make what it has so far an object."""
        fs, path = self.filesystem(file)
        folder, _, name = path.rpartition("/")
        unfinished = f"{folder}/.{name}-{uuid.uuid4().hex}"
        with _described(file):
            if not isinstance(fs, pafs.S3FileSystem):  # which has no folders
                fs.create_dir(folder, recursive=True)
            with fs.open_output_stream(unfinished) as stream:
                for block in blocks:
                    stream.write(block)
            fs.move(unfinished, path)

    def add(self, source: str, destination: str) -> None:
        """Copies the files below a folder to another, of whatever store, but for those that are there
        already."""
        (of, origin), (to, path) = self.filesystem(source), self.filesystem(destination)
        there = {name for name, _ in self.tree(destination, "")}
        missing = [name for name, _ in self.tree(source, "") if name not in there]

        def add_one(name: str) -> None:
            with _described(f"{destination}/{name}"):
                if not isinstance(to, pafs.S3FileSystem):
                    to.create_dir(f"{path}/{name}".rpartition("/")[0], recursive=True)
                pafs.copy_files(f"{origin}/{name}", f"{path}/{name}", of, to)

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            list(threads.map(add_one, missing))

    def remove(self, folder: str) -> None:
        """Removes a folder and everything in it; no error if it is not there."""
        fs, path = self.filesystem(folder)
        with _described(folder), suppress(FileNotFoundError):
            fs.delete_dir(path)

    def remove_file(self, file: str) -> None:
        """Removes a file; no error if it is not there."""
        fs, path = self.filesystem(file)
        with _described(file), suppress(FileNotFoundError):
            fs.delete_file(path)

    def ensure_writable(self, folder: str) -> None:
        """Creates `folder`; raises StorageError that says why if it cannot be written. An object store
        has no folders: there it sees that the bucket is, and the first object says the rest."""
        fs, path = self.filesystem(folder)
        with _described(folder):
            if isinstance(fs, pafs.S3FileSystem):
                if not self.vended:  # whose credentials see a zone of it alone
                    _ensure_bucket(fs, path)
                return
            fs.create_dir(path, recursive=True)
            if isinstance(fs, pafs.LocalFileSystem):
                # A name of its own: two runs that probe at once must not remove each other's file.
                probe = f"{path}/.writable-{uuid.uuid4().hex}"
                with fs.open_output_stream(probe) as stream:
                    stream.write(b"")
                fs.delete_file(probe)


@dataclass(frozen=True)
class Lake:
    """The locations of the zones, as local paths or URIs, and how their stores are reached."""

    zones: Mapping[str, str]
    storage: Storage = field(default_factory=Storage)
    # Tables that are elsewhere than in the zone of their layer.
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Storage | None:
        """How the object store is reached, if the lake is in one: what an engine has to know."""
        places = (*self.zones.values(), *self.elsewhere.values())
        return self.storage if any(_SCHEME.match(place) for place in places) else None

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


def _sent(options: Mapping[str, str], brought: Mapping[str, vending.Vended]) -> Storage:
    """A storage where it arrives, with what was vended for it."""
    vending.receive(brought)
    return Storage(options)


@lru_cache
def _s3(
    bucket: str,
    region: str | None,
    endpoint: str | None,
    virtual: bool,
    retries: int,
    access_key: str | None,
    secret_key: str | None,
    session_token: str | None,
) -> pafs.S3FileSystem:
    """Arrow's client of a bucket, as delta-rs reads the same options; one for all of a process,
    with the connections that it keeps."""
    scheme, separator, host = (endpoint or "").rpartition("://")
    if virtual:
        host = host.removeprefix(f"{bucket}.")  # delta-rs wants the bucket there, Arrow adds it
    if region is None and not host:
        region = pafs.resolve_s3_region(bucket)
    return pafs.S3FileSystem(
        region=region,
        scheme=scheme if separator else "https",
        endpoint_override=host or None,
        force_virtual_addressing=virtual,
        access_key=access_key,
        secret_key=secret_key,
        session_token=session_token,
        # Its number is of retries; that of the standard one is of attempts, some of them minutes apart.
        retry_strategy=pafs.AwsDefaultS3RetryStrategy(max_attempts=retries),
    )


def _ensure_bucket(fs: pafs.S3FileSystem, path: str) -> None:
    name = path.partition("/")[0]
    seen = _seen.get(name)
    if seen is not None and seen[0] is fs and time.monotonic() < seen[1] + _SEEN_SECONDS:
        return
    if fs.get_file_info(name).type == pafs.FileType.NotFound:
        raise OSError(f"NoSuchBucket: {name}")
    _seen[name] = fs, time.monotonic()


@contextmanager
def _described(where: str) -> Iterator[None]:
    """Raises what goes wrong with a store as a StorageError that says what to do."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise describe(error, where) from error


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
        ("catalog-managed",),
        "its commits go through a catalogue (the Delta feature catalogManaged), and the platform"
        " commits by location. Let it publish to an external table, in another location ({}).",
    ),
    (
        (),
        ("NO_SUCH_BUCKET", "NoSuchBucket"),
        "the bucket does not exist ({}). Create it, or correct its name in the settings.",
    ),
)


def _stamp(mtime: datetime | None) -> str:
    return str(int(mtime.timestamp() * 1_000_000)) if mtime else "0"
