"""What every part of the settings has in common.

Belongs here: how strict the models are. Does not belong here: any setting.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Settings that belong together: an unknown key is an error, and nothing changes after load."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
