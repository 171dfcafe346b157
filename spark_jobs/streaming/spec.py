"""What a continuous pipeline is: a stream, where its records land, and the tables that follow.

Belongs here: the values. Does not belong here: reading the stream (pipeline.py).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from spark_jobs import credentials
from spark_jobs.report import RunSpec

# What a source is told of a service by the name under which others keep it; the value is no secret.
_REFERENCES = {"serviceCredential"}


class StreamSource(BaseModel):
    """A source of Spark Structured Streaming whose rows look like those of Kinesis (RECORD), with
    its options. It reaches its service by a service credential, an instance profile or the default
    chain: no option holds a key."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    format: str
    options: dict[str, str] = Field(default_factory=dict)
    location: str | None = None

    @field_validator("options")
    @classmethod
    def _no_credentials(cls, options: dict[str, str]) -> dict[str, str]:
        credentials.refused({k: v for k, v in options.items() if k not in _REFERENCES})
        return options


class StreamSpec(RunSpec):
    """A continuous pipeline. `table` is the bronze table whose dataset the records land in, `then`
    the tables of the same windows that follow, in this order.

    `name` tells the pipeline from others, and its checkpoint is kept under it. `every_seconds` is
    how long records are gathered for a batch; None takes what is there, and ends. `arrival` is the
    field that says when a record arrived in the stream, if its producer does not.
    """

    name: str = Field(pattern=r"^[a-z0-9_-]+$")
    source: StreamSource
    then: list[str] = Field(default_factory=list)
    every_seconds: int | None = Field(default=60, ge=1)
    arrival: str | None = None

    @model_validator(mode="after")
    def _no_partitions(self) -> StreamSpec:
        if self.partitions:
            raise ValueError("partitions: those of a stream are told by its records")
        return self

    @property
    def checkpoint(self) -> str:
        return f"{self.zones['checkpoints']}/streams/{self.name}"

    def of(self, table: str, partitions: list[str], batch: int) -> RunSpec:
        """The run of one table for what a batch brought."""
        shared = self.model_dump(include=set(RunSpec.model_fields))
        run_id = f"{self.run_id}-{batch}"
        return RunSpec(**shared | {"table": table, "partitions": partitions, "run_id": run_id})
