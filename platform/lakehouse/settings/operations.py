"""When runs start, how many at once, and how often again.

Belongs here: partitions, schedules, the look at landing, retries, pools. Does not belong here: what a
tick asks for (automation/).
"""

from __future__ import annotations

from datetime import date

from pydantic import Field, field_validator, model_validator

from lakehouse.settings.part import Part
from lakehouse.settings.sources import Url


class PartitionSettings(Part):
    """The arrival days that exist: from `start` to before `end`, or to today without an end."""

    start: date
    end: date | None = None

    @model_validator(mode="after")
    def _in_order(self) -> PartitionSettings:
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must be after start")
        return self


class ScheduleSettings(Part):
    """Cron expressions in UTC. `active`: whether schedules and sensors run without being switched
    on by hand. `gap_fill_days`: how far back the gap filler looks."""

    active: bool = False
    daily: str = "0 2 * * *"
    hourly: str = "0 * * * *"
    gap_fill: str = "0 5 * * *"
    gap_fill_days: int = Field(default=35, ge=1)

    @field_validator("daily", "hourly", "gap_fill")
    @classmethod
    def _is_cron(cls, cron: str) -> str:
        import dagster as dg

        try:
            dg.ScheduleDefinition(job_name="any", cron_schedule=cron)
        except dg.DagsterInvalidDefinitionError:
            raise ValueError("the value is not a cron expression such as '0 2 * * *'") from None
        return cron


class LandingQueue(Part):
    """A queue of SQS that S3 tells of objects in landing. One look takes `messages_per_look`; every
    `list_every_minutes` landing is listed as a whole all the same."""

    url: Url
    region: str
    endpoint: Url | None = None
    messages_per_look: int = Field(default=1000, ge=10)
    list_every_minutes: int = Field(default=60, ge=1)


class LandingSettings(Part):
    """How often landing is looked at, and how many runs one look may ask for. With a `queue` a look
    lists what that tells of, and without one all of landing."""

    interval_seconds: int = Field(default=60, ge=5)
    requests_per_look: int = Field(default=25, ge=1)
    queue: LandingQueue | None = None


class RetrySettings(Part):
    """Retries of transient errors, with exponential backoff."""

    max: int = Field(default=3, ge=0)
    delay_seconds: float = Field(default=10, ge=0)


class PoolSettings(Part):
    """`runs`: how many runs may be in progress at once. A table has one writer at a time anyway.
    `warehouse`: how many of them may load tables into the warehouse or build marts in it; in DuckDB,
    which has one writer, it is 1."""

    runs: int = Field(default=4, ge=1)
    warehouse: int = Field(default=1, ge=1)
