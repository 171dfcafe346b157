"""What becomes of an error in Dagster: a step that is asked for again, or a failure that is final.

Belongs here: both. Does not belong here: which of them an error is (spark_jobs/causes.py), and retry
counts and delays (settings).

A step asks for another attempt by itself instead of having a retry policy: Dagster applies a policy to
interrupts too, so that a cancelled run would begin its step again. `attempt` counts from 0.
"""

from __future__ import annotations

import random

import dagster as dg

from lakehouse.keys import ANNOUNCED
from lakehouse.settings.operations import RetrySettings
from spark_jobs.causes import is_transient
from spark_jobs.errors import EngineError, LakehouseError


def failed(
    error: BaseException, settings: RetrySettings, attempt: int, where: str
) -> dg.RetryRequested | dg.Failure:
    """What a step raises of an error: another attempt where one may succeed and is left, or else a
    failure that is final."""
    ours = isinstance(error, LakehouseError)
    text = str(error)
    if where not in text:
        text = f"{where}: {'' if ours else f'{type(error).__name__}: '}{text}"
    quotes_values = not ours or isinstance(error, EngineError)
    final = dg.Failure(text, metadata={} if quotes_values else {ANNOUNCED: text})
    return again_or_final(final, settings, attempt, again=is_transient(error))


def again_or_final(
    failure: dg.Failure, settings: RetrySettings, attempt: int, *, again: bool
) -> dg.RetryRequested | dg.Failure:
    """Another attempt if it may succeed `again` and one is left, or else the failure, which no retry
    policy repeats and which says how many attempts there were."""
    if again and attempt < settings.max:
        seconds = delay(settings, attempt)
        return dg.RetryRequested(max_retries=settings.max, seconds_to_wait=seconds)
    made = f"\nThis was attempt {attempt + 1} of {settings.max + 1}." if attempt else ""
    return dg.Failure(f"{failure.description}{made}", dict(failure.metadata), allow_retries=False)


def delay(settings: RetrySettings, attempt: int) -> float:
    """Seconds before the next attempt: doubled each time, and spread by a fifth so that runs
    which got into each other's way do not meet again."""
    return settings.delay_seconds * 2**attempt * random.uniform(0.8, 1.2)
