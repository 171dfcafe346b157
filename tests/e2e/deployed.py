"""A deployment as in production on this machine: a code location, a daemon and a webserver, each a
process of its own, over a run history in PostgreSQL.

Belongs here: starting, killing and restarting these processes. Does not belong here: what must hold.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from lakehouse.local.instance import prepare_home, write_workspace
from lakehouse.settings import load as environments
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.standins.servers.redshift.postgres import SUPERUSER, running
from tests import documents
from tests.e2e.dagster_ui import Ui, free_port, wait_for

PASSWORD = "DAGSTER_DB_PASSWORD"
# The code location: the lake's own definitions, of the settings in a folder of this test.
CODE = """
import os
from lakehouse.definitions import build_definitions
from lakehouse.settings.load import load_settings
defs = build_definitions(load_settings(folder=os.environ["SETTINGS"]))
"""


@dataclass
class Deployment:
    """`ui` asks its webserver."""

    settings: Settings
    folder: Path
    ui: Ui
    commands: dict[str, list[str]]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Starts one of the processes as the documents do: `code`, `daemon` or `web`."""
        command = self.commands[name]
        environment = {**os.environ, "SETTINGS": str(self.folder), PASSWORD: "not asked for"}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(Path(sys.executable).with_name(command[0])), *command[1:]],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """As a machine that goes away: everything below the process dies with it."""
        os.killpg(self.processes[name].pid, signal.SIGKILL)
        self.processes.pop(name).wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")


@contextmanager
def deployed(folder: Path) -> Iterator[Deployment]:
    """The three processes, up and answering, over the sample's settings; nothing is delivered."""
    (folder / "code_location.py").write_text(CODE)
    with running() as postgres:
        postgres.create_database("dagster")
        data = yaml.safe_load(
            (Path(environments.__file__).parent / "environments/local.yaml").read_text()
        )
        data["instance"] = {
            "storage": "postgres",
            "host": str(postgres.socket.parent),
            "database": "dagster",
            "user": SUPERUSER,
            "password": {"secret": PASSWORD},
            "watch_seconds": 5,
        }
        (folder / "local.yaml").write_text(yaml.safe_dump(data))
        os.environ[PASSWORD] = "not asked for"
        settings = load_settings(folder=folder, home=folder / "home")
        os.environ["LAKEHOUSE_HOME"] = str(settings.home)
        prepare_home(settings)
        code, web = free_port(), free_port()
        write_workspace(settings.dagster_home, "127.0.0.1", code)
        ui = Ui(f"http://127.0.0.1:{web}", settings.home)
        found = Deployment(settings, folder, ui, _commands(settings, code, web))
        try:
            for name in found.commands:
                found.start(name)
            wait_for("the assets", lambda: _assets(found.ui))
            yield found
        finally:
            for name in list(found.processes):
                found.kill(name)


def _commands(settings: Settings, code: int, web: int) -> dict[str, list[str]]:
    """The commands of the documents, on free ports and with the settings of this test."""
    blocks = documents.blocks(documents.PROJECT / "docs/how-to/deploy.md")
    (text,) = (b.text for b in blocks if b.title == documents.A_PROCESS_EACH)
    for told, here in (
        ("--module-name lakehouse.definitions", "--python-file code_location.py"),
        ("--port 4000", f"--port {code}"),
        ("--port 3000", f"--port {web}"),
        ("$DAGSTER_HOME", str(settings.dagster_home)),
    ):
        assert told in text
        text = text.replace(told, here)
    return dict(zip(("code", "daemon", "web"), map(shlex.split, text.splitlines()), strict=True))


def _assets(ui: Ui) -> dict[str, list[str]]:
    """What the webserver knows of; nothing while it, or the code location, does not answer yet."""
    try:
        return ui.assets()
    except OSError:
        return {}
