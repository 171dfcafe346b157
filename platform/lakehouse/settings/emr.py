"""Running tables on EMR Serverless.

Belongs here: the settings of its jobs, for all tables and for some. Does not belong here: applications
themselves, which infrastructure makes, or starting jobs (engines/emr.py).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from lakehouse.settings.part import Part

_MEMORY = r"^[1-9]\d*g$"
_APPLICATION = r"^[0-9a-z]{1,64}$"
_ROLE = r"^arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+$"


class Worker(Part):
    """The size of a driver or an executor: vCPUs, memory such as `4g`, disk such as `20g`. One that is
    not the size of a pre-initialized worker of the application starts cold."""

    cores: int = Field(default=2, ge=1, le=16)
    memory: str = Field(default="6g", pattern=_MEMORY)
    disk: str = Field(default="20g", pattern=_MEMORY)


class EmrPrices(Part):
    """What an hour costs, by default in us-east-1 on x86. Storage is that beyond a worker's first
    20 GB."""

    vcpu: float = Field(default=0.052624, ge=0)
    memory_gb: float = Field(default=0.0057785, ge=0)
    storage_gb: float = Field(default=0.000111, ge=0)
    currency: str = "USD"


class EmrJob(Part):
    """How the jobs of a table are run. `release` is what the application has to be of.
    `timeout_minutes` is how long a job may run, `queue_minutes` how long it may wait to; one that waits
    for more than `cold_seconds` is said to start cold. `budget` is what a partition may cost before a
    check warns. `spark` are more properties of Spark."""

    application: str = Field(pattern=_APPLICATION)
    release: str = "emr-spark-8.0.0"
    driver: Worker = Worker()
    executor: Worker = Worker()
    max_executors: int = Field(default=10, ge=1)
    timeout_minutes: int = Field(default=60, ge=1)
    queue_minutes: float = Field(default=15, gt=0)
    cold_seconds: float = Field(default=60, gt=0)
    budget: float | None = Field(default=None, gt=0)
    # Two partitions for a table's state suit tables of some thousand files; 50 cost seconds each time.
    spark: dict[str, str] = Field(
        default_factory=lambda: {"spark.databricks.delta.snapshotPartitions": "2"}
    )

    @field_validator("spark")
    @classmethod
    def _not_ours(cls, spark: dict[str, str]) -> dict[str, str]:
        for name in spark:
            if not name.startswith("spark."):
                raise ValueError(f"{name} is no property of Spark")
            if name.startswith(("spark.archives", "spark.driver.", "spark.executor.")) or (
                "Env." in name
            ):
                raise ValueError(f"{name} is set by the platform: give sizes in their own keys")
        return spark


class EmrTable(Part):
    """What is other for one table than for the rest."""

    application: str | None = Field(default=None, pattern=_APPLICATION)
    release: str | None = None
    driver: Worker | None = None
    executor: Worker | None = None
    max_executors: int | None = Field(default=None, ge=1)
    timeout_minutes: int | None = Field(default=None, ge=1)
    queue_minutes: float | None = Field(default=None, gt=0)
    cold_seconds: float | None = Field(default=None, gt=0)
    budget: float | None = Field(default=None, gt=0)
    spark: dict[str, str] | None = None


class EmrSettings(EmrJob):
    """`execution_role` is what jobs may do. Its logs are below `logs`, by default that folder of
    the artifacts' location. `tags` are on every job, for the bill. Tables of the layers in
    `together` travel in one job, where they are of one run, one application and one size."""

    execution_role: str = Field(pattern=_ROLE)
    logs: str | None = Field(default=None, pattern=r"^s3://[^@\s]+$")
    tags: dict[str, str] = Field(default_factory=dict)
    poll_seconds: float = Field(default=10, gt=0)
    together: list[Literal["bronze", "silver", "gold"]] = Field(default_factory=list)
    prices: EmrPrices = EmrPrices()
    tables: dict[str, EmrTable] = Field(default_factory=dict)

    def alike(self, table: str, other: str) -> bool:
        """Whether a job of one table suits another."""
        theirs = {"timeout_minutes", "queue_minutes", "cold_seconds", "budget"}
        return self.job(table).model_dump(exclude=theirs) == self.job(other).model_dump(
            exclude=theirs
        )

    def job(self, table: str) -> EmrJob:
        """How the jobs of a table are run."""
        given = self.model_dump(include=set(EmrJob.model_fields))
        other = self.tables.get(table, EmrTable()).model_dump(exclude_none=True)
        spark = {**given["spark"], **other.get("spark", {})}
        return EmrJob(**{**given, **other, "spark": spark})
