"""Dagster's daemon, which dies as soon as a sensor has asked for a run of tables: its cursor still says
that nobody has.

    python -m tests.integration.dying_daemon run -w workspace.yaml
"""

from __future__ import annotations

import runpy
from typing import Any

import dagster as dg

from lakehouse.keys import RANGE_START_TAG
from tests.processes import die

submit = dg.DagsterInstance.submit_run


def submit_and_die(self: dg.DagsterInstance, *arguments: Any) -> dg.DagsterRun:
    run = submit(self, *arguments)
    if RANGE_START_TAG in run.tags:
        die()
    return run


if __name__ == "__main__":
    dg.DagsterInstance.submit_run = submit_and_die
    runpy.run_module("dagster._daemon", run_name="__main__")
