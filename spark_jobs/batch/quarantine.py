"""Keeps the rows that left a batch, and the decisions that people make about them.

Belongs here: the quarantine table of each table, the record of decisions, finding rows to replay.
Does not belong here: running a replay (run.py).

A quarantined row is never deleted by hand: a decision (`replayed` or `discarded`) is appended and
the row stays. Publishing its partition again replaces the partition's quarantined rows by those
that the current contract rejects; a run that publishes nothing only adds what it rejected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from spark_jobs.batch.audit import record_text
from spark_jobs.batch.folder import Folder
from spark_jobs.batch.inputs import TABLE, Whole
from spark_jobs.batch.publish import Target, commit, discard_leftovers, replace_slices
from spark_jobs.contract.model import Contract
from spark_jobs.lake import delta, making
from spark_jobs.lake.storage import Lake

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

COLUMNS = (
    ("quarantine_id", "string"),
    ("partition", "string"),
    ("rules", "array<string>"),
    ("record", "string"),
    ("computed", "string"),
    ("source_file", "string"),
    ("origin", "bigint"),
    ("run_id", "string"),
    ("batch_id", "string"),
    ("contract_version", "string"),
    ("quarantined_at", "timestamp"),
)
_SAMPLE = 10
# Where decisions were kept, in the ledger's zone; the next one that is made moves them.
_FORMERLY = "quarantine_decisions"
DECISIONS = pa.schema(
    [
        ("quarantine_id", pa.string()),
        ("table", pa.string()),
        ("partition", pa.string()),
        ("rules", pa.list_(pa.string())),
        ("record", pa.string()),
        ("decision", pa.string()),
        ("reason", pa.string()),
        ("decided_by", pa.string()),
        ("decided_at", pa.timestamp("us", "UTC")),
        ("run_id", pa.string()),
    ]
)


def write(
    spark: SparkSession,
    contract: Contract,
    lake: Lake,
    staged: Folder,
    partitions: list[str],
    metadata: dict[str, str],
    *,
    publishing: bool,
    whole: Sequence[Whole] = (),
    moved: DataFrame | None = None,
    touched: pa.Table | None = None,
    changed: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Keeps the rejected rows of `partitions` that are `staged`; returns a few.

    If the partitions are about to be published, these rows replace the ones kept before, and those
    that are no longer rejected leave with a decision; so do rows of other partitions whose record
    has `moved` to these, or that are of one of the slices (the first column of `touched`) which the
    batch computed anew. Otherwise what readers see stays as it was, and so does what had left it.
    `whole` are source rows and their key, by table, to complete records from that are staged as no
    more than the key. `changed` tells what made a partition stale, for the reason of a decision.

    A row's id is the hash of its table, partition, record and how many equal ones came before it,
    so that a repeated run gives the same ids and decisions stay attached.
    """
    rows = staged.frame(spark, "quarantine")
    to = _target(contract, lake, create=rows is not None)
    if to is None:
        return []
    folder = to.folder(staged.name)
    try:
        if rows is not None:
            for of_table in whole:
                rows = _completed(rows, of_table)
            rejected = _rejected(contract, rows, partitions, metadata)
            if not publishing and delta.active_files(to.table):
                held = to.rows(spark).select("quarantine_id")
                rejected = rejected.join(held, "quarantine_id", "left_anti")
            folder.write(rejected, "insert")
        if publishing:
            elsewhere = _computed_here(spark, contract, moved, touched)
            gave_way = _without(spark, to, folder, partitions, elsewhere)
            replaced = [*partitions, *gave_way]
            _decide_on_leaving(
                contract, lake, to, folder, replaced, metadata["run_id"], changed or {}
            )
            replace_slices(spark, to, folder, "partition", replaced, metadata)
        else:
            commit(to, folder, ["insert"], [], metadata)
    finally:
        discard_leftovers(to, folder)
    kept, shown = delta.dataset(to.table, lake.storage), [n for n in to.columns if n != "computed"]
    return kept.head(
        _SAMPLE, columns=shown, filter=pc.field("partition").isin(partitions)
    ).to_pylist()


def _target(contract: Contract, lake: Lake, *, create: bool) -> Target | None:
    location = lake.quarantine(contract.table)
    table = delta.open_table(location, lake.storage)
    if table is None:
        if not create:
            return None
        table = making.create_table(
            location,
            COLUMNS,
            (),
            name=f"quarantine.{contract.table}",
            description=f"Rows that left {contract.table}",
            storage=lake.storage,
        )
    making.add_columns(table, COLUMNS)
    names = tuple(n for n, _ in COLUMNS)
    return Target(location, table, names, (), lake.storage, frozenset({"record"}))


def _computed_here(
    spark: SparkSession, contract: Contract, moved: DataFrame | None, touched: pa.Table | None
) -> list[tuple[DataFrame, Column]]:
    """By what rows of other partitions are found that this batch has computed anew: values of one
    column each, and the same of a quarantined row."""
    from pyspark.sql import functions as F

    found = []
    if moved is not None:
        found.append((moved.select(F.col("_origin").alias("_here")), F.col("origin")))
    column = contract.publish.column
    if touched is not None and touched.num_rows and column:
        slices = touched.column(0).cast(delta.arrow_type(contract.column[column].type))
        values = spark.createDataFrame(pa.table({"_here": slices})).select(
            F.col("_here").cast("string")  # as record_text writes it
        )
        found.append((values, F.from_json("record", f"`{column}` string")[column]))
    return found


def _without(
    spark: SparkSession,
    to: Target,
    folder: Folder,
    partitions: list[str],
    here: list[tuple[DataFrame, Column]],
) -> list[str]:
    """The other partitions that hold rows which this batch has computed anew; their remaining rows are
    staged beside those of the batch."""
    from pyspark.sql import functions as F

    if not here or not delta.active_files(to.table):
        return []
    others = to.rows(spark).where(~F.col("partition").isin(*partitions))
    hits, rest = [], others
    for values, same in here:
        known = values.distinct()
        hits.append(others.join(known, same.eqNullSafe(F.col("_here")), "left_semi"))
        rest = rest.join(known, same.eqNullSafe(F.col("_here")), "left_anti")
    hit = reduce(lambda a, b: a.unionByName(b), hits).select("partition").distinct()
    gave_way: list[str] = hit.toArrow().column(0).to_pylist()
    if gave_way:
        to.write(rest.where(F.col("partition").isin(*gave_way)), folder, "insert")
    return gave_way


def _completed(rows: DataFrame, whole: Whole) -> DataFrame:
    """Staged rows with the whole source record in `_record`, of which they have the key."""
    from pyspark.sql import functions as F

    source, key, written = whole.rows, whole.key, {n: F.col(n) for n in whole.rows.columns}
    if whole.table is not None:
        source, key = source.withColumn(TABLE, F.lit(whole.table)), (*key, TABLE)
    named = F.from_json("_record", ", ".join(f"`{k}` string" for k in key))
    staged = ("_partition", "_violations", "_record", "_record_file", "_origin", "_computed")
    rows = rows.select(
        *[n for n in rows.columns if n in staged],
        *[named[k].alias(f"_of_{k}") for k in key],
    )
    on = [F.col(f"_of_{k}").eqNullSafe(F.col(k).cast("string")) for k in key]
    found = rows.join(source.withColumn("_found", F.lit(True)), on, "left")
    record = record_text(source.schema, written)
    return found.withColumn("_record", F.when(F.col("_found"), record).otherwise(F.col("_record")))


def _rejected(
    contract: Contract, rows: DataFrame, partitions: list[str], metadata: dict[str, str]
) -> DataFrame:
    """Staged rows as rows of the quarantine table."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    partition = F.col("_partition") if "_partition" in rows.columns else F.lit(partitions[0])
    origin = F.col("_origin") if "_origin" in rows.columns else F.lit(None)
    computed = F.col("_computed") if "_computed" in rows.columns else F.lit(None)
    same = Window.partitionBy("partition", "record").orderBy("record")
    rows = (
        rows.where(partition.isin(*partitions))
        .select(
            partition.alias("partition"),
            F.col("_violations").alias("rules"),
            F.col("_record").alias("record"),
            F.col("_record_file").alias("source_file"),
            computed.cast("string").alias("computed"),
            origin.cast("bigint").alias("origin"),
        )
        .withColumn("_nth", F.row_number().over(same).cast("string"))
    )
    identity = F.concat_ws("|", F.lit(contract.table), "partition", "record", "_nth")
    return rows.select(
        F.sha2(identity, 256).alias("quarantine_id"),
        "partition",
        "rules",
        "record",
        "computed",
        "source_file",
        "origin",
        F.lit(metadata["run_id"]).alias("run_id"),
        F.lit(metadata["batch_id"]).alias("batch_id"),
        F.lit(contract.version).alias("contract_version"),
        F.lit(datetime.now(UTC)).alias("quarantined_at"),
    )


def _decide_on_leaving(
    contract: Contract,
    lake: Lake,
    to: Target,
    folder: Folder,
    partitions: list[str],
    run_id: str,
    changed: Mapping[str, str],
) -> None:
    """Records a decision for each kept row that the staged ones no longer include.

    Before the rows leave, so that a crash in between loses none; a run that finds such a decision
    already made does not make it again. Ids alone are compared, whole rows are read only of those
    that leave: a quarantine can be as large as its table.
    """
    if not delta.active_files(to.table):
        return
    fs, root = to.storage.filesystem(folder.path)
    files = [f"{root}/{name}" for name in folder.files("insert")]
    still = pa.array([], pa.string())
    if files:
        import pyarrow.dataset as pads  # brings pandas

        now = pads.dataset(files, filesystem=fs, format="parquet")
        still = now.to_table(columns=["quarantine_id"]).column(0).combine_chunks()
    leaving = pc.field("partition").isin(partitions) & ~pc.field("quarantine_id").isin(still)
    rows = delta.read(to.table, to.storage, where=leaving).to_pylist()
    if not rows:
        return
    replayed = {
        d["quarantine_id"]: d["decided_at"]
        for d in decisions(lake, contract.table)
        if d["decision"] == "replayed"
    }
    undecided = [
        r for r in rows if not (at := replayed.get(r["quarantine_id"])) or at < r["quarantined_at"]
    ]
    by_reason: dict[str, list[dict[str, Any]]] = {}
    for row in undecided:
        since = f" since {changed[row['partition']]}" if row["partition"] in changed else ""
        reason = f"run again{since}, and no longer rejected by contract {contract.version}"
        by_reason.setdefault(reason, []).append(row)
    for reason, leaving_rows in by_reason.items():
        decide(
            lake,
            contract.table,
            leaving_rows,
            "replayed",
            reason=reason,
            by="platform",
            run_id=run_id,
        )


def rows(lake: Lake, table: str, partition: str | None = None) -> list[dict[str, Any]]:
    """The quarantined rows of a table with their latest decision (`open` if there is none)."""
    found = delta.open_table(lake.quarantine(table), lake.storage)
    if found is None:
        return []
    decided = {d["quarantine_id"]: d for d in decisions(lake, table)}
    out = []
    where = pc.field("partition") == partition if partition else None
    for row in delta.read(found, lake.storage, where=where).to_pylist():
        decision = decided.get(row["quarantine_id"])
        out.append({**row, "decision": decision["decision"] if decision else "open"})
    return sorted(out, key=lambda r: (r["partition"], r["quarantine_id"]))


def tables(lake: Lake) -> list[str]:
    """The tables that have a quarantine."""
    root = lake.zones["quarantine"]
    return [
        f"{layer}.{name}"
        for layer in lake.storage.folders(root)
        for name in lake.storage.folders(f"{root}/{layer}")
        if layer in ("bronze", "silver", "gold")
    ]


def decisions(lake: Lake, table: str) -> list[dict[str, Any]]:
    """Every decision ever made on rows of a table, oldest first."""
    return decision_log(lake, table).sort_by("decided_at").to_pylist()


def decision_log(lake: Lake, table: str, columns: list[str] | None = None) -> pa.Table:
    """The decisions on rows of a table, in any order; all columns, or some."""
    found = [pa.schema([DECISIONS.field(c) for c in columns or DECISIONS.names]).empty_table()]
    for location in (lake.decisions, lake.ledger(_FORMERLY)):
        made = delta.open_table(location, lake.storage)
        if made is not None:
            ours, names = pc.field("table") == table, found[0].column_names
            rows = delta.read(made, lake.storage, where=ours, columns=names)
            found.append(rows.cast(found[0].schema))
    return pa.concat_tables(found)


def decide(
    lake: Lake,
    table: str,
    rows: list[dict[str, Any]],
    decision: Literal["replayed", "discarded"],
    *,
    reason: str,
    by: str,
    run_id: str,
) -> None:
    """Appends one decision for each quarantined row, with the row itself, so that nothing is lost
    when the row leaves the quarantine."""
    if not rows:
        return
    now = datetime.now(UTC)
    records = [
        {
            "quarantine_id": row["quarantine_id"],
            "table": table,
            "partition": row["partition"],
            "rules": row["rules"],
            "record": row["record"],
            "decision": decision,
            "reason": reason,
            "decided_by": by,
            "decided_at": now,
            "run_id": run_id,
        }
        for row in rows
    ]
    made = pa.Table.from_pylist(records, schema=DECISIONS)
    former = delta.open_table(lake.ledger(_FORMERLY), lake.storage)
    if former is not None:
        made = pa.concat_tables([delta.read(former, lake.storage).cast(DECISIONS), made])
    # Bounds of `record` in the log would be values of rows.
    bounds = {"delta.dataSkippingStatsColumns": "table,partition,decided_at"}
    making.append(lake.decisions, made, lake.storage, configuration=bounds)
    if former is not None:
        lake.storage.remove(lake.ledger(_FORMERLY))
