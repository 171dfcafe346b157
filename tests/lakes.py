"""Tiny lakes: contracts, transforms, landing files and tables of a few rows in a temporary folder.

Belongs here: what a test needs to say what is given in one line. Does not belong here: assertions,
or anything that the platform itself does (a lake here is run by the platform's own `run_table`).
"""

from __future__ import annotations

import importlib
import importlib.util
import linecache
import shutil
import sys
import textwrap
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from deltalake import DeltaTable, write_deltalake

from spark_jobs.batch import layout, quarantine
from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contracts
from spark_jobs.engines.session import Engine
from spark_jobs.lake import delta, ledger
from spark_jobs.lake.row import LedgerRow, rows_of
from spark_jobs.lake.storage import ZONES, Lake, Storage
from spark_jobs.report import Counts, PartitionReport, RunSpec, TableReport
from spark_jobs.run import run_table

MONDAY, TUESDAY, WEDNESDAY = "2026-10-05", "2026-10-06", "2026-10-07"
_LOGICAL = {"int": "integer", "bigint": "integer", "decimal": "number", "array": "array"}


# -- contracts ---------------------------------------------------------------------------------


def rule(kind: str, *, severity: str = "error", name: str | None = None, **body: Any) -> dict:
    """A rule of a contract, as it is written there."""
    quality = {"type": "custom", "engine": "lakehouse", "severity": severity}
    return quality | ({"name": name} if name else {}) | {"implementation": {"rule": kind} | body}


def column(
    name: str,
    type_: str = "string",
    *rules: dict,
    required: bool = False,
    key: int = 0,
    of: str = "",
    logic: str = "",
) -> dict:
    """A column of a contract; `key` is its place in the primary key, `of` the column it copies."""
    base = type_.partition("(")[0].partition("<")[0]
    out: dict[str, Any] = {
        "name": name,
        "logicalType": _LOGICAL.get(base, base),
        "physicalType": type_,
        "required": required or bool(key),
        "description": f"The {name}",
    }
    if key:
        out |= {"primaryKey": True, "primaryKeyPosition": key}
    if of:
        out["transformSourceObjects"] = [of]
    if logic:
        out["transformLogic"] = logic
    if rules:
        out["quality"] = list(rules)
    return out


def contract(
    table: str,
    columns: Iterable[dict],
    *,
    publish: dict | None = None,
    partitioning: str | None = "daily",
    version: str = "1.0.0",
    rules: Iterable[dict] = (),
    **custom: Any,
) -> dict:
    """A whole contract; `rules` are those of the table, `custom` its custom properties."""
    name = table.partition(".")[2]
    body: dict[str, Any] = {"name": name, "physicalName": name, "properties": list(columns)}
    if rules:
        body["quality"] = list(rules)
    properties = {"publish": publish or {"mode": "replace_partition"}, **custom}
    if partitioning:
        properties["partitioning"] = partitioning
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": table,
        "name": name,
        "version": version,
        "status": "active",
        "domain": "testing",
        "description": {"purpose": f"Rows of {name}"},
        "team": {"name": "data-platform"},
        "schema": [body],
        "customProperties": [{"property": k, "value": v} for k, v in properties.items()],
    }


def bronze(dataset: str, format_: str, *columns: dict, days: list[str] | None = None, **more: Any):
    """The contract of a bronze table that reads landing files of one format."""
    source = {"dataset": dataset, "format": format_, "system": "test"}
    if days is not None:
        source["days"] = days
    return contract(f"bronze.{dataset}", columns, source=source, **more)


def copied(*names: str, table: str, extra: str = "") -> str:
    """The source of a transform that passes columns through; `extra` are more select terms."""
    terms = ", ".join([*(repr(n) for n in names), *([extra] if extra else [])])
    return f"""
        from pyspark.sql import functions as F
        from spark_jobs.columns import LINEAGE, number, text

        def transform({table}):
            return {table}.select(*LINEAGE, {terms})
    """


# -- lakes -------------------------------------------------------------------------------------


@contextmanager
def transforms_in(folder: Path) -> Iterator[None]:
    """Finds transforms below `folder/<layer>/` too, as if they lay in `spark_jobs/tables`."""
    packages = [importlib.import_module(f"spark_jobs.tables.{n}") for n in ("silver", "gold")]
    added = {p: str(folder / p.__name__.rpartition(".")[2]) for p in packages}
    for package, path in added.items():
        package.__path__.insert(0, path)
    try:
        yield
    finally:
        for package, path in added.items():
            package.__path__.remove(path)
            _forget(package, path)


def _forget(package: Any, path: str) -> None:
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(path + "/"):
            del sys.modules[name]
            delattr(package, name.rpartition(".")[2])
    importlib.invalidate_caches()


@dataclass
class TinyLake:
    """A lake of its own with contracts of its own; transforms are mounted by `transforms_in`."""

    root: Path
    engine: Engine | None = None
    runs: int = 0
    zones: dict[str, str] = field(default_factory=dict, repr=False)
    storage: Storage = field(default_factory=Storage)
    _parsed: dict[str, Contract] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.zones = self.zones or {z: str(self.root / "lake" / z) for z in ZONES}

    @property
    def lake(self) -> Lake:
        return Lake(self.zones, self.storage)

    @property
    def contracts(self) -> Path:
        return self.root / "contracts"

    @property
    def transforms(self) -> Path:
        return self.root / "transforms"

    def parsed(self) -> dict[str, Contract]:
        self._parsed = self._parsed or load_contracts(self.contracts)
        return self._parsed

    # -- given ---------------------------------------------------------------------------------

    def define(self, document: dict, transform: str = "") -> None:
        """Writes a contract and, if there is one, the source of its transform."""
        self._parsed = {}
        layer, _, name = document["id"].partition(".")
        path = self.contracts / layer / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        if transform:
            self.write_transform(layer, name, transform)

    def write_transform(self, layer: str, name: str, source: str) -> None:
        path = self.transforms / layer / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        # The bytecode cache tells versions apart by the second only.
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
        linecache.checkcache(str(path))
        sys.modules.pop(f"spark_jobs.tables.{layer}.{name}", None)
        importlib.invalidate_caches()

    def land(self, dataset: str, partition: str, name: str, content: Any) -> Path:
        """Delivers a file: text, bytes or an Arrow table (as Parquet)."""
        path = Path(self.zones["landing"]) / dataset / partition / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def given(self, table: str, partitions: Mapping[str, list[dict[str, Any]]]) -> None:
        """A published upstream table with these rows, without running anything."""
        c = self.parsed()[table]
        fields = [(n, delta.arrow_type(t)) for n, t in layout.table_columns(c)]
        rows = [
            {"_partition": p, "_arrival_date": date.fromisoformat(p[:10]), "_source_file": "f", **r}
            for p, several in partitions.items()
            for r in several
        ]
        uri = self.lake.table(table)
        write_deltalake(
            uri,
            pa.Table.from_pylist(rows, pa.schema(fields)),
            mode="overwrite",
            storage_options=self.storage.delta_options(uri),
        )
        reports = [
            PartitionReport(
                partition=p,
                status="published" if several else "empty",
                counts=Counts(read=len(several), inserted=len(several)),
            )
            for p, several in partitions.items()
        ]
        report = TableReport(
            table=table,
            run_id="given",
            batch_id=uuid.uuid4().hex,
            engine="sail",
            contract_version="1.0.0",
            transform_version="given",
            partitions=reports,
            delta_version=0,
        )
        ledger.append(self.lake, rows_of(report, datetime.now(UTC)))

    def beside(self, name: str) -> TinyLake:
        """A lake that shares contracts, landing and bronze with this one, and nothing else."""
        zones = {z: str(self.root / name / z) for z in ZONES}
        zones |= {z: self.zones[z] for z in ("landing", "bronze")}
        if Path(self.zones["ledger"]).exists():
            shutil.copytree(self.zones["ledger"], zones["ledger"])
        return TinyLake(self.root, self.engine, zones=zones, _parsed=self._parsed)

    # -- when ----------------------------------------------------------------------------------

    def spec(self, table: str, *partitions: str, **more: Any) -> RunSpec:
        self.runs += 1
        return RunSpec(
            **{
                "table": table,
                "partitions": list(partitions),
                "contracts": str(self.contracts),
                "zones": self.zones,
                "storage_options": dict(self.storage.options),
                "run_id": f"run-{self.runs}",
            }
            | more
        )

    def run(self, table: str, *partitions: str, **more: Any) -> TableReport:
        assert self.engine is not None
        return run_table(self.spec(table, *partitions, **more), self.engine, self.parsed())

    # -- then ----------------------------------------------------------------------------------

    def delta(self, table: str) -> DeltaTable:
        uri = self.lake.table(table)
        return DeltaTable(uri, storage_options=self.storage.delta_options(uri))

    def rows(self, table: str, *columns: str) -> list[Any]:
        """What readers see: the contract's columns (or some), in a settled order. One column alone
        comes as plain values."""
        if self.versions(table) < 0:
            return []
        names = list(columns) or [c.name for c in self.parsed()[table].columns]
        found = self.delta(table).to_pyarrow_table(columns=names).to_pylist()
        if len(columns) == 1:
            return sorted((r[columns[0]] for r in found), key=repr)
        return sorted(found, key=lambda r: repr(list(r.values())))

    def versions(self, table: str) -> int:
        """The table's Delta version; -1 if there is no table."""
        uri = self.lake.table(table)
        there = DeltaTable.is_deltatable(uri, self.storage.delta_options(uri))
        return self.delta(table).version() if there else -1

    def quarantined(self, table: str) -> list[dict[str, Any]]:
        return quarantine.rows(self.lake, table)

    def ledger(self, table: str) -> list[LedgerRow]:
        return ledger.history(self.lake, table)


def only(report: TableReport) -> PartitionReport:
    """The one partition of a report."""
    (partition,) = report.partitions
    return partition


def failed_checks(report: PartitionReport) -> set[str]:
    return {c.name for c in report.checks if not c.passed}
