"""Running tables on Databricks.

Belongs here: the settings of its jobs, for all tables and for some. Does not belong here: the workspace
itself, which infrastructure makes, or starting jobs (engines/databricks.py).

Who the platform is there is found by the SDK's default chain (DATABRICKS_HOST and what goes with it, a
profile, the identity of the machine): there is no place for a token.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lakehouse.settings.part import Part

_RUNTIME = r"^\d+\.\d+\.x(-[a-z0-9.-]+)?-scala2\.13$"


class Cluster(Part):
    """A cluster that lives as long as a job, by a policy of the workspace, which may fix and limit
    everything about it. `runtime` is one with Spark 4.0 or later. There are `workers`, or as many as
    the work needs from `min_workers` up to that."""

    policy: str = Field(min_length=1)
    runtime: str = Field(default="17.3.x-scala2.13", pattern=_RUNTIME)
    node_type: str | None = None
    workers: int = Field(default=2, ge=0)
    min_workers: int | None = Field(default=None, ge=1)
    spark: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_new_enough(self) -> Cluster:
        if int(self.runtime.split(".")[0]) < 17:
            raise ValueError(
                "runtime is one of Spark 3; take 17.3.x-scala2.13 (LTS) or a later one"
            )
        return self


class DatabricksJob(Part):
    """How the jobs of a table are run: on serverless compute, or on a `cluster`. `timeout_minutes` is
    how long a job may run; `dbus_per_hour` what it takes, by which its cost is estimated; `budget` what
    a partition may cost before a check warns."""

    compute: Literal["serverless", "cluster"] = "serverless"
    cluster: Cluster | None = None
    timeout_minutes: int = Field(default=60, ge=1)
    dbus_per_hour: float | None = Field(default=None, gt=0)
    budget: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _has_a_cluster(self) -> DatabricksJob:
        if self.compute == "cluster" and self.cluster is None:
            raise ValueError("compute is cluster: say which under cluster, by policy")
        return self


class DatabricksTable(Part):
    """What is other for one table than for the rest."""

    compute: Literal["serverless", "cluster"] | None = None
    cluster: Cluster | None = None
    timeout_minutes: int | None = Field(default=None, ge=1)
    dbus_per_hour: float | None = Field(default=None, gt=0)
    budget: float | None = Field(default=None, gt=0)


class Workflow(Part):
    """The workflow for teams without Dagster: every so many minutes it runs the day that has begun, in
    UTC; `time_zone` is that of its schedule."""

    every_minutes: Literal[5, 10, 15, 20, 30, 60] = 15
    time_zone: str = "America/Los_Angeles"
    active: bool = True


class Stream(Part):
    """A stream of Kinesis that a bronze table follows continuously, and the tables `then` that follow
    it; read on `cluster` by a service credential of Unity Catalog. `arrival` is the field that says
    when a record arrived, if its producer does not."""

    stream: str = Field(min_length=1)
    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    service_credential: str = Field(min_length=1)
    cluster: Cluster
    table: str
    then: tuple[str, ...] = ()
    arrival: str | None = None
    every_seconds: int = Field(default=60, ge=1)


class DatabricksSettings(DatabricksJob):
    """`catalog` is the one of Unity Catalog in which tables are registered. `environment_version` is
    that of serverless compute; `price_per_dbu` in US dollars. `host` is the workspace, if the default
    chain is to be told. Tables of the layers in `together` travel in one job, where they are of one run
    and one kind of compute."""

    host: str | None = Field(default=None, pattern=r"^https?://[^@/\s]+/?$")
    environment_version: str = Field(default="4", pattern=r"^\d+$")
    price_per_dbu: float | None = Field(default=None, gt=0)
    poll_seconds: float = Field(default=10, gt=0)
    together: list[Literal["bronze", "silver", "gold"]] = Field(default_factory=list)
    catalog: str = Field(default="data_engineering", pattern=r"^[a-z][a-z0-9_]*$")
    workflow: Workflow = Workflow()
    streams: dict[str, Stream] = Field(default_factory=dict)
    tables: dict[str, DatabricksTable] = Field(default_factory=dict)

    def alike(self, table: str, other: str) -> bool:
        """Whether a job of one table suits another."""
        ours, theirs = self.job(table), self.job(other)
        return (ours.compute, ours.cluster) == (theirs.compute, theirs.cluster)

    def job(self, table: str) -> DatabricksJob:
        """How the jobs of a table are run."""
        given = self.model_dump(include=set(DatabricksJob.model_fields))
        other = self.tables.get(table, DatabricksTable()).model_dump(exclude_none=True)
        return DatabricksJob(**{**given, **other})
