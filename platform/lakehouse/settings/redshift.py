"""How one logs in to Redshift, as the warehouse of the marts or as a source.

Belongs here: the settings that both have. Does not belong here: those of either (warehouse.py,
sources.py), or logging in (warehouse/login.py).
"""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from lakehouse.settings.names import schema_name
from lakehouse.settings.part import Part
from lakehouse.settings.references import Secret

_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}")
_SECRET_ARN = re.compile(
    r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@-]{1,512}"
)


class RedshiftLogin(Part):
    """A provisioned `cluster` or a serverless `workgroup`. Without `password` and `secret_arn` (of
    Secrets Manager) who runs logs in by IAM, as `user` on a cluster, with a password of 15 minutes.
    `role` is what Redshift takes to reach S3. A statement is cancelled after
    `statement_timeout_seconds`; `query_group` picks a queue of workload management."""

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
    statement_timeout_seconds: int = Field(default=1800, ge=1)
    query_group: str = "lakehouse"

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

    @field_validator("database", "query_group")
    @classmethod
    def _is_name(cls, name: str) -> str:
        return schema_name(name)

    @model_validator(mode="after")
    def _one_way(self) -> RedshiftLogin:
        if (self.cluster is None) == (self.workgroup is None):
            raise ValueError("give either cluster or workgroup")
        if self.password and self.secret_arn:
            raise ValueError("give either password or secret_arn, or neither to log in by IAM")
        return self

    @property
    def iam(self) -> bool:
        """Whether a temporary password is asked for."""
        return not (self.password or self.secret_arn)
