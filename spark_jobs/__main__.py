"""The entry point of the data plane, the same on a laptop, on EMR Serverless and on Databricks.

    python -m spark_jobs run --spec '{"table": "silver.orders", ...}'
    python -m spark_jobs run --spec s3://bucket/path/spec.json
    python -m spark_jobs stream --spec s3://bucket/path/stream.json
    python -m spark_jobs day --spec lake.json --day 2026-10-05 --layer bronze
    python -m spark_jobs judge --spec lake.json --day 2026-10-05

Belongs here: what comes in from outside, and how the outcome gets out. Does not belong here: what a
run does.

Launched by Dagster Pipes, which says so in the environment or in arguments, it sends the outcome (a
report or an error) as a message and exits 0 once that is sent: launchers take another code for the
loss of everything, and would not read what was published. A launcher that got no message must take
that for a failure. Without Pipes the code tells a person: 0 done, 1 some partitions failed (the
others are published), 2 could not run. 130 is an interrupt, SIGTERM too, in either case.
A person gets the report as JSON on stdout.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import click
from pydantic import ValidationError

from spark_jobs import pipes, quoting
from spark_jobs.contract.location import contracts_at
from spark_jobs.contract.model import Contract
from spark_jobs.engines.session import Engine
from spark_jobs.errors import InputError, LakehouseError
from spark_jobs.lake.storage import Lake, Storage
from spark_jobs.permissions import keep_files_private
from spark_jobs.report import ErrorRecord, LakeSpec, Outcome, RunSpec
from spark_jobs.run import run_table

Spec = TypeVar("Spec", bound=LakeSpec)

DONE, SOME_FAILED, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, 130


@click.group()
def main() -> None:
    """Runs tables of the lake."""


@main.command()
@click.option("--spec", required=True, help="A RunSpec as JSON, or the path or URI of one.")
@click.option("--dagster-pipes-context", "context", help="Given by Dagster Pipes.")
@click.option("--dagster-pipes-messages", "messages", help="Given by Dagster Pipes.")
def run(spec: str, context: str | None, messages: str | None) -> None:
    """Runs the table in SPEC for its partitions, or several, one after another."""
    if (context is None) != (messages is None):
        raise click.UsageError("--dagster-pipes-context and --dagster-pipes-messages go together")
    _end_on_signals()
    try:
        with pipes.session(context, messages) as session:
            outcomes = []
            for outcome in outcomes_of(spec):
                outcomes.append(outcome)
                if session is not None:
                    session.report_custom_message(outcome.model_dump(mode="json"))
    except KeyboardInterrupt:
        click.echo("error: interrupted; the run can simply be repeated", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:  # of Pipes, since an outcome has all others in it
        click.echo(f"error: nothing could be sent to Dagster: {quoting.said(error)}", err=True)
        sys.exit(COULD_NOT_RUN)
    for outcome in outcomes:
        if session is None and outcome.report is not None:
            click.echo(outcome.report.model_dump_json())
    code = max(_told(outcome) for outcome in outcomes)
    sys.exit(code if session is None else DONE)


@main.command()
@click.option("--spec", required=True, help="A StreamSpec as JSON, or the path or URI of one.")
def stream(spec: str) -> None:
    """Runs the continuous pipeline in SPEC, until it is stopped or fails."""
    from spark_jobs.streaming import pipeline
    from spark_jobs.streaming.spec import StreamSpec

    with _for_a_person():
        wanted = read_spec(spec, StreamSpec)
        with Engine.start(wanted.engine, cores=wanted.cores, memory=wanted.memory) as engine:
            pipeline.run(engine.spark, wanted)


@main.command()
@click.option("--spec", required=True, help="A LakeSpec as JSON, or the path or URI of one.")
@click.option("--day", required=True, help="The day, such as 2026-10-05.")
@click.option("--layer", "layers", multiple=True, type=click.Choice(["bronze", "silver", "gold"]))
@click.option("--run-id", help="In place of that of SPEC.")
def day(spec: str, day: str, layers: tuple[str, ...], run_id: str | None) -> None:
    """Runs what is due of some layers of a day, without an orchestrator."""
    from spark_jobs import workflow

    with _for_a_person():
        wanted = read_spec(spec, LakeSpec)
        wanted = wanted.model_copy(update={"run_id": run_id or wanted.run_id})
        with (
            workflow.day_of(wanted, day) as due,
            Engine.start(wanted.engine, cores=wanted.cores, memory=wanted.memory) as engine,
        ):
            outcome = due.run(layers, engine)
        for table, rows in outcome.published.items():
            click.echo(f"{table}: {rows} rows published")
        _ended(outcome.failed)


@main.command()
@click.option("--spec", required=True, help="A LakeSpec as JSON, or the path or URI of one.")
@click.option("--day", required=True, help="The day, such as 2026-10-05.")
def judge(spec: str, day: str) -> None:
    """Fails unless everything that is due of a day is published."""
    from spark_jobs import workflow

    with _for_a_person(), workflow.day_of(read_spec(spec, LakeSpec), day) as due:
        _ended(due.judged())


@main.command()
@click.option("--spec", required=True, help="A LakeSpec as JSON, or the path or URI of one.")
@click.option("--catalog", required=True, help="The catalog of Unity Catalog.")
def register(spec: str, catalog: str) -> None:
    """Registers every table that is there as an external one of a catalog."""
    from spark_jobs import catalog as unity

    with _for_a_person():
        wanted = read_spec(spec, LakeSpec)
        with Engine.start(wanted.engine, cores=wanted.cores, memory=wanted.memory) as engine:
            for name in unity.register(engine.spark, wanted, catalog):
                click.echo(name)


@contextlib.contextmanager
def _for_a_person() -> Iterator[None]:
    """What commands without Pipes have in common: who may read their files, and how they end."""
    _end_on_signals()
    try:
        keep_files_private()
        yield
    except KeyboardInterrupt:
        click.echo("error: interrupted; it can simply be run again", err=True)
        sys.exit(INTERRUPTED)
    except (LakehouseError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(COULD_NOT_RUN)


def _ended(failed: list[str]) -> None:
    for what in failed:
        click.echo(what, err=True)
    if failed:
        sys.exit(SOME_FAILED)


def job() -> None:
    """The entry point of a wheel task, which the service calls in a Python of its own: any
    SystemExit would be a failure there."""
    try:
        main()
    except SystemExit as end:
        if end.code not in (None, DONE):
            raise


def outcomes_of(spec: str) -> Iterator[Outcome]:
    """Runs what a specification says, table by table; an error comes back as a record of it. One that
    keeps all tables from running names none."""
    try:
        keep_files_private()
        wanted = read_spec(spec, RunSpec)
        lake = Lake(wanted.zones, Storage(wanted.storage_options))
        with Engine.start(
            wanted.engine, cores=wanted.cores, memory=wanted.memory, store=lake.store
        ) as engine:
            if wanted.then:
                yield from _one_after_another(wanted, engine, lake)
            else:
                yield _outcome(wanted, engine, lake)
    except (LakehouseError, OSError) as error:
        yield Outcome(error=ErrorRecord.of(error))
    except Exception as error:
        traceback.print_exc()  # a defect, whose place is worth more than its words
        yield Outcome(error=ErrorRecord.of(error))


def _one_after_another(spec: RunSpec, engine: Engine, lake: Lake) -> Iterator[Outcome]:
    """The tables of a specification; one of whose inputs one failed here is not run."""
    failed: set[str] = set()
    with contracts_at(spec.contracts, spec.contracts_sha256, lake.storage) as contracts:
        for table in (spec.table, *spec.then):
            one = spec.model_copy(update={"table": table, "then": []})
            missing = failed.intersection(contracts[table].upstream if table in contracts else ())
            if missing:
                error = InputError(
                    f"{table}: its input {', '.join(sorted(missing))} failed in the same job, so that"
                    " it was not run. Mend that first."
                )
                # Whoever asks for it by then has seen that input succeed, in another attempt.
                again = ErrorRecord.of(error).model_copy(update={"permanent": False})
                outcome = Outcome(table=table, error=again)
            else:
                outcome = _outcome(one, engine, lake, contracts)
            if outcome.report is None or outcome.report.failed:
                failed.add(table)
            yield outcome


def _outcome(
    spec: RunSpec, engine: Engine, lake: Lake, contracts: dict[str, Contract] | None = None
) -> Outcome:
    try:
        return Outcome(table=spec.table, report=run_table(spec, engine, contracts, lake))
    except (LakehouseError, OSError) as error:
        return Outcome(table=spec.table, error=ErrorRecord.of(error))
    except Exception as error:
        traceback.print_exc()
        return Outcome(table=spec.table, error=ErrorRecord.of(error))


def _told(outcome: Outcome) -> int:
    """Says what failed, for people and for logs; returns the exit code that tells a script."""
    if outcome.error is not None:
        message = " ".join(outcome.error.message.split())
        click.echo(f"error: {message or outcome.error.kind}", err=True)
        return COULD_NOT_RUN
    report = outcome.report
    assert report is not None
    for partition in report.failed:
        click.echo(f"{report.table} {partition.partition}: {partition.error}", err=True)
    return SOME_FAILED if report.failed else DONE


def _read(location: str) -> str:
    """The text at a path or URI. What the options of a store are stands in the specification: here it
    is the environment."""
    if (
        "://" not in location
    ):  # a volume of Databricks is a folder of Python's, not of every library
        return Path(location).read_text(encoding="utf-8")
    fs, path = Storage().filesystem(location)
    return str(fs.open_input_stream(path).read(), "utf-8")


def read_spec(text: str, kind: type[Spec]) -> Spec:
    """A specification from JSON text, or from the file or object that `text` names."""
    if not text.lstrip().startswith("{"):
        where = quoting.name(text)
        try:
            text = _read(text)
        except (OSError, ValueError) as error:
            raise LakehouseError(
                f"--spec {where}: no JSON object, and no file that can be read"
                f" ({quoting.said(error)})"
            ) from error
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise LakehouseError(f"--spec is not a valid run specification: {problems}") from None


def _end_on_signals() -> None:
    """Clusters cancel by SIGTERM: as by Ctrl-C, what was staged is removed and the engine stopped.
    Once only: a terminal and a launcher may both say so, and the clean-up is to be finished."""

    def interrupt(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, interrupt)


if __name__ == "__main__":
    main()
