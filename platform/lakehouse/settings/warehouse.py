"""Which warehouse the marts are built in, and how lake tables get there.

Belongs here: the settings of each warehouse. Does not belong here: loading it (warehouse/), building in
it (marts/).
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from lakehouse.settings.names import schema_name
from lakehouse.settings.part import Part
from lakehouse.settings.references import Secret

_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}")
_SECRET_ARN = re.compile(
    r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@-]{1,512}"
)


class DuckDBWarehouse(Part):
    target: Literal["duckdb"]
    path: str


class RedshiftWarehouse(Part):
    """A provisioned `cluster` or a serverless `workgroup`. Without `password` and `secret_arn` (of
    Secrets Manager) who runs logs in by IAM, as `user` on a cluster, with a password of 15 minutes.
    `role` is what the warehouse takes to reach the lake's store. `lake`: whether tables are loaded by
    COPY, or read where they are by Spectrum, through the Glue databases `silver` and `gold` with
    `glue_prefix` before their names. `threads`: how many statements dbt
    runs at once; a statement is cancelled after
    `statement_timeout_seconds`; `query_group` picks a queue of workload management. `readers`: users
    who may select from the marts. `read_back`: datasets of landing, each with the relation
    (`schema.table`) that is delivered there."""

    target: Literal["redshift"]
    host: str
    port: int = 5439
    database: str
    user: str
    region: str
    role: str
    cluster: str | None = None
    workgroup: str | None = None
    password: Secret | None = None
    secret_arn: str | None = None
    threads: int = Field(default=4, ge=1)
    statement_timeout_seconds: int = Field(default=1800, ge=1)
    query_group: str = "lakehouse"
    lake: Literal["copy", "spectrum"] = "copy"
    glue_prefix: str = ""
    readers: tuple[str, ...] = ()
    read_back: dict[str, str] = Field(default_factory=dict)

    @field_validator("role")
    @classmethod
    def _is_role(cls, arn: str) -> str:
        if not _ROLE_ARN.fullmatch(arn):
            raise ValueError("the value is not the ARN of a role of IAM")
        return arn

    @field_validator("secret_arn")
    @classmethod
    def _is_secret(cls, arn: str | None) -> str | None:
        if arn is not None and not _SECRET_ARN.fullmatch(arn):
            raise ValueError("the value is not the ARN of a secret of Secrets Manager")
        return arn

    @field_validator("database", "glue_prefix", "query_group")
    @classmethod
    def _is_name(cls, name: str) -> str:
        return schema_name(name) if name else name

    @field_validator("readers")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(schema_name, names))

    @field_validator("read_back")
    @classmethod
    def _are_relations(cls, relations: dict[str, str]) -> dict[str, str]:
        for dataset, relation in relations.items():
            if len(parts := relation.split(".")) != 2 or [dataset, *parts] != [
                schema_name(n) for n in (dataset, *parts)
            ]:
                raise ValueError("give a dataset and schema.table, in lower case")
        return relations

    @model_validator(mode="after")
    def _one_way(self) -> RedshiftWarehouse:
        if (self.cluster is None) == (self.workgroup is None):
            raise ValueError("give either cluster or workgroup")
        if self.password and self.secret_arn:
            raise ValueError("give either password or secret_arn, or neither to log in by IAM")
        return self

    @property
    def iam(self) -> bool:
        """Whether a temporary password is asked for."""
        return not (self.password or self.secret_arn)
