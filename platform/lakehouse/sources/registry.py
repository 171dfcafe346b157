"""Which module reads which kind of source, and the datasets that are extracted in an environment.

Belongs here: putting a contract, a connection and a module together. Does not belong here: any of them.
A kind is read by the module of its name, here or in a package that adds it, whose
`source(connection, declared, columns)` is called.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lakehouse.sources.extract import Dataset
from spark_jobs.contract.model import Contract, by_dataset
from spark_jobs.contract.source import installed

if TYPE_CHECKING:
    from lakehouse.settings.model import Settings
    from spark_jobs.contract.source import Source


def extracted(
    settings: Settings, contracts: Mapping[str, Contract]
) -> dict[str, Sequence[Contract]]:
    """The datasets that are extracted here, each with the contracts that read it."""
    return _windowed(contracts, settings.sources.extracts)


def drained(settings: Settings, contracts: Mapping[str, Contract]) -> dict[str, Sequence[Contract]]:
    """The streams that are drained here, each with the contracts that read it."""
    return _windowed(contracts, settings.sources.drains)


def _windowed(
    contracts: Mapping[str, Contract], wanted: Callable[[Source], bool]
) -> dict[str, Sequence[Contract]]:
    """The wanted ones among the datasets that have windows."""
    return {
        dataset: readers
        for dataset, readers in by_dataset(contracts).items()
        if readers[0].partitioning and wanted(readers[0].delivered)
    }


def dataset_of(settings: Settings, readers: Sequence[Contract]) -> Dataset:
    """A dataset with its source, which is not connected to yet. Its columns are those of all tables that
    read it."""
    declared = readers[0].delivered
    columns = tuple(dict.fromkeys(c.name for reader in readers for c in reader.columns))
    kind = declared.kind
    module = installed(kind) or importlib.import_module(f"lakehouse.sources.{kind}")
    return Dataset(
        module.source(settings.sources.connection(kind), declared, columns),
        declared,
        columns,
        settings.storage,
        settings.zones["landing"],
        getattr(declared, "overlap", Dataset.overlap),
    )
