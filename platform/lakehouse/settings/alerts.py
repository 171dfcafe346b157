"""Where alerts go.

Belongs here: the settings of topics. Does not belong here: what is sent there, and
sending it (signals/).
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from lakehouse.settings.part import Part

_SNS_ARN = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}")


class SnsTopic(Part):
    """A standard SNS topic: a FIFO topic delivers to no mailbox."""

    target: Literal["sns"]
    arn: str

    @field_validator("arn")
    @classmethod
    def _is_arn(cls, arn: str) -> str:
        if not _SNS_ARN.fullmatch(arn):
            raise ValueError(
                "the value is not the ARN of a standard SNS topic such as"
                " arn:aws:sns:eu-central-1:123456789012:alerts"
            )
        return arn

    @property
    def region(self) -> str:
        return self.arn.split(":")[3]


class FileTopic(Part):
    """A file of JSON lines below `home`, for environments without a message service."""

    target: Literal["file"]
    path: str


class AlertTopics(Part):
    """A topic per severity; no topic, no alert of that severity."""

    critical: SnsTopic | FileTopic | None = Field(default=None, discriminator="target")
    warning: SnsTopic | FileTopic | None = Field(default=None, discriminator="target")


class AlertSettings(Part):
    """Where alerts go. They are sent where `schedules.active` is true, or the sensor is on."""

    topics: AlertTopics = AlertTopics()
