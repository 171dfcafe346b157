"""`lakehouse ui`: the Dagster webserver and daemon over the same lake and run history.

Belongs here: starting these processes, and ending every one of them. Does not belong here: what
they serve.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
import time
from typing import Any, NoReturn

import click

from lakehouse.settings.load import load_settings

GRACE_SECONDS = 10.0
"""For a run in progress to note that it was interrupted; without one they end in some 4 s."""

EXPOSED = """\
warning: whoever reaches {host}:{port} sees everything and can run everything: Dagster has no login.
Put a proxy with a login before it (docs/concepts/security.md)."""

_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.option("--port", default=3000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--name", "names", multiple=True, help="A name under which a proxy serves it.")
def ui(port: int, host: str, names: tuple[str, ...]) -> None:
    """Serve the Dagster UI with its daemon, until interrupted."""
    from lakehouse.local.instance import prepare_home

    settings = load_settings()
    prepare_home(settings)
    # The code location loads its settings itself, in processes of its own.
    os.environ["LAKEHOUSE_ENV"] = settings.environment
    os.environ["LAKEHOUSE_HOME"] = str(settings.home)
    os.chdir(settings.project)
    if not is_loopback(host):
        click.echo(EXPOSED.format(host=host, port=port), err=True)
    click.echo(f"Dagster UI: http://{host}:{port}")
    sys.stdout.flush()
    arguments = ["--host", host, "--port", str(port)]
    arguments += [part for name in names for part in ("--name", name)]
    sys.exit(serve([sys.executable, "-m", "lakehouse.local.webserver", *arguments]))


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may be anything
        return False


def serve(command: list[str], grace: float = GRACE_SECONDS) -> int:
    """Runs a command until it ends, or until this process is asked to; returns its exit code, 0 if
    it was asked. Nothing that the command has started outlives it.

    Dagster ends only the processes that it started itself. The code servers that those have started
    would otherwise wait for the end of a heartbeat, with the terminal still theirs.
    """
    for number in _STOP:  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, _stop)
    # A group of its own: a terminal's Ctrl-C reaches this process alone, which then ends the group.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait()
    finally:
        for number in _STOP:
            signal.signal(number, signal.SIG_IGN)
        end_group(process.pid, grace)


def _stop(number: int, frame: Any) -> NoReturn:
    raise SystemExit(0)


def end_group(group: int, grace: float) -> None:
    """Ends a process group of a child: SIGTERM, and SIGKILL for what is left after the grace."""
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, grace)):
        until = time.monotonic() + seconds
        try:
            os.killpg(group, number)
            while time.monotonic() < until:
                _reap(group)
                os.killpg(group, 0)
                time.sleep(0.05)
        except ProcessLookupError:
            return


def _reap(group: int) -> None:
    """Takes note of children that have ended: until then they count as members of the group."""
    try:
        while os.waitpid(-group, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return
