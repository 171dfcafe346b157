"""Running each table in a process of its own, started and heard through Dagster Pipes.

Belongs here: that process. Does not belong here: what it does (spark_jobs/__main__.py), or what its
messages mean (runner.py).

It costs the start of Python and of an engine per table, and gives what a shared process cannot: its
memory ends with it, and a crash of an engine takes one table with it, not the code location.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from lakehouse.engines.runner import received
from spark_jobs.errors import ReportMissing
from spark_jobs.report import RunSpec, TableReport

# Beyond it a process that was asked to end is left to itself. It cleans up in less.
_END_SECONDS = 60.0


@dataclass(frozen=True)
class ProcessRunner:
    """`command` starts the data plane's entry point, by default that of this Python's packages and
    not one that lies in the working directory."""

    command: Sequence[str] = (sys.executable, "-P", "-m", "spark_jobs")

    def run(self, context: dg.AssetExecutionContext, spec: RunSpec) -> TableReport:
        from lakehouse.dagster_private import DagsterPipesExecutionError

        client = dg.PipesSubprocessClient(termination_timeout_seconds=_END_SECONDS)
        # A file of this user's, since an argument has a limit, and everybody can read it.
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(spec.model_dump_json())
            file.flush()
            command = [*self.command, "run", "--spec", file.name]
            try:
                done = client.run(context=context, command=command)
            except DagsterPipesExecutionError as error:
                raise ReportMissing(
                    f"{spec.table}: its process ended before it could report ({error}); a negative"
                    " code is the signal that killed it, such as -9 for want of memory. Run it again:"
                    " what it had published is found, and nothing is published twice."
                ) from None
        return received(done.get_custom_messages(), spec)
