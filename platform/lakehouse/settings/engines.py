"""What tables run on, and where.

Belongs here: the settings of engines and runners. Does not belong here: starting any (engines/).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lakehouse.settings.part import Part


class EngineSettings(Part):
    """`memory`: such as `2g`; Sail spills to disk beyond it, for `spark` it is the JVM's heap."""

    name: Literal["sail", "spark"]
    cores: int | None = Field(default=None, ge=1)
    memory: str | None = None


class RunnerSettings(Part):
    """Where tables run: `embedded` in the process of their step, which share an engine, each in a
    `process` of its own, or each as a job of `emr` or of `databricks`."""

    name: Literal["embedded", "process", "emr", "databricks"] = "embedded"
