"""What is shipped to where tables run elsewhere, and where it is kept.

Belongs here: the settings of artifacts. Does not belong here: building or reading them (artifacts/).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from lakehouse.settings.part import Part
from spark_jobs import credentials


class Target(Part):
    """What the packages of an artifact are made for: the Python and the processor of the service."""

    python: Literal["3.11", "3.12", "3.13"] = "3.11"
    architecture: Literal["x86_64", "arm64"] = "x86_64"


class ArtifactSettings(Part):
    """`location` is a folder below `home`, or a URI such as `s3://bucket`, or a folder of
    a volume of Unity Catalog, `/Volumes/<catalog>/<schema>/<volume>`. Runs use the current
    artifact of it, or always `version`."""

    location: str = "artifacts"
    version: str | None = Field(default=None, pattern=r"^[0-9a-f]{16}$")
    target: Target = Target()

    @field_validator("location")
    @classmethod
    def _no_credentials(cls, location: str) -> str:
        return credentials.refused({"location": location})["location"].rstrip("/")

    def root(self, home: Path) -> str:
        return self.location if "://" in self.location else str(home / self.location)
