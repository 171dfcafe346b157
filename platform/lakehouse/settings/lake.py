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
# The bucket of each zone that has none of its own name, and that the settings do not map.
BUCKET_OF: Mapping[Zone, str] = {
    "landing": "raw",
    "bronze": "raw",
    "silver": "processed",
    "gold": "curated",
    "quarantine": "processed",
    "checkpoints": "processed",
    "ledger": "curated",
}


class LakeSettings(Part):
    """One root with a folder per zone, or buckets by names of your own. A zone is in the bucket that
    `zones` names for it, else in that of its own name, else in `raw`, `processed` or `curated`.
    `landing`: where others deliver to, if that is elsewhere than the root."""

    root: str | None = None
    landing: str | None = None
    buckets: dict[str, str] = Field(default_factory=dict)
    zones: dict[Zone, str] = Field(default_factory=dict)
    storage_options: dict[str, str] = Field(default_factory=dict)

    @field_validator("buckets")
    @classmethod
    def _bucket_names(cls, buckets: dict[str, str]) -> dict[str, str]:
        return {name: bucket_name(bucket) for name, bucket in buckets.items()}

    @field_validator("storage_options")
    @classmethod
    def _no_credentials(cls, options: dict[str, str]) -> dict[str, str]:
        return storage_options(options)

    @model_validator(mode="after")
    def _one_of(self) -> LakeSettings:
        if (self.root is None) == (not self.buckets):
            raise ValueError("give either root or buckets")
        if self.buckets and self.landing:
            raise ValueError("landing: buckets have a place for it; give it one of its own there")
        if self.buckets:
            used = {zone: self._bucket_of(zone) for zone in BUCKET_OF}
            if missing := {name for name in used.values() if name not in self.buckets}:
                without = ", ".join(z for z, name in used.items() if name in missing)
                raise ValueError(f"buckets: {', '.join(sorted(missing))} missing, for {without}")
            if unused := self.buckets.keys() - set(used.values()):
                raise ValueError(f"buckets: no zone is in {', '.join(sorted(unused))}")
        elif self.zones:
            raise ValueError("zones: a root has a folder for each; give buckets instead")
        return self

    def _bucket_of(self, zone: Zone) -> str:
        return self.zones.get(zone) or (zone if zone in self.buckets else BUCKET_OF[zone])

    def locations(self, home: Path) -> dict[str, str]:
        """The location of each zone: an absolute path or a URI. What is given as a path is below
        `home`."""
        if self.root is not None:
            found = {zone: f"{_place(self.root, home)}/{zone}" for zone in ZONES}
            return found | ({"landing": _place(self.landing, home)} if self.landing else {})
        return {zone: f"s3://{self.buckets[self._bucket_of(zone)]}/{zone}" for zone in BUCKET_OF}


def _place(given: str, home: Path) -> str:
    return (given if "://" in given else str(home / given)).rstrip("/")
