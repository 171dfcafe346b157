"""Where the lake is: its zones, their buckets, and how to reach them.

Belongs here: the settings of storage. Does not belong here: reading or writing it (the data plane).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from lakehouse.settings.names import bucket_name
from lakehouse.settings.part import Part
from spark_jobs.report import ZONES, storage_options

Zone = Literal["landing", "bronze", "silver", "gold", "quarantine", "checkpoints", "ledger"]
Role = Literal["raw", "processed", "curated"]
BUCKET_OF: Mapping[Zone, Role] = {
    "landing": "raw",
    "bronze": "raw",
    "silver": "processed",
    "gold": "curated",
    "quarantine": "processed",
    "checkpoints": "processed",
    "ledger": "curated",
}


class LakeSettings(Part):
    """One root with a folder per zone, or buckets with the zones of `zones` in them."""

    root: str | None = None
    buckets: dict[Role, str] = Field(default_factory=dict)
    zones: dict[Zone, Role] = Field(default_factory=dict)
    storage_options: dict[str, str] = Field(default_factory=dict)

    @field_validator("buckets")
    @classmethod
    def _bucket_names(cls, buckets: dict[Role, str]) -> dict[Role, str]:
        return {role: bucket_name(name) for role, name in buckets.items()}

    @field_validator("storage_options")
    @classmethod
    def _no_credentials(cls, options: dict[str, str]) -> dict[str, str]:
        return storage_options(options)

    @model_validator(mode="after")
    def _one_of(self) -> LakeSettings:
        if (self.root is None) == (not self.buckets):
            raise ValueError("give either root or buckets")
        if self.buckets:
            missing = {"raw", "processed", "curated"} - set(self.buckets)
            if missing:
                raise ValueError(f"buckets: {', '.join(sorted(missing))} missing")
        return self

    def locations(self, home: Path) -> dict[str, str]:
        """The location of each zone: an absolute path or a URI. A root that is a path is below
        `home`."""
        if self.root is not None:
            root = self.root if "://" in self.root else str(home / self.root)
            return {zone: f"{root.rstrip('/')}/{zone}" for zone in ZONES}
        roles = {**BUCKET_OF, **self.zones}
        return {zone: f"s3://{self.buckets[role]}/{zone}" for zone, role in roles.items()}
