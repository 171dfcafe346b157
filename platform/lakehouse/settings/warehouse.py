"""Which warehouse the marts are built in, and how lake tables get there.

Belongs here: the settings of each warehouse. Does not belong here: loading it (warehouse/), building in
it (marts/), or logging in to Redshift (redshift.py).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from lakehouse.settings.names import schema_name
from lakehouse.settings.part import Part
from lakehouse.settings.redshift import RedshiftLogin


class DuckDBWarehouse(Part):
    target: Literal["duckdb"]
    path: str


class RedshiftWarehouse(RedshiftLogin):
    """A provisioned `cluster` or a serverless `workgroup`. Without `password` and `secret_arn` (of
    Secrets Manager) who runs logs in by IAM, as `user` on a cluster, with a password of 15 minutes.
    `role` is what the warehouse takes to reach the lake's store. `lake`: whether tables are loaded by
    COPY, or read where they are by Spectrum, through the Glue databases `silver` and `gold` with
    `glue_prefix` before their names. `threads`: how many statements dbt
    runs at once; a statement is cancelled after
    `statement_timeout_seconds`; `query_group` picks a queue of workload management. `readers`: users
    who may select from the marts."""

    target: Literal["redshift"]
    threads: int = Field(default=4, ge=1)
    lake: Literal["copy", "spectrum"] = "copy"
    glue_prefix: str = ""
    readers: tuple[str, ...] = ()

    @field_validator("glue_prefix")
    @classmethod
    def _is_prefix(cls, name: str) -> str:
        return schema_name(name) if name else name

    @field_validator("readers")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(schema_name, names))
