"""`lakehouse ui`: the Dagster webserver and daemon over the same lake and run history."""

from __future__ import annotations

import os
import signal
import sys

import click

from lakehouse.settings import load_settings


@click.command()
@click.option("--port", default=3000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
def ui(port: int, host: str) -> None:
    """Serve the Dagster UI with its daemon, until interrupted."""
    from lakehouse.instance import prepare_home

    settings = load_settings()
    prepare_home(settings)
    # The code location loads its settings itself, in processes of its own.
    os.environ["LAKEHOUSE_ENV"] = settings.environment
    os.environ["LAKEHOUSE_HOME"] = str(settings.home)
    os.chdir(settings.project)
    click.echo(f"Dagster UI: http://{host}:{port}")
    sys.stdout.flush()
    where = ["-m", "lakehouse.definitions"]
    if (settings.project / "workspace.yaml").is_file():
        where = ["-w", "workspace.yaml"]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in the background by a shell: Dagster would take no signal to stop.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    arguments = ["dev", *where, "-h", host, "-p", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "dagster", *arguments])
