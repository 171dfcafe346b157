"""What becomes of an error: retried if a repetition may succeed, else final.

Belongs here: telling transient from permanent errors. Does not belong here: retry counts and
delays (settings).
"""

from __future__ import annotations

import random

import dagster as dg

from lakehouse.settings.model import RetrySettings
from spark_jobs.errors import EngineError, LakehouseError

# Of libraries that the control plane does not import: told apart by where they come from.
_TRANSIENT_MODULES = ("grpc", "botocore", "urllib3", "requests")
ANNOUNCED = "announced"
"""Metadata of a failure: its reason in words that may leave the platform in an alert. Never a value
of a row: messages of engines and databases quote them, and go without."""

_TRANSIENT = (ConnectionError, TimeoutError, InterruptedError)


def is_transient(error: BaseException) -> bool:
    """Whether the same run on the same input may succeed the next time.

    Errors of the platform say so themselves; of all others only those of a connection may. A
    defect in code fails again however often it is tried, and retrying it wastes hours.
    """
    if isinstance(error, LakehouseError):
        return not error.permanent
    return isinstance(error, _TRANSIENT) or type(error).__module__.startswith(_TRANSIENT_MODULES)


def permanent_failure(error: BaseException, where: str) -> dg.Failure:
    """A failure that no retry policy repeats."""
    ours = isinstance(error, LakehouseError)
    text = str(error)
    if where not in text:
        text = f"{where}: {'' if ours else f'{type(error).__name__}: '}{text}"
    quotes_values = not ours or isinstance(error, EngineError)
    return dg.Failure(
        description=text,
        metadata={} if quotes_values else {ANNOUNCED: text},
        allow_retries=False,
    )


def retry(settings: RetrySettings, attempt: int) -> dg.RetryRequested:
    """Asks for the step to be run again, later each time; the last attempt's error is final.

    `attempt` counts from 0. A step asks by itself instead of having a retry policy: Dagster
    applies a policy to interrupts too, so that a cancelled run would begin its step again.
    """
    return dg.RetryRequested(max_retries=settings.max, seconds_to_wait=delay(settings, attempt))


def delay(settings: RetrySettings, attempt: int) -> float:
    """Seconds before the next attempt: doubled each time, and spread by a fifth so that runs
    which got into each other's way do not meet again."""
    return settings.delay_seconds * 2**attempt * random.uniform(0.8, 1.2)
