"""Delta logs that a process keeps open from one run to the next, and what it has read of them.

Belongs here: whether a log that was opened before is still the newest, and whose it is. Does not belong
here: opening one for the first time (delta.py), or committing to it (commits.py).

An object store takes its time for each request, and whoever opens a table asks it for every commit since
the last checkpoint, twice. What a run has open is its own, since a batch is computed from one version;
when the run ends, the next one may have it, and asks only for what was committed since.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow.fs as pafs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from spark_jobs.errors import StorageError
from spark_jobs.lake.storage import Storage

Seal = tuple[int, int]
_MOST = 256
_AT_ONCE = 8


@dataclass(frozen=True)
class Tip:
    """The log of an open table as it is now: the `seal` of the version that is open, and whether
    there is a `newer` one."""

    seal: Seal | None
    newer: bool


@dataclass
class _Open:
    table: DeltaTable
    storage: Storage
    version: int
    seal: Seal | None


# By location and what the store is reached by: credentials that a catalogue vended end.
_Key = tuple[str, frozenset[tuple[str, str]]]
_idle: dict[_Key, _Open] = {}
_lent: ContextVar[dict[_Key, _Open] | None] = ContextVar("lent", default=None)
# Places on an object store where there was nothing when a table was looked for.
_absent: set[str] = set()
# What has been read of the history of tables that are open, by their identity: they have no hash.
_commits: dict[int, dict[int, Mapping[str, Any]]] = {}


def renew(table: DeltaTable, storage: Storage) -> None:
    """Opens a table anew at its version, for all who hold it, if a catalogue has vended other
    credentials since: delta-rs keeps those that it was given, and a batch may take longer than they are
    good for."""
    if storage.vended:
        uri = unquote(table.table_uri)
        options = storage.delta_options(uri)
        if table._storage_options != options:
            DeltaTable.__init__(table, uri, version=table.version(), storage_options=options)


def update(table: DeltaTable, storage: Storage) -> None:
    """Brings an open table to its newest version."""
    renew(table, storage)
    table.update_incremental()


def seal(table: DeltaTable, storage: Storage) -> Seal | None:
    """When the commit of the table's version was written, and its size: a log in which that commit
    is another one is not the log that was opened. None if the commit is not there any more."""
    fs, root = storage.filesystem(unquote(table.table_uri))
    (info,) = fs.get_file_info([f"{root.rstrip('/')}/_delta_log/{table.version():020}.json"])
    return _seal_of(info)


def tip(table: DeltaTable, storage: Storage) -> Tip:
    """By one listing, which also tells when nothing has changed."""
    found, _ = storage.below(f"{unquote(table.table_uri).rstrip('/')}/_delta_log")
    commits = {i.base_name: i for i in found if i.base_name.endswith(".json")}
    own = f"{table.version():020}.json"
    sealed = _seal_of(commits[own]) if own in commits else None
    return Tip(sealed, newer=any(name > own for name in commits if name[:20].isdigit()))


def _seal_of(info: pafs.FileInfo) -> Seal | None:
    return None if info.type != pafs.FileType.File else (info.mtime_ns, info.size)


@contextmanager
def kept() -> Iterator[None]:
    """What is opened within, on an object store and in this thread, stays open for the next one."""
    lent: dict[_Key, _Open] = {}
    token = _lent.set(lent)
    try:
        yield
    finally:
        _lent.reset(token)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            given_back = dict(zip(lent, threads.map(_sealed, lent.values()), strict=True))
        _idle.update({key: found for key, found in given_back.items() if found is not None})
        for key in list(_idle)[:-_MOST]:
            _idle.pop(key, None)


def _sealed(found: _Open) -> _Open | None:
    # To keep it open is a convenience: what goes wrong here must not hide what ended the run.
    with suppress(DeltaError, OSError, StorageError):
        if found.seal is None or found.version != found.table.version():
            found.version, found.seal = found.table.version(), seal(found.table, found.storage)
        return found if found.seal else None
    return None


def _key(uri: str, storage: Storage) -> _Key:
    return uri, frozenset(storage.delta_options(uri).items())


def taken(uri: str, storage: Storage) -> DeltaTable | None:
    """A table that an earlier run had open, at its newest version; None if there is none, or its log
    is another one by now."""
    lent = _lent.get()
    if lent is None:
        return None
    key = _key(uri, storage)
    found = None if key in lent else _idle.pop(key, None)
    if found is None:
        return None
    with suppress(DeltaError, OSError):
        now = tip(found.table, storage)
        if now.seal != found.seal:
            return None
        if now.newer:
            update(found.table, storage)
        lent[key] = found
        return found.table
    return None


def lend(table: DeltaTable, uri: str, storage: Storage) -> DeltaTable:
    """Notes a table that was opened, or made, for the next run."""
    lent = _lent.get()
    if lent is not None and "://" in uri:
        lent.setdefault(_key(uri, storage), _Open(table, storage, table.version(), None))
    return table


def note_absent(uri: str) -> None:
    """Notes that nothing is where a table may be one day."""
    if "://" in uri:
        _absent.add(uri)


def is_still_absent(uri: str, storage: Storage) -> bool:
    """Whether there was no table at a place, and there is nothing there now: by one listing."""
    if uri not in _absent:
        return False
    _absent.discard(uri)
    if storage.below(uri)[0]:
        return False
    _absent.add(uri)
    return True


def history(table: DeltaTable, limit: int) -> list[Mapping[str, Any]]:
    """The newest commits of a table's log up to its version, newest first; each is read once."""
    at = table.version()
    known, wanted = _known(table), range(at, max(at - limit, -1), -1)
    missing = [v for v in wanted if v not in known]
    if missing:
        for commit in table.history(at - min(missing) + 1):
            known[commit["version"]] = commit
    return [known[v] for v in wanted if v in known]


def committed(table: DeltaTable, version: int, metadata: Mapping[str, str]) -> None:
    """Notes a commit that is this process's own."""
    _known(table)[version] = {"version": version, **metadata}


def _known(table: DeltaTable) -> dict[int, Mapping[str, Any]]:
    name = id(table)
    if name not in _commits:
        _commits[name] = {}
        weakref.finalize(table, _commits.pop, name, None)
    return _commits[name]
