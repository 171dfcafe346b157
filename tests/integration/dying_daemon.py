"""Dagster's daemon, which dies as soon as the sensor on landing has asked for a run of what reads
`prices`: its cursor still says that nobody has.

    python -m tests.integration.dying_daemon run -w workspace.yaml
"""

from __future__ import annotations

import runpy
from typing import Any

import dagster as dg

from lakehouse.automation.landing_sensor import NAME
from lakehouse.keys import DATASETS_TAG, SENSOR_TAG
from tests.processes import die

submit = dg.DagsterInstance.submit_run


def submit_and_die(self: dg.DagsterInstance, *arguments: Any) -> dg.DagsterRun:
    run = submit(self, *arguments)
    if run.tags.get(SENSOR_TAG) == NAME and "prices" in run.tags[DATASETS_TAG].split(","):
        die()
    return run


if __name__ == "__main__":
    dg.DagsterInstance.submit_run = submit_and_die
    runpy.run_module("dagster._daemon", run_name="__main__")
