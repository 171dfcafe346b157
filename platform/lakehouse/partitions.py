"""Arrival partitions: which exist, in Dagster's terms and as plain keys.

Belongs here: the partitions definitions of the settings, their keys and ranges. Does not belong
here: which of them have data (gaps.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from lakehouse.settings.operations import PartitionSettings
from spark_jobs.window import FORMATS, Scheme, Window

if TYPE_CHECKING:
    import dagster as dg


@cache
def partitions_def(
    scheme: Scheme, settings: PartitionSettings
) -> dg.TimeWindowPartitionsDefinition:
    """The partitions definition of a scheme; all assets of a scheme share one object."""
    import dagster as dg

    start = settings.start.strftime(FORMATS[scheme]) if scheme == "daily" else _hour(settings.start)
    if settings.end is None:
        end = None
    else:
        end = settings.end.isoformat() if scheme == "daily" else _hour(settings.end)
    if scheme == "daily":
        return dg.DailyPartitionsDefinition(start, end_date=end)
    return dg.HourlyPartitionsDefinition(start, end_date=end, fmt=FORMATS["hourly"])


def _hour(day: date) -> str:
    return f"{day.isoformat()}T00"


def keys(scheme: Scheme, first: date, last: date) -> list[str]:
    """The partition keys of whole days, first and last included."""
    days = [first + timedelta(days=i) for i in range((last - first).days + 1)]
    if scheme == "daily":
        return [d.isoformat() for d in days]
    return [f"{d.isoformat()}T{hour:02d}" for d in days for hour in range(24)]


def window_start(key: str) -> datetime:
    """The beginning of an arrival window, UTC."""
    return Window.of(key).start


def span(partitions: Sequence[str]) -> str:
    """A range of partitions for people: `2026-10-05 … 2026-10-18 (14)`."""
    if not partitions:
        return "-"
    first, last = min(partitions), max(partitions)
    return first if first == last else f"{first} … {last} ({len(partitions)})"
