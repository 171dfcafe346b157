"""A continuous pipeline: every batch of a stream lands, and is published before the next is read.

Belongs here: the order of that, and the query of Spark. Does not belong here: the form of what lands
(landing.py), or what publishing does (run.py).

Spark notes which records a batch has before it hands the batch over, and that it is done when this
returns. A process that dies between gets the same records again under the same number. By then they
have landed or not: the file has the batch in its name. What landed is published by the runs that
everything else is published by, to which the same input is the same version of a table.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_jobs.contract.location import contracts_at
from spark_jobs.contract.model import Contract
from spark_jobs.errors import ContractError, EngineError, StorageError
from spark_jobs.lake.storage import Lake, Storage
from spark_jobs.run import run_table
from spark_jobs.streaming.landing import StreamLanding
from spark_jobs.streaming.spec import StreamSpec
from spark_jobs.window import Scheme

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

# The columns of Kinesis' source, which every source of a stream has.
RECORD = (
    "partitionKey string, data binary, stream string, shardId string, sequenceNumber string,"
    " approximateArrivalTimestamp timestamp"
)


@dataclass(frozen=True)
class _Session:
    """The session that a batch comes with: one of its own, of the same engine."""

    name: str
    spark: SparkSession


@dataclass(frozen=True)
class Pipeline:
    """What becomes of a batch; it can be sent to where a session runs it. Says in one line of JSON
    what became of each. Its contracts are those of its start."""

    spec: StreamSpec
    contracts: dict[str, Contract]
    dataset: str
    scheme: Scheme

    def __call__(self, batch: DataFrame, number: int) -> None:
        """Lands and publishes one batch. Raises what keeps it from either: it comes again.

        A window whose gate is closed is no error: its records have landed, the ledger says why, and
        its next batch, or whoever mends it, tries again.
        """
        spec, storage = self.spec, Storage(self.spec.storage_options)
        lake, session = Lake(spec.zones, storage), _Session(spec.engine, batch.sparkSession)
        incarnation = checkpoint_id(spec.checkpoint, storage)
        to = StreamLanding(lake, self.dataset, self.scheme, incarnation, spec.arrival)
        landed = to.write(batch, number)
        told: dict[str, Any] = {"stream": spec.name, "batch": number, "landed": landed}
        for table in (spec.table, *spec.then) if landed else ():
            wanted = spec.of(table, sorted(landed), number)
            report = run_table(wanted, session, self.contracts, lake)
            told[table] = report.counts.model_dump(exclude_defaults=True)
            if report.failed:
                told[table]["failed"] = {p.partition: p.error for p in report.failed}
        print(json.dumps(told), file=sys.stderr, flush=True)


def pipeline(spec: StreamSpec) -> Pipeline:
    """Raises ContractError if a table cannot be part of it."""
    with contracts_at(spec.contracts, spec.contracts_sha256, Storage(spec.storage_options)) as read:
        first = _contract(read, spec.table)
        if first.source is None or first.source.format != "json" or first.partitioning is None:
            raise ContractError(
                f"{first.path}: {spec.table} takes no stream: it needs a source of the format json,"
                " and partitioning"
            )
        for name in spec.then:
            if _contract(read, name).partitioning != first.partitioning:
                raise ContractError(
                    f"{read[name].path}: {name} is not {first.partitioning} as {spec.table} is, and"
                    " would wait for the end of its window: leave it to a schedule"
                )
        return Pipeline(spec, read, first.source.dataset, first.partitioning)


def run(spark: SparkSession, spec: StreamSpec) -> None:
    """Runs a pipeline until it has nothing more to do. Raises what ended it otherwise."""
    from pyspark.errors import StreamingQueryException

    query = start(spark, spec)
    try:
        query.awaitTermination()
    except StreamingQueryException as error:
        # What a batch raised is in its text, with the trace of a process that is not this one.
        said = " ".join(str(error).split())
        raise EngineError(
            f"stream {spec.name}, run {spec.run_id}: a batch could neither be read nor published:"
            f" {said[:2000]}. It comes again when the pipeline is started again; nothing is lost"
            " as long as the stream keeps it.",
            permanent=False,
        ) from error
    finally:
        query.stop()


def start(spark: SparkSession, spec: StreamSpec) -> StreamingQuery:
    """Starts a pipeline, which runs until it is stopped, or fails, or its source has no more."""
    reader = spark.readStream.format(spec.source.format).options(**spec.source.options)
    if spec.source.format != "kinesis":  # it knows its columns itself
        reader = reader.schema(RECORD)
    records = reader.load(spec.source.location) if spec.source.location else reader.load()
    writer = records.writeStream.foreachBatch(pipeline(spec)).queryName(spec.name)
    writer = writer.option("checkpointLocation", spec.checkpoint)
    if spec.every_seconds is None:
        return writer.trigger(availableNow=True).start()
    return writer.trigger(processingTime=f"{spec.every_seconds} seconds").start()


def checkpoint_id(checkpoint: str, storage: Storage) -> str:
    """What Spark calls the checkpoint, which it wrote before the first batch; one that is made
    anew in the same place has another."""
    fs, path = storage.filesystem(f"{checkpoint}/metadata")
    try:
        return str(json.loads(fs.open_input_stream(path).read())["id"])
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(
            f"{checkpoint}: cannot tell which checkpoint this is ({type(error).__name__}). Nothing"
            " of the batch has landed. If the folder is damaged, give the stream another name."
        ) from error


def _contract(contracts: dict[str, Contract], table: str) -> Contract:
    if table not in contracts:
        raise ContractError(f"no contract for table {table}; known: {', '.join(contracts)}")
    return contracts[table]
