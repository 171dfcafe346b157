"""Asks a quarantine for what a person wants to see, in memory that does not grow with records.

Belongs here: counts, the first rows, rows by id; columns are read in batches, whole rows only of
those that are shown. Does not belong here: keeping rows or deciding about them (quarantine.py).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from spark_jobs.batch import quarantine
from spark_jobs.errors import InputError
from spark_jobs.lake import delta
from spark_jobs.lake.storage import Lake

OPEN = "open"
# Small batches, few ahead: by default Arrow holds two million rows, however few of them are wanted.
_BOUNDED: dict[str, Any] = {"batch_size": 8192, "batch_readahead": 2, "fragment_readahead": 1}
_ORDER = [("partition", "ascending"), ("quarantine_id", "ascending")]


def counts(lake: Lake, table: str) -> dict[str, Counter[str]]:
    """How many quarantined rows of a table break each rule, by their latest decision."""
    kept = _kept(lake, table)
    decided = _latest(lake, table)
    found: dict[str, Counter[str]] = {}
    if kept is None:
        return found
    columns = ["rules", "quarantine_id"] if decided else ["rules"]
    for batch in kept.to_batches(columns=columns, **_BOUNDED):
        rules = pa.table({
            "row": pc.list_parent_indices(batch.column("rules")),
            "rule": pc.list_flatten(batch.column("rules")),
        })  # fmt: skip
        said = _decision_of(batch.column("quarantine_id"), decided) if decided else None
        rules = rules.append_column(
            "decision",
            said.take(rules.column("row"))
            if said is not None
            else pa.repeat(pa.scalar(OPEN), rules.num_rows),
        )
        for group in (
            rules.group_by(["rule", "decision"]).aggregate([([], "count_all")]).to_pylist()
        ):
            found.setdefault(group["rule"], Counter())[group["decision"]] += group["count_all"]
    return found


def first(lake: Lake, table: str, partition: str | None, limit: int) -> list[dict[str, Any]]:
    """The first `limit` rows by partition and id, with their latest decision."""
    kept = _kept(lake, table)
    if kept is None or limit < 1:
        return []
    chosen = pa.table({n: pa.array([], pa.string()) for n, _ in _ORDER})
    where = pc.field("partition") == partition if partition else None
    for batch in kept.to_batches(columns=[n for n, _ in _ORDER], filter=where, **_BOUNDED):
        both = pa.concat_tables([chosen, pa.Table.from_batches([batch])])
        chosen = both.take(pc.select_k_unstable(both, limit, sort_keys=_ORDER))
    return _rows(lake, table, kept, chosen.column("quarantine_id").combine_chunks())


def waiting(lake: Lake, table: str, partition: str | None = None) -> pa.Table:
    """Partition and id of the rows that nobody has decided about."""
    kept = _kept(lake, table)
    columns = [n for n, _ in _ORDER]
    if kept is None:
        return pa.table({n: pa.array([], pa.string()) for n in columns})
    where = pc.field("partition") == partition if partition else None
    found = kept.to_table(columns=columns, filter=where)
    said = _decision_of(found.column("quarantine_id"), _latest(lake, table))
    return found.filter(pc.equal(said, OPEN))


def still_kept(lake: Lake, table: str, ids: pa.ChunkedArray) -> int:
    """How many of these rows are in quarantine."""
    kept = _kept(lake, table)
    if kept is None:
        return 0
    held = kept.to_table(columns=["quarantine_id"]).column("quarantine_id")
    return int(pc.sum(pc.is_in(ids, value_set=held.combine_chunks())).as_py() or 0)


def by_beginning(lake: Lake, table: str, beginnings: tuple[str, ...]) -> list[dict[str, Any]]:
    """The row of each id or beginning of one; InputError for one of no row, or of several."""
    kept = _kept(lake, table)
    ids = []
    for beginning in beginnings:
        where = pc.starts_with(pc.field("quarantine_id"), beginning)
        found: list[str] = []
        if kept is not None:
            named = kept.to_table(columns=["quarantine_id"], filter=where)
            found = named.column("quarantine_id").to_pylist()
        if len(found) != 1:
            what = "no quarantined row" if not found else f"{len(found)} rows"
            raise InputError(f"{table}: {what} with an id that begins with {beginning}")
        ids += found
    return _rows(lake, table, kept, pa.array(ids, pa.string())) if kept is not None else []


def _kept(lake: Lake, table: str) -> pads.Dataset | None:
    found = delta.open_table(lake.quarantine(table), lake.storage)
    return None if found is None else delta.dataset(found, lake.storage)


def _rows(lake: Lake, table: str, kept: pads.Dataset, ids: pa.Array) -> list[dict[str, Any]]:
    """Whole rows. A data set would read a row group at once, which can be a whole quarantine."""
    wanted = pc.field("quarantine_id").isin(ids)
    found = [kept.schema.empty_table()]
    for part in kept.get_fragments():
        if part.count_rows(filter=wanted):
            with pq.ParquetFile(part.path, filesystem=part.filesystem) as file:
                batches = file.iter_batches(batch_size=_BOUNDED["batch_size"])
                found += [pa.table(batch).filter(wanted) for batch in batches]
    whole = pa.concat_tables(found, promote_options="permissive").select(kept.schema.names)
    said = _decision_of(whole.column("quarantine_id"), _latest(lake, table))
    return whole.append_column("decision", said).sort_by(_ORDER).to_pylist()


def _latest(lake: Lake, table: str) -> dict[str, pa.Array]:
    """The ids of the rows about which somebody has decided, by the latest decision."""
    made = quarantine.decision_log(lake, table, ["quarantine_id", "decision", "decided_at"])
    grouped = made.sort_by("decided_at").group_by("quarantine_id", use_threads=False)
    last = grouped.aggregate([("decision", "last")])
    return {
        decision: last.filter(pc.equal(last.column("decision_last"), decision))
        .column("quarantine_id")
        .combine_chunks()
        for decision in pc.unique(last.column("decision_last")).to_pylist()
    }


def _decision_of(
    ids: pa.Array | pa.ChunkedArray, decided: dict[str, pa.Array]
) -> pa.Array | pa.ChunkedArray:
    said: Any = pa.repeat(pa.scalar(OPEN), len(ids))
    for decision, of in decided.items():
        said = pc.if_else(pc.is_in(ids, value_set=of), decision, said)
    return said
