"""The value that a contract is: its columns, rules, inputs, and how its rows land.

Belongs here: the model of a contract and the shape of its parts. Does not belong here: reading one
(reader.py), whether the parts fit together (validity.py), or the vocabulary of rules (rules.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from spark_jobs.contract.rules import Reference, RuleSpec
from spark_jobs.contract.source import Source
from spark_jobs.contract.validity import Where

LAYERS = ("bronze", "silver", "gold")
# What a column's values are. Those of the first two may be shown; without a class none may.
SHOWN_CLASSES = ("public", "internal")
UNCLASSIFIED = "unclassified"
CLASSIFICATIONS = (*SHOWN_CLASSES, "confidential", "restricted", "pii")
TYPES = re.compile(
    r"^(string|int|bigint|boolean|date|timestamp|decimal\(\d+,\d+\)|array<(string|timestamp)>)$"
)


_Spec = TypeVar("_Spec", bound=RuleSpec)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(_Strict):
    """An upstream table and which of its rows a batch reads.

    `changes`: the rows that arrived in the batch's partitions; `lookup`: all rows;
    `touched`: all rows that share a value of column `by` with the changed rows. `affects` tells,
    as an SQL condition, which rows of this table use a given row of a lookup.
    """

    table: str
    read: Literal["changes", "lookup", "touched"] = "changes"
    by: str | None = None
    affects: str | None = Field(None, min_length=1)


class Publish(_Strict):
    """How a batch becomes part of the table; see publish.py for each mode."""

    mode: Literal["replace_partition", "upsert", "scd2", "snapshot"]
    sequence: str | None = None
    column: str | None = None
    delete_column: str | None = None


class Warehouse(_Strict):
    """Where the table's rows lie in a warehouse of several nodes: by a column, `all` on each, `even`
    or `auto`; and the columns by which they are sorted, by default those of its layout or key."""

    distribution: str = "auto"
    sort: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        by = () if self.distribution in ("auto", "all", "even") else (self.distribution,)
        return (*by, *self.sort)


class Gates(_Strict):
    """Thresholds per partition. Fewer rows than min_rows or a quarantine rate beyond its bound
    publish nothing; the others warn. Rates are fractions of the rows read, ages are hours before
    the end of the partition, volume_change is relative to the mean of the partitions before,
    max_files is a mean per physical partition, null_drift is a difference of two shares."""

    min_rows: int = 1
    expected_rows: int = 1
    max_quarantine_rate: float = 0.05
    max_duplicate_rate: float = 0.05
    max_null_rate: float = 0.10
    max_age_hours: float = 24
    max_volume_change: float = 0.5
    max_files: float = 10
    max_null_drift: float = 0.05


LAYER_GATES = {
    "bronze": Gates(),
    "silver": Gates(
        expected_rows=100, max_quarantine_rate=0.10, max_duplicate_rate=0.01, max_null_rate=0.05
    ),
    "gold": Gates(
        expected_rows=100, max_quarantine_rate=0.01, max_duplicate_rate=0.0, max_null_rate=0.02
    ),
}


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    required: bool
    classification: str
    description: str
    sources: tuple[str, ...] = ()
    derived: bool = False
    not_personal: str = ""

    @property
    def pii(self) -> bool:
        return self.classification == "pii"

    @property
    def type_check(self) -> str:
        """The name of the check that its values have its type. A source may name a column as it
        likes, a check is named by letters, digits and underscores."""
        written = (c if c.isalnum() and c.isascii() else "_" if c.isascii() else f"u{ord(c):x}"
                   for c in self.name)  # fmt: skip
        return f"{''.join(written)}_type"

    @property
    def concealed(self) -> bool:
        """Whether its values are kept from whoever has no access to the table itself."""
        return self.classification not in SHOWN_CLASSES


@dataclass(frozen=True)
class Rule:
    """One row-level rule: rows that break an `error` rule leave, rows that break a `warn` stay.

    `max_failing` is the share of rows that may break the rule before the gate fails. `where` is its
    place in the contract, or that of the column from which it follows.
    """

    name: str
    severity: Literal["error", "warn"]
    spec: RuleSpec
    column: str | None = None
    max_failing: float | None = None
    where: Where = ()

    @property
    def kind(self) -> str:
        return self.spec.rule

    @property
    def about(self) -> str:
        """The column that it judges. Raises TypeError for a rule that is about the whole row."""
        if self.column is None:
            raise TypeError(f"rule {self.name} is about the whole row, and no column")
        return self.column


@dataclass(frozen=True)
class Contract:
    layer: str
    name: str
    version: str
    domain: str
    owner: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    rules: tuple[Rule, ...]
    publish: Publish
    partitioning: Literal["daily", "hourly"] | None
    inputs: tuple[Input, ...] = ()
    source: Source | None = None
    physical_partition: str = "_arrival_date"
    grain: Literal["row", "aggregate"] = "row"
    gates: Gates = field(default_factory=Gates)
    warehouse: Warehouse = field(default_factory=Warehouse)
    lookback_days: int = 30
    engine: Literal["sail", "spark"] | None = None
    runner: Literal["embedded", "process", "emr", "databricks"] | None = None
    sla: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    path: str = ""

    @property
    def table(self) -> str:
        return f"{self.layer}.{self.name}"

    @cached_property
    def column(self) -> Mapping[str, Column]:
        return {c.name: c for c in self.columns}

    @property
    def concealed(self) -> frozenset[str]:
        """The columns whose values are shown nowhere outside of the table. What a delivery has
        beyond its contract is one of them: nobody has said what it is."""
        return frozenset({"_rescued", *(c.name for c in self.columns if c.concealed)})

    @property
    def keyed(self) -> bool:
        """Whether rows are merged by key, which needs a content hash on each row."""
        return self.publish.mode in ("upsert", "scd2")

    @property
    def sequence(self) -> str:
        """The column that tells the newer of two records of a key. Raises TypeError for a table that
        merges no rows by key."""
        if not self.keyed or self.publish.sequence is None:
            raise TypeError(f"{self.table}: mode {self.publish.mode} has no sequence")
        return self.publish.sequence

    @property
    def delivered(self) -> Source:
        """Where a bronze table comes from. Raises TypeError for a table that reads others."""
        if self.source is None:
            raise TypeError(f"{self.table} is made of tables: nobody delivers it")
        return self.source

    def rules_of(self, kind: type[_Spec]) -> list[tuple[Rule, _Spec]]:
        """The rules of one kind, each with its parameters."""
        return [(r, r.spec) for r in self.rules if isinstance(r.spec, kind)]

    @property
    def drivers(self) -> tuple[Input, ...]:
        """The inputs whose rows a batch is made of: the first one, and others read by their changes."""
        return tuple(i for n, i in enumerate(self.inputs) if n == 0 or i.read == "changes")

    @property
    def looked_up(self) -> tuple[Input, ...]:
        """The other inputs."""
        return tuple(i for i in self.inputs if i not in self.drivers)

    @property
    def references(self) -> tuple[str, ...]:
        """Tables that reference rules read, without the declared inputs."""
        declared = {i.table for i in self.inputs}
        tables = {spec.table for _, spec in self.rules_of(Reference)}
        return tuple(sorted(tables - declared - {self.table}))

    def uses(self, lookup: Input) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """The columns of a lookup that this table's rows are made of, by their declared sources, and
        those that its `affects` compares. None where that is not declared: then any may count."""
        made_of = {s.rpartition(".")[2] for c in self.columns for s in c.sources
                   if s.rpartition(".")[0] == lookup.table}  # fmt: skip
        if not lookup.affects or not made_of:
            return None
        name = re.escape(lookup.table.partition(".")[2])
        compared = re.findall(rf"\b{name}\.`?(\w+)", lookup.affects)
        return tuple(sorted(made_of)), tuple(sorted(set(compared)))

    @property
    def lookups(self) -> tuple[str, ...]:
        """Tables whose rows a partition looks up or refers to, beside those that arrived in it. A
        table without partitions is made of whole tables, and looks nothing up."""
        if self.partitioning is None:
            return ()
        referred = [spec.table for _, spec in self.rules_of(Reference)]
        return tuple(dict.fromkeys((*(i.table for i in self.looked_up), *referred)))

    @property
    def upstream(self) -> tuple[str, ...]:
        return tuple(i.table for i in self.inputs) + self.references


def by_dataset(contracts: Mapping[str, Contract]) -> dict[str, list[Contract]]:
    """The datasets of landing, each with the contracts that read it. They say the same of its
    source."""
    out: dict[str, list[Contract]] = {}
    for contract in contracts.values():
        if contract.source is not None:
            out.setdefault(contract.source.dataset, []).append(contract)
    return out
