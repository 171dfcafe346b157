"""The `lakehouse` command: one module per subcommand, imported when it is called.

Belongs here: the list of subcommands. A new one is a module in this package with a click command
in it, and a line in COMMANDS. Does not belong here: what any of them does.
"""

from __future__ import annotations

import gc
import importlib
import os
import traceback

import click
from click.exceptions import Exit

from spark_jobs import quoting
from spark_jobs.errors import LakehouseError
from spark_jobs.permissions import keep_files_private

COMMANDS = {
    "run": "lakehouse.cli.run:run",
    "materialize": "lakehouse.cli.materialize:materialize",
    "backfill": "lakehouse.cli.backfill:backfill",
    "extract": "lakehouse.cli.extract:extract",
    "doctor": "lakehouse.cli.doctor:doctor",
    "gaps": "lakehouse.cli.gaps:gaps",
    "check": "lakehouse.cli.check:check",
    "contract": "lakehouse.cli.contract:contract",
    "reconcile": "lakehouse.cli.reconcile:reconcile",
    "quarantine": "lakehouse.cli.quarantine:quarantine",
    "deliver": "lakehouse.cli.deliver:deliver",
    "deploy": "lakehouse.cli.deploy:deploy",
    "load": "lakehouse.cli.load:load",
    "hand-over": "lakehouse.cli.hand_over:hand_over",
    "rehearse": "lakehouse.cli.rehearse:rehearse",
    "stream": "lakehouse.cli.stream:stream",
    "ui": "lakehouse.cli.ui:ui",
}


# A command's objects stay until it ends, most of them modules. Python's own thresholds have each
# collection go through them again: a tenth of the time of a run with nothing to do.
_COLLECT_AFTER = (100_000, 100, 1000)
TRACEBACK = "LAKEHOUSE_TRACEBACK"
_OURS = ("lakehouse.", "spark_jobs.")


def _told(error: Exception) -> str:
    """What an unforeseen error is and where it was raised: its message may quote values of rows."""
    raised = [
        (frame.f_globals.get("__name__", "?"), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    ours = [(name, line) for name, line in raised if name.startswith(_OURS)]
    places = dict.fromkeys([raised[-1], *ours[-1:]])
    where = ", called by ".join(f"{name}, line {line}" for name, line in places)
    return (
        f"{type(error).__name__} in {where}: a defect, or something that nobody foresaw. Set"
        f" {TRACEBACK}=1 to see the traceback, which may quote values of rows."
    )


class _CannotRun(click.ClickException):
    """Nothing was begun, as opposed to 1: something was, and failed."""

    exit_code = 2


class _Commands(click.Group):
    """Imports a subcommand when it is needed: none of them waits for the libraries of another."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def invoke(self, ctx: click.Context) -> object:
        gc.set_threshold(*_COLLECT_AFTER)
        try:
            keep_files_private()
            return super().invoke(ctx)
        except LakehouseError as error:  # says what to do: no traceback
            raise _CannotRun(str(error)) from error
        except (BrokenPipeError, click.ClickException, click.Abort, Exit):
            raise
        except OSError as error:
            text = f"{quoting.said(error)}. Check the place, then run again."
            raise click.ClickException(text) from error  # nobody knows what had been done
        except Exception as error:
            if os.environ.get(TRACEBACK):
                raise
            raise click.ClickException(_told(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lakehouse")
def main() -> None:
    """Run and look after the lake.

    LAKEHOUSE_ENV chooses the environment (default: local), LAKEHOUSE_HOME the folder of local
    state (default: .lakehouse in the project).
    """
