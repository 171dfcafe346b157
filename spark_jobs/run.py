"""Runs one table for a range of partitions: read, transform, audit, gate, publish, report.

Belongs here: the order of the steps and what a failure of each means. Does not belong here: any
of the steps.
"""

from __future__ import annotations

import importlib
import itertools
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import tenacity

from spark_jobs import quoting, window
from spark_jobs.batch import (
    audit,
    gate,
    inputs,
    landing,
    lookups,
    publish,
    quarantine,
    resolution,
    superseded,
)
from spark_jobs.batch.arrivals import Arrivals
from spark_jobs.contract import compatibility
from spark_jobs.contract.location import contracts_at
from spark_jobs.contract.model import Contract, place
from spark_jobs.contract.rules import Reference
from spark_jobs.contract.validity import HISTORY_COLUMNS
from spark_jobs.contract.versions import transform_version
from spark_jobs.errors import (
    ConflictError,
    ContractError,
    EngineError,
    InputError,
    LakehouseError,
    SchemaError,
    happened_in,
)
from spark_jobs.lake import delta, ledger, storage
from spark_jobs.lake.row import LedgerRow, newest_batches, rows_of
from spark_jobs.report import Check, Counts, PartitionReport, RunSpec, TableReport
from spark_jobs.window import WHOLE

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.errors import PySparkException
    from pyspark.sql import Column, DataFrame

_OPTIONAL = ("_input", "_arrival_date", "_filtered", "_rows")
_ATTEMPTS = 6
# The steps in which plans, analysed before, meet rows.
_EVALUATING = ("audit", "count")
_COLUMNS_TRIED = 100


def _module(contract: Contract) -> Any:
    """The module of the table's transform; None for bronze, which is delivered as is."""
    name = f"spark_jobs.tables.{contract.layer}.{contract.name}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if contract.layer != "bronze" or error.name is None or not name.startswith(error.name):
            raise
        return None


def run_table(
    spec: RunSpec,
    engine: lookups.HasSession,
    contracts: dict[str, Contract] | None = None,
    lake: storage.Lake | None = None,
) -> TableReport:
    """Runs one table. A partition that fails comes back as failed, with its reason; nothing of it
    is published, and the others are. `lake` is that of the specification if it is not given.

    Raises a LakehouseError if the table as a whole cannot run: an invalid contract, a transform
    with wrong columns, an input that does not exist, a lake that cannot be written, or a commit
    that conflicted with others again and again.
    """
    if contracts is None:
        with contracts_at(spec.contracts, spec.contracts_sha256) as found:
            return run_table(spec, engine, found, lake)
    if spec.table not in contracts:
        known = ", ".join(contracts)
        raise ContractError(f"{spec.contracts}: no contract for table {spec.table}; known: {known}")
    contract = contracts[spec.table]
    partitions = _partitions(contract, spec.partitions)
    lake = lake or storage.Lake(spec.zones, spec.storage_options)
    for zone in (contract.layer, "quarantine", "ledger"):
        storage.ensure_writable(lake.zones[zone])
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(ConflictError),
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=5),
        reraise=True,
    ):
        with attempt:
            run = _Run(spec, engine, contracts, contract, lake, partitions)
            try:
                return run.report()
            except Exception as error:
                happened_in(error, run.step)
                raise
    raise AssertionError("unreachable: tenacity re-raises")


def _partitions(contract: Contract, wanted: list[str]) -> list[str]:
    if contract.partitioning is None:
        return [WHOLE]
    if not wanted:
        raise InputError(f"{contract.table}: no partitions given; it is {contract.partitioning}")
    for partition in wanted:
        try:
            valid = window.Window.of(partition).scheme == contract.partitioning
        except ValueError:
            valid = False
        if not valid:
            example = datetime(2026, 10, 5, 13, tzinfo=UTC)
            raise InputError(
                f"{contract.table}: partition {partition!r} does not exist; {contract.partitioning}"
                " partitions look like"
                f" {example.strftime(window.FORMATS[contract.partitioning])}"
            )
    return sorted(set(wanted))


@dataclass
class _Run:
    spec: RunSpec
    engine: lookups.HasSession
    contracts: dict[str, Contract]
    contract: Contract
    lake: storage.Lake
    partitions: list[str]
    batch_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started_at: datetime = field(default_factory=ledger.now)
    seconds: dict[str, float] = field(default_factory=dict)
    done: dict[str, PartitionReport] = field(default_factory=dict)
    step: str = "plan"
    fingerprints: dict[str, str] = field(default_factory=dict)
    deliveries: dict[str, landing.Delivery] = field(default_factory=dict)
    may_be_empty: set[str] = field(default_factory=set)
    # What made partitions stale although their own input and code are the same.
    stale: dict[str, str] = field(default_factory=dict)
    arrived: Arrivals = field(default_factory=Arrivals)
    touched: pa.Table | None = None
    # The records that are in this batch's partitions now and may have been in others before.
    moved: DataFrame | None = None
    sample: list[dict[str, Any]] = field(default_factory=list)

    def report(self) -> TableReport:
        contract, lake = self.contract, self.lake
        with self._timed("plan"):
            self.version = transform_version(contract)
            self.upstream = inputs.upstream(contract, self.contracts, lake)
            self.history = self._history()
            # The code that made the newest record made a promise that has been recorded.
            self.known = bool(self.history) and (self.history[-1].transform_version == self.version)
            if not self.known:
                compatibility.ensure_compatible(
                    compatibility.published(lake).get(contract.table), contract
                )
            self.stale = lookups.stale(contract, self.upstream, lake, self.history, self.engine)
            todo = self._plan()
        result, target = publish.Published(), None
        while todo:
            from pyspark.errors import PySparkException  # not where there is nothing to do

            if target is None:
                with self._timed("plan"):
                    uri, options = lake.table(contract.table), dict(lake.storage_options)
                    target = publish.target(contract, uri, options)
            folder = f"batch={self.batch_id}"
            try:
                staged = self._stage(target, folder, todo)
                closed = self._judge(staged, todo)
                with self._timed("quarantine"):
                    self._quarantine(target, staged, closed or todo, publishing=not closed)
                if not closed:
                    with self._timed("publish"):
                        before = delta.active_files(target.table)
                        result = self._publish(target, folder, staged, todo)
                        self._check_files(target, folder, before, todo)
            except OSError as error:
                raise storage.describe(error, target.uri) from error
            except PySparkException as error:
                closed = self._fail_evaluating(error, target, folder, todo)
                if not closed:
                    # Without its cause, whose text would go wherever errors are written.
                    raise self._explained(error, target.uri, todo) from None
            finally:
                publish.discard_leftovers(target, folder)
            todo = [p for p in todo if p not in closed] if closed else []
            if todo:  # the others are published without them, as a batch of their own
                self.batch_id = uuid.uuid4().hex
        report = self._table_report(target, result)
        if any(p.status != "unchanged" for p in report.partitions):
            with self._timed("ledger"):
                ledger.append(lake, rows_of(report, self.started_at))
        return report

    def _history(self) -> list[LedgerRow]:
        """What the ledger says of this table. A run that died between its data commit and its
        ledger row is recorded first: the commit carries the row."""
        lake, name = self.lake, self.contract.table
        self.existing = delta.open_table(lake.table(name), dict(lake.storage_options))
        history = ledger.history(lake, name)
        missing = ledger.unrecorded(self.existing, history) if self.existing else []
        if not missing:
            return history
        ledger.append(lake, missing)
        return ledger.history(lake, name)

    def _fail_evaluating(
        self, error: PySparkException, to: publish.Target, folder: str, todo: list[str]
    ) -> list[str]:
        """Fails the partitions with rows on which an expression fails, and returns them: the others
        can still be published. None if it was something else that failed."""
        from spark_jobs.batch import faults

        what = faults.evaluation(error)
        if what is None or self.step not in _EVALUATING:
            return []

        def attempt(some: list[str]) -> None:
            publish.discard_leftovers(to, folder)
            self._stage(to, folder, some)

        found = faults.isolated(attempt, todo, what)
        code, where = self._at_fault(next(iter(found)))
        for p, why in found.items():
            self._fail(
                p,
                f"{code}{self.contract.table} {p}: {why}{where}, on the {self.engine.name} engine."
                " Use try_cast, or another expression that gives null for what it cannot take, and"
                " let a rule judge that. Nothing of the partition was published.",
            )
        return list(found)

    def _at_fault(self, partition: str) -> tuple[str, str]:
        """What fails on a partition's rows, as the place of its code and the columns that it is
        about: columns of the transform that fail by themselves, or else rules. Where all columns do
        what fails is common to them."""
        from pyspark.sql import functions as F

        from spark_jobs.batch.rules import broken, row_rules

        contract, module = self.contract, _module(self.contract)
        frame = self._transformed(self._read([partition])[0])
        names = [c.name for c in contract.columns if c.name in frame.columns][:_COLUMNS_TRIED]
        columns = [n for n in names if _fails(frame, F.col(f"`{n}`"))]
        if not columns:
            by_row = (r for r in row_rules(contract) if r.kind != "reference")
            rule = next((r for r in by_row if _fails(frame, broken(r))), None)
            if rule is not None:
                code = f"{place(contract, rule.where)}: rule {rule.name}: "
                return code, f" in column {quoting.name(rule.column)}" if rule.column else ""
        code = f"{module.__name__.replace('.', '/')}.py: transform: " if module else ""
        some = 0 < len(columns) < len(names)
        return code, f" in column {quoting.names(columns)}" if some else ""

    def _explained(self, error: Exception, uri: str, todo: list[str]) -> LakehouseError:
        """What a person should read about an exception of the engine."""
        from pyspark.errors import AnalysisException, IllegalArgumentException, PythonException

        known = storage.recognized(error, uri)
        if known is not None:
            return known
        code = f"spark_jobs/tables/{self.contract.layer}/{self.contract.name}.py: "
        said = " ".join(str(error).split())[:500]
        if self.step in (*_EVALUATING, "quarantine", "publish"):  # it may quote values of rows
            said = f"{type(error).__name__}; its message may hold values and is not repeated"
        return EngineError(
            f"{code if self.step == 'transform' else ''}{self.contract.table} {_span(todo)}, run"
            f" {self.spec.run_id}: the {self.engine.name} engine failed in step {self.step}:"
            f" {said}. Nothing of it was published.",
            permanent=isinstance(
                error, (AnalysisException, IllegalArgumentException, PythonException)
            ),
        )

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start, self.step = time.perf_counter(), step
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0) + time.perf_counter() - start

    # -- plan: what has to be done at all ------------------------------------------------------

    def _plan(self) -> list[str]:
        """The partitions whose input, code or looked-up rows changed since they last succeeded;
        settles the others."""
        newest = {row.partition: row for row in self.history}
        if self.contract.source:
            found = landing.deliveries(self.contract, self.lake, self.partitions)
            self.deliveries = {d.partition: d for d in found}
        else:
            self._plan_upstream()
        todo = []
        for p in self.partitions:
            delivered = self.deliveries[p].fingerprint if p in self.deliveries else ()
            self.fingerprints[p] = self.arrived.fingerprint(
                self.contracts, self.upstream, self.version, p, delivered
            )
            last = newest.get(p)
            fresh = last is not None and not last.failed
            same = fresh and last.fingerprint == self.fingerprints[p] and p not in self.stale
            if same and self.existing and not self.spec.force:
                counts = Counts(read=last.read, unchanged=last.read)
                self._settle(p, "unchanged", counts=counts)
            elif p not in self.done:
                todo.append(p)
        landing.inspect(self.contract, [self.deliveries[p] for p in todo if p in self.deliveries])
        for p in list(todo):
            delivery = self.deliveries.get(p)
            if delivery is None:
                continue
            if delivery.error:
                self._fail(p, delivery.error)
                todo.remove(p)
            elif not delivery.files:
                self.may_be_empty.add(p)
        return todo

    def _plan_upstream(self) -> None:
        """A partition can only run if its driving input's partition has been published; it may be
        empty only if that one was."""
        self.arrived = Arrivals.of(ledger.of_tables(self.lake, list(self.upstream)))
        if not self.contract.inputs or self.contract.partitioning is None:
            return
        source = self.contract.inputs[0].table
        states = self.arrived.newest.get(source, {})
        for p in self.partitions:
            due = window.inside(p, self.contracts[source].partitioning)
            missing = [w for w in due if w not in states]
            if missing:
                names, of = window.named(missing), f" ({len(missing)} of {len(due)})"
                self._fail(
                    p,
                    f"its input {source} has no published partition"
                    f" {names}{of if len(due) > 1 else ''}. Materialize"
                    f" {source} for {names} first, or mend what failed there.",
                )
            elif (
                all(states[w].status == "empty" for w in due) or self.contract.grain == "aggregate"
            ):
                self.may_be_empty.add(p)

    # -- read, transform, audit ----------------------------------------------------------------

    def _stage(self, to: publish.Target, folder: str, todo: list[str]) -> audit.Staged:
        from pyspark.sql import functions as F

        contract, spark = self.contract, self.engine.spark
        with self._timed("read"):
            frame, read = self._read(todo)
        driving = frame
        with self._timed("transform"):
            frame = self._transformed(frame)
            given = set(frame.columns)
            if contract.partitioning is not None and "_arrival_date" not in given:
                day = F.to_date(F.substring("_partition", 1, 10))
                frame = frame.withColumn("_arrival_date", day)
            frame = frame.withColumn("_batch_id", F.lit(self.batch_id))
            frame = self._with_origin(frame, has_input="_input" in given)
            # Asked once: the engine works through the whole plan for each frame that is asked.
            types = frame.schema
        with self._timed("audit"):
            repeated = resolution.repeated_keys(contract, frame) if contract.keyed else None
            references = {
                rule.name: inputs.reference_keys(spark, self.upstream[refers.table], refers.column)
                for rule, refers in contract.rules_of(Reference)
            }
            lookups.ensure_evaluable(contract, self.upstream, frame)
            frame = audit.audited(contract, frame, types, references)
            has_rows = bool(to.table.get_add_actions().num_rows)
            table = self._standing(to, todo) if contract.keyed and has_rows else None
            frame = audit.classified(contract, frame, types, repeated, table)
            alike = bool(repeated) and self._are_told_by_some_columns()
            names = types.fieldNames()
            if alike:
                frame, names = self._with_whole(frame), [*names, "_whole"]
            columns = audit.staged_columns(contract, names, compared=table is not None)
            audit.stage(contract, frame, columns, to.uri, folder)
        with self._timed("count"):
            others = table.others if table else to.rows(spark) if has_rows else None
            staged = audit.count(spark, contract, columns, to.uri, folder, todo, others)
            if table is not None and table.has_former:
                audit.stage_leaving(contract, table, staged, to.uri, todo)
        if read is None:
            read = {p: (staged.counts[p].accounted, None) for p in todo}
        if contract.source and contract.source.format != "parquet":
            read = {p: (n, None) for p, n in staged.records.items()}
        self._read_counts = {p: n for p, (n, _) in read.items()}
        self._altered = {
            p for p, (_, of) in read.items() if of is not None and of != staged.origins.get(p, 0)
        }
        if alike and driving is not None:
            with self._timed("count"):
                rows = audit.staged_rows(spark, contract, columns, to.uri, folder, todo)
                if rows is not None:
                    read_rows = self._with_origin(driving, has_input=True)
                    self._altered |= inputs.doubled(read_rows, self._whole(), rows)
        return staged

    def _are_told_by_some_columns(self) -> bool:
        """Whether `_origin` may be the same for records that differ: see inputs.identity."""
        if not self.contract.inputs or self.contract.grain != "row":
            return False
        source = self.upstream[self.contract.inputs[0].table].contract
        return not source.keyed and inputs.identity(self.contract, source) is not None

    def _with_whole(self, frame: DataFrame) -> DataFrame:
        """Adds `_whole`, the hash of the whole record, to rows that share their key with another or
        have none."""
        from functools import reduce

        from pyspark.sql import functions as F

        no_key = reduce(lambda a, b: a | b, [F.col(k).isNull() for k in self.contract.key])
        shared = F.when(F.col("_contested") | no_key, self._whole())
        return frame.withColumn("_whole", shared)

    def _whole(self) -> Column:
        """The hash of all that a driving record holds."""
        source = self.upstream[self.contract.inputs[0].table]
        return inputs.origin(inputs.record_types(self.contract, source), None)

    def _with_origin(self, frame: DataFrame, *, has_input: bool) -> DataFrame:
        """Adds `_origin`, by which a row is known to be of one record: see inputs.origin."""
        from pyspark.sql import functions as F

        if has_input:
            source = self.upstream[self.contract.inputs[0].table]
            identity = inputs.identity(self.contract, source.contract)
            record = inputs.record_types(self.contract, source)
            return frame.withColumn("_origin", inputs.origin(record, identity))
        if self.contract.keyed and self.contract.inputs:
            return frame.withColumn("_origin", F.lit(None).cast("bigint"))
        return frame

    def _standing(self, to: publish.Target, todo: list[str]) -> resolution.Standing:
        """What the table holds against this batch."""
        contract, spark = self.contract, self.engine.spark
        again = tuple(p for p in todo if p in self.newest)
        former = resolution.Former(again, self.moved)
        lost = None
        if former and contract.partitioning is not None:
            source = inputs.keyed_source(contract, self.upstream)
            present = inputs.origins(spark, contract, source) if source else None
            lost = superseded.records(spark, contract, self.lake, self.newest, present)
        return resolution.standing(contract, to.rows(spark), former, lost)

    @property
    def newest(self) -> dict[str, str]:
        """The newest published batch of each partition."""
        return newest_batches(self.history)

    def _have_moved(self, todo: list[str]) -> bool:
        """Whether records of the driving table have come to these partitions from others."""
        source = self.contracts[self.contract.inputs[0].table]
        return any(
            self.arrived.revivals.get((source.table, key))
            or any(
                b.updated or b.deleted for b in self.arrived.batches.get((source.table, key), ())
            )
            for p in todo
            for key in window.inside(p, source.partitioning)
        )

    def _read(
        self, todo: list[str]
    ) -> tuple[DataFrame | None, dict[str, tuple[int, int | None]] | None]:
        """The driving rows, and how many there are according to their source, with the sum of their
        origins: file footers for Parquet, the upstream table for Delta. Text files count themselves
        while being parsed."""
        spark, contract = self.engine.spark, self.contract
        if contract.source:
            due = [self.deliveries[p] for p in todo]
            return landing.read(spark, contract, due), {d.partition: (d.records, None) for d in due}
        if not contract.inputs:
            return None, None
        first = contract.inputs[0]
        source = self.upstream[first.table]
        if first.by:
            replaced = ledger.versions(source.table, self._replacing(todo))
            made = inputs.present(spark, self.lake.table(contract.table), self.lake)
            column = contract.publish.column or first.by
            made = made.select(column) if made is not None and column in made.columns else None
            self.touched = inputs.slices(spark, source, first.by, todo, replaced, made)
        frame = inputs.driving(spark, contract, source, todo, self.touched)
        keyed = inputs.keyed_source(contract, self.upstream)
        if keyed is not None and self._have_moved(todo):
            self.moved = inputs.origins(spark, contract, keyed, todo)
        else:
            self.moved = None
        has_input = contract.grain == "row" and self.touched is None
        counted = self._with_origin(frame, has_input=True) if has_input else frame
        return frame, inputs.rows_by_partition(counted, has_origin=has_input)

    def _replacing(self, todo: list[str]) -> list[LedgerRow]:
        """The batches of the driving table that replaced rows since these partitions were last
        computed: what stood there before has to be looked at too."""
        source = self.upstream[self.contract.inputs[0].table].contract
        computed = {row.partition: row for row in self.history if not row.failed}
        if not computed:  # there is nothing yet that could be out of date
            return []
        out = []
        for p in todo:
            last = computed.get(p)
            inside = window.inside(p, source.partitioning)
            arrived = (
                enumerate(self.arrived.batches.get((source.table, key), ())) for key in inside
            )
            for nth, batch in itertools.chain.from_iterable(arrived):
                gone = batch.withdrawn or batch.revived
                replaced = gone or batch.updated or batch.deleted if source.keyed else nth
                if replaced and not (last and last.started_at > batch.done_at):
                    out.append(batch)
        return out

    def _transformed(self, frame: DataFrame | None) -> DataFrame:
        from pyspark.sql import functions as F

        contract, spark = self.contract, self.engine.spark
        module = _module(contract)
        if frame is None:
            frame = module.transform(spark).withColumn("_partition", F.lit(WHOLE))
        elif module is not None:
            first, *others = contract.inputs
            arguments = {first.table.partition(".")[2]: frame}
            for other in others:
                name = other.table.partition(".")[2]
                used = contract.uses(other)
                # A column that is not declared would change unnoticed, so it is not there to be used.
                columns = None if used is None else {*used[0], *used[1]}
                arguments[name] = inputs.lookup(spark, self.upstream[other.table], columns)
            frame = module.transform(**arguments)
        if contract.layer == "bronze":
            return frame.withColumn("_source_system", F.lit(contract.delivered.system)).withColumn(
                "_run_ts", F.lit(self.started_at)
            )
        self._check_columns(frame)
        return frame

    def _check_columns(self, frame: DataFrame) -> None:
        contract = self.contract
        made = contract.columns
        if contract.publish.mode == "scd2":
            made = tuple(c for c in made if c.name not in HISTORY_COLUMNS)
        wanted = {c.name: c.type for c in made} | {"_partition": "string"}
        if contract.grain == "row" and contract.inputs:
            wanted["_input"] = ""
        found = dict(frame.dtypes)
        optional = {n for n in _OPTIONAL if n in found}
        missing, extra = wanted.keys() - found.keys(), found.keys() - wanted.keys() - optional
        wrong = [
            f"{n} is {found[n]}, the contract says {t}"
            for n, t in wanted.items()
            if t and n in found and found[n] != t
        ]
        problems = [f"missing: {', '.join(sorted(missing))}"] if missing else []
        problems += [f"not in the contract: {', '.join(sorted(extra))}"] if extra else []
        problems += [f"of another type: {'; '.join(wrong)}"] if wrong else []
        if problems:
            raise SchemaError(
                f"spark_jobs/tables/{contract.layer}/{contract.name}.py: transform returns columns"
                f" that differ from {contract.path} ({'; '.join(problems)}). Change the function or"
                " the contract; nothing was published."
            )

    # -- gate ----------------------------------------------------------------------------------

    def _judge(self, staged: audit.Staged, todo: list[str]) -> list[str]:
        """Settles the partitions whose gate is closed, and returns them. They are judged oldest
        first, each against those before it that pass."""
        closed: list[str] = []
        verdicts: dict[str, tuple[Counts, list[Check]]] = {}
        reads = [(row.partition, row.read) for row in self.history]
        reads += [(p, self._read_counts.get(p, 0)) for p in todo]
        for p in todo:
            counts = staged.counts[p].model_copy(update={"read": self._read_counts.get(p, 0)})
            delivery = self.deliveries.get(p)
            drift = sorted(
                {*(audit.drift_text(delivery.drift) if delivery else ()), *staged.drift.get(p, ())}
            )
            passed = verdicts.keys() - set(closed)
            broken = {c.rule: c.broken(p, passed) for c in staged.clashes}
            staged.failing[p].update(broken)
            found = gate.checks(
                self.contract,
                p,
                staged,
                counts,
                rows_due=p not in self.may_be_empty,
                earlier=ledger.earlier_reads(reads, p),
                drift=drift,
                altered=p in self._altered,
            )
            verdicts[p] = (counts, found)
            shut = [c for c in found if c.blocking and not c.passed]
            error = staged.file_errors.get(p) or "; ".join(map(_reason, shut))
            if shut and counts.read == 0 and p in self.deliveries and p not in staged.file_errors:
                files = ", ".join(f"{f.uri} ({f.size} bytes)" for f in self.deliveries[p].files)
                error = f"{error}. Delivered: {files or 'nothing'}"
            if error:
                closed.append(p)
                nothing = ("inserted", "updated", "deleted", "added", "withdrawn", "revived")
                unpublished = counts.model_copy(update=dict.fromkeys(nothing, 0))
                self._fail(p, error, counts=unpublished, checks=found)
        if not closed:
            for p, (counts, found) in verdicts.items():
                empty = counts.read == counts.filtered and p in self.may_be_empty
                self._settle(
                    p,
                    "empty" if empty else "published",
                    counts=counts,
                    checks=found,
                    revived_in=sorted(staged.revived_in.get(p, ())),
                )
        return closed

    # -- publish -------------------------------------------------------------------------------

    def _metadata(self, partitions: list[str]) -> dict[str, str]:
        return {
            "run_id": self.spec.run_id,
            "batch_id": self.batch_id,
            "partitions": _span(partitions),
            "contract_version": self.contract.version,
            "transform_version": self.version,
        }

    def _quarantine(
        self, to: publish.Target, staged: audit.Staged, partitions: list[str], *, publishing: bool
    ) -> None:
        """Keeps the rows that left before anything of the batch is visible."""
        contract, spark, whole = self.contract, self.engine.spark, None
        if contract.inputs and any(staged.counts[p].quarantined for p in partitions):
            source = self.upstream[contract.inputs[0].table]
            whole = inputs.whole_records(spark, contract, source, partitions)
        self.sample += quarantine.write(
            spark,
            contract,
            self.lake,
            (to.uri, staged.folder),
            partitions,
            self._metadata(partitions),
            publishing=publishing,
            whole=whole,
            moved=self.moved,
            changed=self.stale,
        )

    def _publish(
        self, to: publish.Target, folder: str, staged: audit.Staged, todo: list[str]
    ) -> publish.Published:
        if not self.known:
            compatibility.record(self.lake, self.contract)
        counts = sum((staged.counts[p] for p in todo), Counts())
        rows = rows_of(self._table_report(to, publish.Published()), self.started_at)
        metadata = self._metadata(todo) | {ledger.CARRIED: ledger.carried(rows)}
        slices = [] if self.touched is None else self.touched.column(0).to_pylist()
        if self.contract.keyed:
            superseded.keep(
                self.engine.spark,
                self.contract,
                self.lake,
                to,
                folder,
                self.newest,
                metadata,
                displaces=self.contract.partitioning is not None and bool(staged.displaced),
            )
        return publish.publish(
            self.engine.spark, self.contract, to, folder, todo, counts, metadata, slices
        )

    def _check_files(
        self, to: publish.Target, folder: str, before: list[delta.ActiveFile], published: list[str]
    ) -> None:
        """Adds the checks of what the table became to every partition that the batch published. The
        ledger rows that the commit carries are older: a run that dies now is recorded without."""
        after = delta.active_files(to.table)
        folders = tuple(f"{folder}/outcome={o}/" for o in publish.BROUGHT)
        added = [f for f in after if f.path.startswith(folders)]
        found = gate.file_checks(self.contract, before, added, after)
        for p in published:
            self.done[p].checks.extend(found)

    # -- report --------------------------------------------------------------------------------

    def _settle(self, partition: str, status: Any, **more: Any) -> None:
        fingerprint = self.fingerprints.get(partition, "")
        self.done[partition] = PartitionReport(
            partition=partition, status=status, fingerprint=fingerprint, **more
        )

    def _fail(self, partition: str, error: str, **more: Any) -> None:
        self._settle(partition, "failed", error=error, **more)

    def _table_report(self, to: publish.Target | None, result: publish.Published) -> TableReport:
        table = to.table if to else self.existing  # its size, even if nothing was published
        files = delta.active_files(table) if table else []
        return TableReport(
            table=self.contract.table,
            run_id=self.spec.run_id,
            batch_id=self.batch_id,
            engine=self.engine.name,
            contract_version=self.contract.version,
            transform_version=self.version,
            partitions=[self.done[p] for p in self.partitions],
            delta_version=to.table.version() if to else None,
            files=result.files,
            bytes=result.bytes,
            table_rows=sum(f.rows for f in files),
            table_bytes=sum(f.size for f in files),
            seconds={k: round(v, 3) for k, v in self.seconds.items()},
            inputs=lookups.versions(self.contract, self.upstream),
            stale={
                p: why
                for p, why in self.stale.items()
                if p not in self.done or self.done[p].status == "failed"
            },
            quarantine_sample=self.sample[:10],
        )


def _fails(frame: DataFrame, value: Column) -> bool:
    """Whether an expression cannot be evaluated on some row."""
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as F

    try:
        frame.agg(F.max(F.xxhash64(value))).toArrow()
    except PySparkException:
        return True
    return False


def _span(partitions: list[str]) -> str:
    return partitions[0] if len(partitions) == 1 else f"{partitions[0]}..{partitions[-1]}"


def _reason(check: Check) -> str:
    text = f"{check.name} is {check.observed:.12g}, must be {check.threshold}"
    return f"{text} ({check.detail})" if check.detail else text
