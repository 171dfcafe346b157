"""What becomes of an error in Dagster: a step that is asked for again, or a failure that is final.

Belongs here: both. Does not belong here: which of them an error is (spark_jobs/causes.py), and retry
counts and delays (settings).
"""

from __future__ import annotations

import random

import dagster as dg

from lakehouse.keys import ANNOUNCED
from lakehouse.settings.operations import RetrySettings
from spark_jobs.causes import is_transient
from spark_jobs.errors import EngineError, LakehouseError


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


def failed(
    error: BaseException, settings: RetrySettings, attempt: int, where: str
) -> dg.RetryRequested | dg.Failure:
    """What a step raises of an error: another attempt where one may succeed and is left, or else a
    failure that is final."""
    if is_transient(error) and attempt < settings.max:
        return retry(settings, attempt)
    return permanent_failure(error, where)


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
