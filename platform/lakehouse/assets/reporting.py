"""What a materialization says about itself in the Dagster UI.

Belongs here: metadata of one partition, and of the newest partition of a run for the table as a
whole (quality report, chart, sample of quarantined rows). Does not belong here: checks (checks.py)
or counting (the data plane).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from lakehouse.assets import charts
from lakehouse.assets.checks import SHOWN, reason
from lakehouse.governance.masking import Masking
from lakehouse.partitions import span
from spark_jobs import quoting
from spark_jobs.contract.model import Contract
from spark_jobs.lake.row import LedgerRow
from spark_jobs.report import Counts, Job, PartitionReport, TableReport

CHARTED = 30
"""Partitions in the chart."""

GOOD = ("published", "unchanged", "empty")


def in_one_line(report: TableReport) -> str:
    """What a run did to a table, for the log."""
    counts = report.counts.model_dump()
    said = ", ".join(f"{n:,} {name}" for name, n in counts.items() if n and name != "read")
    return (
        f"{report.table} {span([p.partition for p in report.partitions])}: {counts['read']:,} read:"
        f" {said or 'nothing to do'}; {sum(report.seconds.values()):.1f} s on {report.engine}"
    )


def partition_metadata(report: TableReport, partition: PartitionReport) -> dict[str, Any]:
    """Row accounting of one partition: small, because a first run writes hundreds of these."""
    counts = partition.counts
    metadata: dict[str, Any] = {
        "status": partition.status,
        **counts.model_dump(),
        "published": counts.published,
        "quarantine_rate": round(counts.quarantined / counts.read, 6) if counts.read else 0.0,
        "dagster/partition_row_count": counts.published + counts.unchanged,
    }
    if report.delta_version is not None:
        metadata["delta_version"] = report.delta_version
    failed = [c.name for c in partition.checks if not c.passed]
    if failed:
        metadata["failed_checks"] = ", ".join(failed)
    return metadata


def table_metadata(
    contract: Contract,
    report: TableReport,
    history: Sequence[LedgerRow],
    masking: Masking,
) -> dict[str, Any]:
    """The state of the table after a run; goes on the run's newest partition only. What people
    look for comes first."""
    metadata: dict[str, Any] = {
        "quality_report": dg.MetadataValue.md(quality_report(contract, report, masking))
    }
    chart = last_partitions(history)
    if chart:
        metadata["last_partitions"] = dg.MetadataValue.md(chart)
    sample = masking.sample(report.quarantine_sample)
    if sample:
        metadata["quarantine_sample"] = dg.MetadataValue.md(_sample(sample))
    metadata |= {
        "dagster/row_count": report.table_rows,
        "table_bytes": report.table_bytes,
        "files_added": report.files,
        "bytes_added": report.bytes,
        "seconds": round(sum(report.seconds.values()), 3),
        "seconds_per_step": dg.MetadataValue.md(_steps(report.seconds)),
        "engine": report.engine,
        "batch_id": report.batch_id,
        "contract_version": report.contract_version,
        "transform_version": report.transform_version,
    }
    if report.artifact:
        metadata["artifact"] = report.artifact
    if report.job is not None:
        metadata |= job_metadata(report.job)
    lineage = column_lineage(contract)
    if lineage is not None:
        metadata["dagster/column_lineage"] = lineage
    return metadata


def job_metadata(job: Job) -> dict[str, Any]:
    """The job of a service: which one, its page, and its logs."""
    metadata: dict[str, Any] = {"job": f"{job.service} {job.id}"}
    if job.url.startswith(("https://", "http://")):  # else nobody could tell
        metadata["job_page"] = dg.MetadataValue.url(job.url)
    if job.logs:
        metadata["job_logs"] = job.logs
    if job.waited_seconds is not None:
        metadata["job_waited_seconds"] = job.waited_seconds
    if job.cost is not None:
        metadata["cost"] = job.cost
        metadata["cost_of"] = f"{job.currency}: " + ", ".join(
            f"{hours:g} {name}" for name, hours in job.billed.items()
        )
    return metadata


def column_lineage(contract: Contract) -> dg.TableColumnLineage | None:
    """Which upstream columns each column is made of."""
    deps = {}
    for column in contract.columns:
        found = []
        for source in column.sources:
            layer, table, name = source.split(".")
            found.append(dg.TableColumnDep(dg.AssetKey([layer, table]), name))
        if found:
            deps[column.name] = found
    return dg.TableColumnLineage(deps) if deps else None


def quality_report(contract: Contract, report: TableReport, masking: Masking) -> str:
    """The run of a table as a Markdown page: accounting, then what did not pass."""
    done = [p for p in report.partitions if p.status in GOOD]
    lines = [
        f"**{quoting.markdown(contract.table)}** {span([p.partition for p in report.partitions])}:"
        f" {len(done)} of {len(report.partitions)} partitions published.",
        "",
        _accounting(report.counts),
        "",
    ]
    broken = [(p, c) for p in report.partitions for c in p.checks if not c.passed]
    if broken or report.failed:
        lines += ["| partition | check | gate | result |", "|---|---|---|---|"]
        for p in report.failed:
            if not any(c.blocking and not c.passed for c in p.checks):
                lines.append(
                    f"| {p.partition} | row_count | closed | {quoting.markdown(p.error)} |"
                )
        for p, check in broken[:SHOWN]:
            gate = "closed" if check.blocking else "open"
            name, why = map(quoting.markdown, (check.name, reason(check, masking)))
            lines.append(f"| {p.partition} | {name} | {gate} | {why} |")
        if len(broken) > SHOWN:
            lines.append(f"| … | | | and {len(broken) - SHOWN} more |")
    else:
        checked = sum(len(p.checks) for p in report.partitions)
        lines.append(f"All {checked} checks passed." if checked else "Nothing had changed.")
    return "\n".join(lines)


def _accounting(counts: Counts) -> str:
    """The balance, with every term even when it is 0."""
    return (
        "| read | = published | + unchanged | + duplicate | + quarantined | + filtered |\n"
        "|---:|---:|---:|---:|---:|---:|\n"
        f"| {counts.read:,} | {counts.published:,} | {counts.unchanged:,} |"
        f" {counts.duplicate:,} | {counts.quarantined:,} | {counts.filtered:,} |"
    )


def last_partitions(history: Sequence[LedgerRow]) -> str:
    """A chart of the newest partitions by their last real run; empty for fewer than two."""
    newest = {r.partition: r for r in history if r.status not in ("unchanged", "failed")}
    chosen = [newest[p] for p in sorted(newest)[-CHARTED:]]
    if len(chosen) < 2:
        return ""
    bars = [charts.Bar(r.partition[5:], r.read - r.quarantined, r.quarantined) for r in chosen]
    return charts.rows_image(bars)


def _steps(seconds: Mapping[str, float]) -> str:
    rows = [f"| {step} | {value:.2f} |" for step, value in seconds.items()]
    return "\n".join(["| step | seconds |", "|---|---:|", *rows])


def _sample(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| partition | rules | record | file |", "|---|---|---|---|"]
    for row in rows:
        record = quoting.code(row["record"]) if row["record"] else ""
        partition, rules, file = map(
            quoting.markdown, (row["partition"], ", ".join(row["rules"]), row["source_file"])
        )
        lines.append(f"| {partition} | {rules} | {record} | {file} |")
    return "\n".join(lines)
