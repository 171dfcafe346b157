"""Whether automation runs without being switched on in Dagster.

Belongs here: what sensors and schedules begin with. Does not belong here: any of them.
"""

from __future__ import annotations

import dagster as dg

from lakehouse.settings.model import Settings


def sensor_status(settings: Settings) -> dg.DefaultSensorStatus:
    """What a sensor begins with."""
    on = settings.schedules.active
    return dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED


def schedule_status(settings: Settings) -> dg.DefaultScheduleStatus:
    """What a schedule begins with."""
    on = settings.schedules.active
    return dg.DefaultScheduleStatus.RUNNING if on else dg.DefaultScheduleStatus.STOPPED
