"""The entry point of the data plane, the same on a laptop, on EMR Serverless and on Databricks.

    python -m spark_jobs run --spec '{"table": "silver.orders", ...}'
    python -m spark_jobs run --spec s3://bucket/path/spec.json

Launched by Dagster Pipes it sends the report as a message; it prints the report as JSON in any
case. Exit codes: 0 done, 1 some partitions failed (the others are published), 2 could not run.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import click
from pydantic import ValidationError

from spark_jobs import quoting
from spark_jobs.engines.session import Engine
from spark_jobs.errors import LakehouseError
from spark_jobs.lake import storage
from spark_jobs.permissions import keep_files_private
from spark_jobs.report import RunSpec
from spark_jobs.run import run_table


@click.group()
def main() -> None:
    """Runs tables of the lake."""


@main.command()
@click.option("--spec", required=True, help="A RunSpec as JSON, or the path or URI of one.")
def run(spec: str) -> None:
    """Runs one table for the partitions in SPEC."""
    try:
        keep_files_private()
        wanted = read_spec(spec)
        with _pipes() as pipes, Engine.start(wanted.engine) as engine:
            report = run_table(wanted, engine)
            if pipes is not None:
                pipes.report_custom_message(report.model_dump(mode="json"))
    except (LakehouseError, OSError) as error:
        click.echo(f"error: {quoting.said(error)}", err=True)
        sys.exit(2)
    click.echo(report.model_dump_json())
    for partition in report.failed:
        click.echo(f"{report.table} {partition.partition}: {partition.error}", err=True)
    sys.exit(1 if report.failed else 0)


def read_spec(text: str) -> RunSpec:
    """A RunSpec from JSON text, or from the file or object that `text` names."""
    if not text.lstrip().startswith("{"):
        where, (fs, path) = quoting.name(text), storage.filesystem(text)
        try:
            text = fs.open_input_stream(path).read().decode()
        except (OSError, ValueError) as error:
            raise LakehouseError(
                f"--spec {where}: no JSON object, and no file that can be read"
                f" ({quoting.said(error)})"
            ) from error
    try:
        return RunSpec.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise LakehouseError(f"--spec is not a valid run specification: {problems}") from None


@contextlib.contextmanager
def _pipes() -> Iterator[Any]:
    """The Pipes session if Dagster launched this process, else None."""
    import os

    from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, open_dagster_pipes

    if DAGSTER_PIPES_CONTEXT_ENV_VAR not in os.environ:
        yield None
        return
    with open_dagster_pipes() as pipes:
        yield pipes


if __name__ == "__main__":
    main()
