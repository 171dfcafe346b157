"""`lakehouse deliver`: the sample data, as its sources would deliver it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import click

from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.settings.references import SettingsError
from spark_jobs.errors import InputError


@click.command()
@click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    help="Size of the sample, as TPC-H's scale factor.",
)
@click.option(
    "--days", type=click.IntRange(min=1), help="Days from the first one; further days are added."
)
def deliver(scale: float | None, days: int | None) -> None:
    """Deliver sample files to landing. Days that are there already are left alone."""
    settings = load_settings()
    if not settings.sample.deliver:
        raise SettingsError(
            f"the {settings.environment} environment takes no sample data (sample.deliver in its"
            " settings)"
        )
    deliver_sample(settings, scale, days)


def deliver_sample(
    settings: Settings, scale: float | None, days: int | None, to: Path | None = None
) -> None:
    """Delivers what is not there yet, to landing or another folder. Without a scale or days, those of
    the lake as it is."""

    try:
        from lakehouse.standins.data import delivery
    except ImportError as error:
        raise InputError(
            f"the sample data needs {error.name}: install the extra `sample`, or run `make run`"
        ) from error

    answers = settings.home / "answers.json"
    recorded = _recorded(answers.with_suffix("") / "delivery.json")
    start = settings.partitions.start
    days = days or settings.sample.days
    end = settings.partitions.end
    if end is not None and start + timedelta(days=days) > end:
        raise InputError(
            f"{days} days from {start} go beyond {end}, where the settings' partitions end"
        )
    scale = scale or recorded.get("scale") or settings.sample.scale
    click.echo(f"Delivering {days} days from {start} at scale {scale:g} …")
    landing = settings.zones["landing"] if to is None else str(to)
    local = settings.home / "delivered" if "://" in landing else Path(landing)
    try:
        done = delivery.deliver(local, answers, scale=scale, start=start, days=days)
    except ValueError as error:
        raise InputError(str(error)) from error
    if "://" in landing:
        settings.storage.add(str(local), landing)
    if done.files:
        rows = sum(done.rows.values())
        click.echo(f"{done.files:,} files, {rows:,} rows, {done.bytes / 1e6:.1f} MB"
                   f" in {done.seconds:.1f} s")  # fmt: skip
    else:
        click.echo("They are there already.")


def _recorded(path: Path) -> dict[str, float]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise InputError(
            f"{path}: the record of the sample delivery is no JSON. Remove it and the landing"
            " folder, then deliver again."
        ) from None
