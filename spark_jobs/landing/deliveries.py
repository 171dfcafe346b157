"""What was delivered: the files of a partition, listed but not opened."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from spark_jobs import storage
from spark_jobs.contract import Contract


@dataclass
class Delivery:
    """The files of one partition, and what is already known about them before any row is read."""

    partition: str
    files: list[storage.File]
    expected: bool
    error: str = ""
    drift: dict[str, Any] = field(default_factory=lambda: {"extra": {}, "missing": []})
    records: int = 0

    @property
    def fingerprint(self) -> list[str]:
        return [f"{f.name}:{f.version}" for f in self.files]


def expected(contract: Contract, partition: str) -> bool:
    """Whether the source delivers on this partition's day of the week."""

    assert contract.source is not None
    day = dt.date.fromisoformat(partition[:10])
    return ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[day.weekday()] in contract.source.days


def deliveries(contract: Contract, lake: storage.Lake, partitions: Iterable[str]) -> list[Delivery]:
    """The landing files of each partition. A partition whose delivery is due but missing comes
    back with an error; a file is only listed here, not opened."""
    assert contract.source is not None
    out = []
    for partition in partitions:
        folder = lake.landing(contract.source.dataset, partition)
        delivery = Delivery(partition, storage.files(folder), expected(contract, partition))
        if delivery.expected and not delivery.files:
            delivery.error = (
                f"nothing delivered: no files in {folder}. Deliver the files, or leave the day out"
                " of the contract's source.days if the source never delivers on it."
            )
        out.append(delivery)
    return out
