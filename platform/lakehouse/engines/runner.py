"""Where tables run, as the control plane sees it: a runner runs one, a ledger says what was done.

Belongs here: the two protocols, which runner and engine a table has, and what a run elsewhere has
sent back. Does not belong here: any of the runners (embedded.py, process.py), or Dagster events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import ValidationError

from lakehouse.settings.references import SettingsError
from spark_jobs.contract.model import Contract
from spark_jobs.errors import LakehouseError, ReportMissing
from spark_jobs.lake.row import LedgerRow, PartitionState
from spark_jobs.report import Outcome, RunSpec, TableReport

if TYPE_CHECKING:
    import dagster as dg

    from lakehouse.settings.model import Settings

RunnerName = Literal["embedded", "process", "emr", "databricks"]
EngineName = Literal["sail", "spark"]


class Runner(Protocol):
    """Runs tables. Tests put a fake here and in the ledger; nothing else in the control plane is
    faked."""

    def run(self, context: dg.AssetExecutionContext, spec: RunSpec) -> TableReport:
        """Runs one table for the partitions of `spec`, whose step has `context`; errors as
        `spark_jobs.run.run_table`, and ReportMissing if nobody can tell what became of it."""
        ...


class LedgerReader(Protocol):
    """Says what was done, wherever it ran."""

    def history(self, table: str) -> list[LedgerRow]:
        """The ledger's rows of one table, oldest first."""
        ...

    def newest(self) -> list[PartitionState]:
        """The state of each partition of every table, as its newest row in the ledger has it."""
        ...

    def stale(
        self,
        contracts: Mapping[str, Contract],
        newest: Sequence[PartitionState],
        tables: Sequence[str],
        engine: EngineName,
    ) -> dict[str, dict[str, str]]:
        """Partitions that looked up rows which have changed since, or lack records that came back
        into their window, with what made them stale, by table; `newest` are the states that they
        have now. What has not been compared yet is compared now, on an engine of that name."""
        ...


def engine_of(contract: Contract, settings: Settings) -> EngineName:
    """The engine of a table: its contract's, else the environment's. One table, one engine: two
    Delta writers on one S3 table are not safe."""
    return contract.engine or settings.engine.name


def runner_of(contract: Contract, settings: Settings) -> RunnerName:
    """The runner of a table: its contract's, else the environment's."""
    return contract.runner or settings.runner.name


def budget_of(contract: Contract, settings: Settings) -> float | None:
    """What a partition of a table may cost before a check warns; None if nobody has said."""
    if runner_of(contract, settings) == "emr" and settings.emr is not None:
        return settings.emr.job(contract.table).budget
    if runner_of(contract, settings) == "databricks" and settings.databricks is not None:
        return settings.databricks.job(contract.table).budget
    return None


def build_runners(settings: Settings, contracts: Mapping[str, Contract]) -> dict[str, Runner]:
    """The runners that tables use, by name."""
    from lakehouse.engines.embedded import EmbeddedRunner
    from lakehouse.engines.process import ProcessRunner

    used = {runner_of(c, settings) for c in contracts.values()}
    makers: dict[RunnerName, Callable[[], Runner]] = {
        "embedded": lambda: EmbeddedRunner(contracts),
        "process": ProcessRunner,
        "emr": lambda: _emr(settings, contracts),
        "databricks": lambda: _databricks(settings, contracts),
    }
    return {name: make() for name, make in makers.items() if name in used}


def _emr(settings: Settings, contracts: Mapping[str, Contract]) -> Runner:
    from lakehouse.engines.emr import EmrRunner
    from lakehouse.engines.remote import Shipping

    missing = [] if settings.emr else ["emr: missing; add it"]
    if not settings.artifacts.location.startswith("s3://"):
        missing.append("artifacts.location: must be in a bucket (s3://...), where jobs read it")
    if missing or settings.emr is None:
        raise SettingsError("tables run on emr. " + "; ".join(missing))
    return EmrRunner.of(settings, settings.emr, Shipping.of(settings), contracts)


def _databricks(settings: Settings, contracts: Mapping[str, Contract]) -> Runner:
    from lakehouse.artifacts.volume import VOLUMES, workspace
    from lakehouse.engines.databricks import DatabricksRunner
    from lakehouse.engines.remote import Shipping

    missing = [] if settings.databricks else ["databricks: missing; add it"]
    if not settings.artifacts.location.startswith(VOLUMES):
        missing.append(
            f"artifacts.location: must be in a volume ({VOLUMES}...), where jobs read it"
        )
    if missing or settings.databricks is None:
        raise SettingsError("tables run on databricks. " + "; ".join(missing))

    return DatabricksRunner(
        settings.databricks,
        lambda: Shipping.of(settings),
        lambda: workspace(settings),
        contracts,
        frozenset(t for t, c in contracts.items() if runner_of(c, settings) == "databricks"),
    )


def _table_of(message: Any) -> str:
    return message.get("table", "") if isinstance(message, dict) else ""


def received(messages: Sequence[Any], spec: RunSpec) -> TableReport:
    """The report that a run elsewhere has sent.

    Raises the error that it sent instead, and ReportMissing if it sent neither: a process that ends
    well may still have done nothing.
    """
    ours = [m for m in messages if _table_of(m) in ("", spec.table)]
    if not ours:
        raise ReportMissing(
            f"{spec.table}: its run ended without a report, so that nobody knows what it did. Its"
            " log may say why (out of memory, killed). Run it again: what it had published is"
            " found, and nothing is published twice."
        )
    try:
        outcome = Outcome.model_validate(ours[-1])
    except ValidationError as error:
        raise LakehouseError(
            f"{spec.table}: its run sent a report that this version does not understand"
            f" ({error.error_count()} problems, first {error.errors()[0]['msg']}). Install the same"
            " version of spark_jobs where tables run."
        ) from None
    if outcome.error is not None:
        raise outcome.error.error()
    report = outcome.report
    assert report is not None
    missing = set(spec.partitions) - {p.partition for p in report.partitions}
    if (report.table, report.run_id) != (spec.table, spec.run_id) or missing:
        raise ReportMissing(
            f"{spec.table}: its run sent the report of {report.table}, run {report.run_id}"
            f"{', without ' + ', '.join(sorted(missing)[:10]) if missing else ''}. Run it again."
        )
    return report
