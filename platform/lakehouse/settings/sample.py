"""The sample that is delivered where there is no real data.

Belongs here: how much of it. Does not belong here: making it (standins/).
"""

from __future__ import annotations

from pydantic import Field

from lakehouse.settings.part import Part


class SampleSettings(Part):
    """The sample delivery of `lakehouse run` and `lakehouse deliver`; never where real data is."""

    deliver: bool = False
    scale: float = Field(default=0.01, gt=0)
    days: int = Field(default=14, ge=1)
