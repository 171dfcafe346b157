"""Readings of freezer sensors, as a stream's hourly files deliver them in JSON lines.

Here: eight freezers in four places, a reading every five minutes, and the planted faults. Not here:
what a temperature means (`silver.sensor_readings` classifies it).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from lakehouse.standins.data import faults, files
from lakehouse.standins.data.faults import Fault, missing
from lakehouse.standins.data.plan import HOUR_US, Plan
from lakehouse.standins.data.record import Tally

NAME = "sensor_readings"
FREEZERS = tuple(
    (f"freezer-{number:02d}", location)
    for number, location in enumerate(
        ("vienna-dock", "lyon-hub", "leeds-store", "denver-plant") * 2, start=1
    )
)
EVERY_MINUTES = 5
PER_HOUR = len(FREEZERS) * 60 // EVERY_MINUTES
EXCURSIONS = 0.02
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the sensors write times without a zone

FAULTS = (
    Fault("unparsable", "", None, ("parsable",), "unreadable"),
    Fault(
        "wrong_type",
        "temperature_celsius",
        "cold",
        ("temperature_celsius_type", "temperature_celsius_not_null"),
    ),
    missing("sensor_id"),
    Fault("out_of_range", "temperature_celsius", 999.9, ("temperature_celsius_range",)),
    missing("timestamp", "reading_ts"),
    Fault("wrong_type", "timestamp", "around noon", ("reading_ts_type", "reading_ts_not_null")),
    missing("temperature_celsius"),
    missing("arrival_timestamp", "arrival_ts"),
)
NO_LOCATION = Fault("null", "location", None, ("location_not_null",), "warn")


@dataclass
class Sensors:
    plan: Plan

    def deliver(self, index: int) -> Iterator[tuple[bytes, Tally]]:
        """The day's 24 files, one per hour of arrival."""
        for hour in range(24):
            yield self._hour(index, hour)

    def _hour(self, index: int, hour: int) -> tuple[bytes, Tally]:
        tally = Tally(NAME, f"{self.plan.partition(index)}T{hour:02d}")
        number = index * 24 + hour
        readings = self._readings(number)
        records = [record for record, _ in readings]
        cut: set[int] = set()
        if self.plan.faults:
            cut = self._spoil(records, readings, number, tally)
        tally.read = len(records)
        tally.sensor_hours = len(FREEZERS)  # a fault or two an hour never empties a freezer's hour
        return files.json_lines(records, cut), tally

    def _readings(self, number: int) -> list[tuple[dict[str, Any], int]]:
        """Readings of one hour with the microsecond of their arrival, in order of arrival."""
        start = self.plan.midnight(0) + number * HOUR_US
        ids = number * PER_HOUR + np.arange(PER_HOUR)
        noise = self.plan.draw(NAME, "noise").unit(ids)
        delay = 1_000 + self.plan.draw(NAME, "delay").below(ids, 8_000)
        # One draw per freezer and hour: does its door stay open, and for how long?
        doors = self.plan.draw(NAME, "door").unit(number * len(FREEZERS) + np.arange(len(FREEZERS)))
        readings = []
        for at in range(PER_HOUR):
            step, freezer = divmod(at, len(FREEZERS))
            sensor_id, location = FREEZERS[freezer]
            celsius = (
                -18.0
                + 1.5 * (noise[at] - 0.5)
                + 0.4 * math.sin(number / 24 * 2 * math.pi + freezer)
            )
            if doors[freezer] < EXCURSIONS:
                celsius += (
                    30.0 * math.exp(-(((step - 6) / 3) ** 2)) * (0.4 + doors[freezer] / EXCURSIONS)
                )
            taken = start + step * EVERY_MINUTES * 60_000_000
            arrived = taken + int(delay[at]) * 1_000
            record = {
                "timestamp": _iso(taken)[:-4],
                "sensor_id": sensor_id,
                "location": location,
                "temperature_celsius": round(celsius, 2),
                "arrival_timestamp": _iso(arrived) + "Z",
            }
            readings.append((record, arrived))
        return readings

    def _spoil(
        self,
        records: list[dict[str, Any]],
        readings: list[tuple[dict[str, Any], int]],
        number: int,
        tally: Tally,
    ) -> set[int]:
        """Every second hour one wrong record; now and then a copy, a correction, a straggler."""
        chosen = self._roles(number)
        planted = faults.distribute(chosen[:1], FAULTS, 1, number // 2) if number % 2 == 0 else []
        if number % 6 == 1:
            planted.append((NO_LOCATION, chosen[1:2]))
        if number % 4 == 3:
            records.append(dict(records[chosen[2]]))
            tally.repeat(_key(readings[chosen[2]][0]), readings[chosen[2]][1], 2)
            tally.plant("duplicate", 1)
        if number and number % 5 == 0:
            records.append(self._again(number, 3, +HOUR_US, -0.5, "late_update", tally))
        if number and number % 8 == 0:
            records.append(self._again(number, 4, -1_000, +25.0, "older_after_newer", tally))
        for fault, at in planted:
            fault.count(tally, len(at))
        tally.plant("no_zone", len(records) if number == 0 else 0)
        return faults.spoil_records(records, planted)

    def _roles(self, number: int) -> np.ndarray:
        return self.plan.draw(NAME, "roles").first(number * PER_HOUR + np.arange(PER_HOUR), 5)

    def _again(
        self, number: int, role: int, later: int, warmer: float, kind: str, tally: Tally
    ) -> dict[str, Any]:
        """A reading of the hour before once more, with another arrival time and temperature."""
        record, arrived = self._readings(number - 1)[self._roles(number - 1)[role]]
        index, hour = divmod(number - 1, 24)
        tally.repeat(_key(record), arrived + later)
        tally.follows(_key(record), f"{self.plan.partition(index)}T{hour:02d}", arrived)
        tally.plant(kind, 1)
        celsius = round(record["temperature_celsius"] + warmer, 2)
        return {
            **record,
            "temperature_celsius": celsius,
            "arrival_timestamp": _iso(arrived + later) + "Z",
        }


def _key(record: dict[str, Any]) -> str:
    return f"{record['sensor_id']}|{record['timestamp']}"


def _iso(us: int) -> str:
    return (EPOCH + timedelta(microseconds=us)).isoformat(timespec="milliseconds")
