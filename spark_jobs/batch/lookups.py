"""Which partitions of a table are stale because rows that they looked up have changed since.

Belongs here: comparing the versions of lookup and reference tables that a partition was computed
from with the present ones, and the record of that, the ledger's table `staleness`. Does not belong
here: running stale partitions (run.py), or what else makes one stale (its own input, its code).

A record says that a partition, as one batch made it, has been compared with a lookup up to a
version, and whether a row that it uses differs. It is bound to the batch and to versions, never to
clocks: a run that publishes while others compare is compared again, from the versions that it read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from spark_jobs.batch.inputs import Upstream, present, upstream
from spark_jobs.contract.model import Contract, Input
from spark_jobs.contract.rules import Reference
from spark_jobs.errors import ContractError, InputError
from spark_jobs.lake import delta, ledger, making
from spark_jobs.lake.row import PartitionState
from spark_jobs.lake.storage import Lake, Storage

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

STALENESS = pa.schema(
    [
        ("table", pa.string()),
        ("partition", pa.string()),
        ("batch_id", pa.string()),
        ("lookup", pa.string()),
        ("version", pa.string()),
        ("affected", pa.bool_()),
        ("detail", pa.string()),
    ]
)


class HasSession(Protocol):
    """An engine, or one that starts when it is asked for its session."""

    @property
    def name(self) -> str: ...

    @property
    def spark(self) -> SparkSession: ...


@dataclass(frozen=True)
class Version:
    """A version of a table; a table that was rebuilt in the same place has another `id`."""

    number: int
    id: str

    @classmethod
    def parse(cls, text: str) -> Version:
        number, _, id_ = text.partition("@")
        return cls(int(number), id_)

    def __str__(self) -> str:
        return f"{self.number}@{self.id}"

    def covers(self, other: Version) -> bool:
        return self.id == other.id and self.number >= other.number


def versions(contract: Contract, sources: Mapping[str, Upstream]) -> dict[str, str]:
    """The version of each table that `contract` looks up, as the ledger records it."""
    found = {name: sources[name].table for name in contract.lookups}
    return {name: str(Version(t.version(), str(t.metadata().id))) for name, t in found.items()}


def stale_partitions(
    contracts: Mapping[str, Contract],
    lake: Lake,
    newest: Iterable[PartitionState],
    engine: HasSession,
    tables: Iterable[str],
) -> dict[str, dict[str, str]]:
    """What made each stale partition stale, by table; `newest` are the states of partitions
    by their newest rows. The engine is asked for its session only if a lookup moved and was not compared
    since."""
    rows: dict[str, list[PartitionState]] = {}
    for row in newest:
        rows.setdefault(row.table, []).append(row)
    out = {}
    for name in tables:
        contract = contracts[name]
        if not contract.lookups or name not in rows:
            continue
        try:
            sources = upstream(contract, dict(contracts), lake)
        except InputError:  # its next run says what is missing
            continue
        if found := stale(contract, sources, lake, rows[name], engine):
            out[name] = found
    return out


def stale(
    contract: Contract,
    sources: Mapping[str, Upstream],
    lake: Lake,
    history: Iterable[PartitionState],
    engine: HasSession,
) -> dict[str, str]:
    """The stale partitions of one table with what made them stale, after comparing and recording
    what has not been compared yet."""
    now = {name: Version.parse(v) for name, v in versions(contract, sources).items()}
    behind = {}
    for p, row in _within(contract, history).items():
        used = {name: Version.parse(v) for name, v in row.looked_up.items()}
        if any(used.get(name) != now[name] for name in now):
            behind[p] = (row.batch_id, used)
    if not behind:
        return {}
    marks = _recorded(lake, contract.table, {batch for batch, _ in behind.values()})
    new: list[dict[str, Any]] = []
    for name, at in now.items():
        for since, partitions in _pending(behind, marks, name, at).items():
            found = _affected(contract, sources[name], since, at, lake, partitions, engine)
            for p in partitions:
                new.append(
                    {
                        "table": contract.table,
                        "partition": p,
                        "batch_id": behind[p][0],
                        "lookup": name,
                        "version": str(at),
                        "affected": p in found,
                        "detail": found.get(p, ""),
                    }
                )
    if new:
        _append(lake, contract.table, new)
    reasons: dict[str, dict[str, None]] = {}
    for mark in [*marks, *new]:
        p = mark["partition"]
        if mark["affected"] and p in behind and mark["batch_id"] == behind[p][0]:
            reasons.setdefault(p, {})[mark["detail"]] = None
    return {p: "; ".join(reasons[p]) for p in sorted(reasons)}


def _within(contract: Contract, history: Iterable[PartitionState]) -> dict[str, PartitionState]:
    """The newest record of each partition within the bound of the contract."""
    if not contract.lookups:
        return {}
    newest = {row.partition: row for row in history}
    done = [p for p, row in newest.items() if not row.failed] or list(newest)
    if not done:
        return {}
    last = date.fromisoformat(max(done)[:10])
    oldest = (last - timedelta(days=contract.lookback_days - 1)).isoformat()
    return {p: row for p, row in newest.items() if p[:10] >= oldest}


def _pending(
    behind: Mapping[str, tuple[str, Mapping[str, Version]]],
    marks: Iterable[Mapping[str, Any]],
    lookup: str,
    now: Version,
) -> dict[Version | None, list[str]]:
    """The partitions that have not been compared with a lookup up to `now`, by the version up to
    which they have; None where that is not known."""
    compared: dict[tuple[str, str], list[Version]] = {}
    for mark in marks:
        if mark["lookup"] == lookup:
            version = Version.parse(mark["version"])
            compared.setdefault((mark["partition"], mark["batch_id"]), []).append(version)
    out: dict[Version | None, list[str]] = {}
    for p, (batch, used) in behind.items():
        until = [*([used[lookup]] if lookup in used else []), *compared.get((p, batch), ())]
        if any(v.covers(now) for v in until):
            continue
        same = [v for v in until if v.id == now.id]
        since = max(same, key=lambda v: v.number) if same else next(iter(until), None)
        out.setdefault(since, []).append(p)
    return out


# -- what changed, and what it affects ---------------------------------------------------------


def _affected(
    contract: Contract,
    source: Upstream,
    since: Version | None,
    now: Version,
    lake: Lake,
    partitions: list[str],
    engine: HasSession,
) -> dict[str, str]:
    """Those of some partitions that use a row of a lookup which differs between two versions."""
    name = source.contract.table
    if since is None:
        return dict.fromkeys(partitions, f"no record of the version of {name} that it used")
    if since.id != now.id:
        return dict.fromkeys(partitions, f"{name} has been rebuilt")
    try:
        options = lake.storage.delta_options(source.uri)
        before = DeltaTable(source.uri, version=since.number, storage_options=options)
        old = {f.path: f for f in delta.active_files(before)}
    except (DeltaError, OSError, ValueError):
        old = None
    new = {f.path: f for f in delta.active_files(source.table)}
    gone = [] if old is None else [old[path] for path in old.keys() - new.keys()]
    if old is None or not _exist(source.uri, gone, lake.storage):
        text = f"{name}: version {since.number} cannot be read any more to see what has changed"
        return dict.fromkeys(partitions, text)
    differing = [*gone, *(new[path] for path in new.keys() - old.keys())]
    if not differing:
        return {}
    diff = _Difference(engine.spark, source, since.number, differing)
    return dict.fromkeys(_using(contract, diff, lake, partitions), f"{name} has changed")


def _exist(uri: str, files: Iterable[delta.ActiveFile], storage: Storage) -> bool:
    fs, root = storage.filesystem(uri)
    paths = [f"{root}/{unquote(f.path)}" for f in files]
    return all(i.type == pafs.FileType.File for i in fs.get_file_info(paths)) if paths else True


@dataclass(frozen=True)
class _Difference:
    """The rows of a lookup at two versions, of the physical partitions whose files differ."""

    spark: SparkSession
    source: Upstream
    since: int
    files: list[delta.ActiveFile]

    def rows(self, *columns: str) -> DataFrame:
        """The rows that only one of the versions has, or has more often: `_n` tells how much more
        often the older one. A row of which one of the `columns` changed has an old and a new form."""
        from pyspark.sql import functions as F

        before, after = self._rows(self.since, 1), self._rows(self.source.version, -1)
        both = before.unionByName(after)
        names = list(columns) or [n for n in both.columns if n != "_n"]
        return both.groupBy(*names).agg(F.sum("_n").alias("_n")).where("_n != 0")

    def keys(self, column: str) -> DataFrame:
        """The values of a referenced column that only one of the versions has."""
        from pyspark.sql import functions as F

        both = self._rows(self.since, 1).select(column, "_n").distinct()
        both = both.unionByName(self._rows(self.source.version, -1).select(column, "_n").distinct())
        return both.groupBy(column).agg(F.sum("_n").alias("_n")).where("_n != 0").drop("_n")

    def _rows(self, version: int, n: int) -> DataFrame:
        from pyspark.sql import functions as F

        rows, contract = self.source.rows(self.spark, version), self.source.contract
        by = contract.physical_partition
        if by != "none":
            days = sorted({f.partition[by] or "" for f in self.files})
            rows = rows.where(F.col(by).isin(*[F.lit(day).cast("date") for day in days]))
        deleted = contract.publish.delete_column
        if deleted and deleted in rows.columns:
            rows = rows.where(~F.coalesce(F.col(deleted), F.lit(False)))
        return rows.select(*_written(contract, rows), F.lit(n).alias("_n"))


def _written(contract: Contract, rows: DataFrame) -> list[Column]:
    """The contract's columns as far as the rows have them; arrays, which not every engine groups
    by, as text."""
    from pyspark.sql import functions as F

    out = []
    for c in contract.columns:
        if c.name not in rows.columns:
            out.append(F.lit(None).cast("string" if c.type.startswith("array") else c.type))
        elif c.type.startswith("array"):
            out.append(F.to_json(F.transform(F.col(c.name), lambda v: v.cast("string"))))
        else:
            out.append(F.col(c.name))
    return [column.alias(c.name) for column, c in zip(out, contract.columns, strict=True)]


def _using(contract: Contract, diff: _Difference, lake: Lake, partitions: list[str]) -> set[str]:
    """The partitions with a row, published, superseded or in quarantine, that uses a row that
    differs."""
    from pyspark.sql import functions as F

    name = diff.source.contract.table
    declared = [i for i in contract.looked_up if i.table == name]
    if any(i.affects is None for i in declared) and diff.rows().limit(1).toArrow().num_rows:
        return set(partitions)
    found: set[str] = set()
    rows = None
    for unit in _rows_of(diff.spark, contract, lake, partitions):
        rows = unit if rows is None else rows.unionByName(unit)
    if rows is None:
        return found
    hits = []
    hits += [_altered(contract, rows, diff, i) for i in declared if i.affects]
    for rule, spec in contract.rules_of(Reference):
        if spec.table == name:
            keys = diff.keys(spec.column).withColumnRenamed(spec.column, "_key")
            hits.append(rows.join(keys, F.col(rule.about) == F.col("_key"), "left_semi"))
    # A row that was kept before its values were may wait for anything.
    hits.append(rows.where("_unknown"))
    for hit in hits:
        found |= set(hit.select("_partition").distinct().toArrow().column(0).to_pylist())
    return found


def _altered(contract: Contract, rows: DataFrame, diff: _Difference, lookup: Input) -> DataFrame:
    """The rows for which the rows that they match of a lookup are others than before, in what they
    take from it: a version that merely ends later alters nothing before its end."""
    from pyspark.sql import functions as F

    theirs = diff.source.contract
    taken, compared = contract.uses(lookup) or (tuple(theirs.column), ())
    changed = diff.rows(*sorted({*taken, *compared})).alias(theirs.name)
    own = [*(contract.key or contract.column), "_partition"]
    matched = rows.alias(contract.name).join(changed, F.expr(str(lookup.affects)))
    names = [F.col(f"{contract.name}.`{n}`").alias(f"own_{n}") for n in own]
    names += [F.col(f"{theirs.name}.`{n}`").alias(f"taken_{n}") for n in taken]
    by = [f"own_{n}" for n in own] + [f"taken_{n}" for n in taken]
    sums = matched.select(*names, F.col(f"{theirs.name}._n").alias("_n"))
    sums = sums.groupBy(*by).agg(F.sum("_n").alias("_n")).where("_n != 0")
    return sums.select(F.col("own__partition").alias("_partition"))


def ensure_evaluable(contract: Contract, sources: Mapping[str, Upstream], rows: DataFrame) -> None:
    """Raises ContractError for an `affects` that the engine makes no sense of, before it is needed;
    `rows` have the table's columns."""
    for i in contract.looked_up:
        if i.affects:
            theirs = sources[i.table].rows(rows.sparkSession)
            names = [c.name for c in sources[i.table].contract.columns]
            theirs = theirs.select(*names).alias(sources[i.table].contract.name)
            names = [c.name for c in contract.columns]
            if contract.publish.mode != "scd2":  # which has its own two columns only once published
                ours = rows.select(*names).alias(contract.name)
                _matching(contract, ours, theirs, i.affects)


def _matching(contract: Contract, ours: DataFrame, theirs: DataFrame, affects: str) -> DataFrame:
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as F

    matching = ours.join(theirs, F.expr(affects), "left_semi")
    try:
        _ = matching.schema
    except PySparkException as error:
        raise ContractError(
            f"{contract.path}: affects cannot be evaluated: {affects}"
            f" ({str(error).splitlines()[0][:300]})"
        ) from error
    return matching


def _rows_of(
    spark: SparkSession, contract: Contract, lake: Lake, partitions: list[str]
) -> Iterable[DataFrame]:
    """Rows of some partitions as the transform computed them, with `_partition`, and `_unknown` if
    their values were not kept."""
    from pyspark.sql import functions as F

    places = [lake.table(contract.table)]
    if contract.keyed:
        places.append(lake.superseded(contract.table))
    for uri in places:
        rows = present(spark, uri, lake)
        if rows is not None:
            rows = rows.where(F.col("_partition").isin(*partitions))
            columns = _written(contract, rows)
            yield rows.select(*columns, "_partition", F.lit(False).alias("_unknown"))
    rows = present(spark, lake.quarantine(contract.table), lake)
    if rows is not None:
        rows = rows.where(F.col("partition").isin(*partitions))
        text = F.col("computed") if "computed" in rows.columns else F.lit(None).cast("string")
        named = F.from_json(text, ", ".join(f"`{c.name}` string" for c in contract.columns))
        columns = [
            (named[c.name] if c.type.startswith("array") else named[c.name].try_cast(c.type)).alias(
                c.name
            )
            for c in contract.columns
        ]
        partition = F.col("partition").alias("_partition")
        yield rows.select(*columns, partition, text.isNull().alias("_unknown"))


# -- the record --------------------------------------------------------------------------------


def _recorded(lake: Lake, table: str, batches: set[str]) -> list[dict[str, Any]]:
    found = delta.open_table(lake.ledger("staleness"), lake.storage)
    if found is None:
        return []
    where = (pc.field("table") == table) & pc.field("batch_id").isin(sorted(batches))
    rows: list[dict[str, Any]] = delta.read(found, lake.storage, where=where).to_pylist()
    return rows


def _append(lake: Lake, table: str, rows: list[dict[str, Any]]) -> None:
    uri = lake.ledger("staleness")
    added = pa.Table.from_pylist(rows, schema=STALENESS)
    ledger.compact(making.append(uri, added, lake.storage, partition_by=["table"]), table)
