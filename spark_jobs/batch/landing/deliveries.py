"""What was delivered: the files of a partition, listed but not opened.

Stores answer many questions at once, and slowly: partitions are listed side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from spark_jobs import quoting
from spark_jobs.contract.model import Contract
from spark_jobs.errors import InputError
from spark_jobs.lake import manifest, storage

_AT_ONCE = 16
_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Slice:
    """Row groups of a Parquet file, from `first` up to `end`, and how many rows they hold."""

    uri: str
    size: int  # of the file
    partition: str
    first: int
    end: int
    rows: int
    converted: frozenset[str]  # columns of another type than the contract's


@dataclass
class Delivery:
    """The files of one partition, and what is already known about them before any row is read."""

    partition: str
    files: list[storage.File]
    expected: bool
    error: str = ""
    drift: dict[str, Any] = field(default_factory=lambda: {"extra": {}, "missing": []})
    slices: list[Slice] = field(default_factory=list)

    @property
    def records(self) -> int:
        """How many rows there are, according to footers."""
        return sum(s.rows for s in self.slices)

    @property
    def fingerprint(self) -> list[str]:
        return [f"{f.name}:{f.version}" for f in self.files]


def expected(contract: Contract, partition: str) -> bool:
    """Whether the source delivers on this partition's day of the week."""
    return contract.delivered.delivers_on(partition)


def deliveries(contract: Contract, lake: storage.Lake, partitions: Iterable[str]) -> list[Delivery]:
    """The landing files of each partition. A partition whose delivery is due but missing comes
    back with an error; a file is only listed here, not opened."""
    dataset = contract.delivered.dataset

    def listed(partition: str) -> Delivery:
        folder = lake.landing(dataset, partition)
        files, folders = lake.storage.listing(folder, manifest.NAME)
        delivery = Delivery(partition, files, expected(contract, partition))
        if any(file.name == manifest.NAME for file in files):
            _as_listed(delivery, folder, lake.storage)
        elif folders:
            delivery.error = (
                f"{folder}: folders in a partition: {quoting.names(folders)}. What is in"
                " them would not be read; deliver files into the partition's own folder, or begin"
                " the folder's name with _ or . if it holds no data."
            )
        elif delivery.expected and not delivery.files:
            delivery.error = (
                f"nothing delivered: no files in {folder}. Deliver the files, or leave the day out"
                " of the contract's source.days if the source never delivers on it."
            )
        return delivery

    return side_by_side(listed, partitions)


def _as_listed(delivery: Delivery, folder: str, of: storage.Storage) -> None:
    """Leaves the files that the folder's manifest lists. What nobody has extracted to its end is not
    there yet, and what was extracted and has no rows is there, and empty."""
    there = {file.name: file for file in delivery.files}
    delivery.files = []
    try:
        listed = manifest.read(of, folder)
        if listed is None or listed.positions is None:
            delivery.error = (
                f"{folder}: the extraction that began here has not come to its end. Wait for it, or"
                " extract the partition again (lakehouse extract)."
            )
        else:
            delivery.files = listed.present(folder, there)
    except InputError as error:
        delivery.error = str(error)


def side_by_side(ask: Callable[[_Asked], _Answer], of: Iterable[_Asked]) -> list[_Answer]:
    """The answers to questions that mostly wait for a store, in order."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(ask, of))
