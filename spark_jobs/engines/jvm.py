"""The JVM behind the `spark` engine: a Spark Connect server.

Belongs here: its process, and the settings that it takes at its start. Does not belong here: Java and
jars (`java.py`, `jars.py`), or sessions and their order of shutdown (`session.py`, the only caller).

The server is a process of its own, so that its memory, its log and its end are too. It listens on
localhost, asks for a token that only this process knows, and ends with this process, however that
ends.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spark_jobs.engines import jars, s3a
from spark_jobs.engines.java import spark_submit, submit_environment, tail
from spark_jobs.errors import EngineUnavailable

if TYPE_CHECKING:
    from spark_jobs.lake.storage import Storage

START_SECONDS = 120
STOP_SECONDS = 10

# What makes Spark a Delta one; it takes them at its start alone.
DELTA_PROPERTIES = {
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
}

_LOG4J = """\
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n
"""
# Of the server, at level info: where it listens.
_SERVER = """\
logger.server.name = org.apache.spark.sql.connect.service.SparkConnectServer
logger.server.level = info
"""
LISTENING = re.compile(r"Spark Connect server started at: \S+:(\d+)")


def log4j(level: str) -> str:
    """The `log4j2.properties` of a JVM that logs to stderr, from a level on."""
    return f"rootLogger.level = {level}\n{_LOG4J}"


@dataclass(frozen=True)
class ConnectServer:
    """A running server: where a client connects, and the processes to end."""

    url: str
    _process: subprocess.Popen[bytes]
    _watchdog: subprocess.Popen[bytes]
    _folder: Path

    def stop(self) -> None:
        self._watchdog.kill()
        self._watchdog.communicate()  # which closes its input too
        _end(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)


def start_server(
    *,
    cores: int,
    memory: str,
    store: Storage | None = None,
    jars_dir: Path | None = None,
    options: tuple[str, ...] = (),
) -> ConnectServer:
    """Start a Connect server on a free port of localhost and wait until it listens. `store` says how
    an object store is reached, if there is one."""
    environment = submit_environment()
    needed = [jars.delta()] if store is None else [jars.delta(), jars.s3()]
    class_path = [str(jar) for wanted in needed for jar in jars.fetched(wanted, jars_dir)]
    folder = Path(tempfile.mkdtemp(prefix="lakehouse-spark-"))
    (folder / "log4j2.properties").write_text(log4j("error") + _SERVER)
    log = folder / "server.log"
    token = secrets.token_urlsafe(24)
    environment |= {
        "SPARK_CONF_DIR": str(folder),  # this log4j2.properties, and nobody's spark-defaults.conf
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_CONNECT_AUTHENTICATE_TOKEN": token,
    }
    conf = {
        # The driver's other two ports, for executors that a local master has not, ask for a secret
        # that Spark makes up itself.
        "spark.authenticate": "true",
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": "0",
        # Its only client ends it, however long that does something else in between.
        "spark.connect.session.manager.defaultSessionTimeout": "-1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.local.dir": str(folder / "local"),
        **DELTA_PROPERTIES,
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        # The client asks, and would look for IPython at each call (session.py).
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        "spark.ui.enabled": "false",
        **({} if store is None else s3a.conf(store)),
    }
    command = [
        *spark_submit("--master", f"local[{cores}]", "--driver-memory", memory),
        *("--driver-class-path", os.pathsep.join(class_path)),
        *("--driver-java-options", " ".join(options)),
        *(part for key, value in conf.items() for part in ("--conf", f"{key}={value}")),
        *("--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"),
    ]
    with log.open("wb") as out:
        # A session of its own: Ctrl-C must not end the server before its client is done.
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    watchdog = _end_with_this_process(process, folder)
    try:
        port = _wait_until_listening(process, log)
    except BaseException:
        ConnectServer("", process, watchdog, folder).stop()
        raise
    # grpc sends a token over plain text to the name `localhost` only.
    return ConnectServer(f"sc://localhost:{port}/;token={token}", process, watchdog, folder)


def _wait_until_listening(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        text = log.read_text(errors="replace")
        if listening := LISTENING.search(text):
            return int(listening[1])
        if ended:
            raise EngineUnavailable(
                f"Spark's server ended at its start with code {process.returncode}:\n{tail(text)}"
            )
        time.sleep(0.05)
    raise EngineUnavailable(f"Spark's server did not start in {START_SECONDS} s:\n{tail(text)}")


def _end_with_this_process(
    server: subprocess.Popen[bytes], folder: Path
) -> subprocess.Popen[bytes]:
    """End the server when this process does, `kill -9` included: its end closes the pipe."""
    script = 'cat >/dev/null; kill "$0"; while kill -0 "$0"; do sleep 0.2; done; rm -rf "$1"'
    return subprocess.Popen(
        ["sh", "-c", script, str(server.pid), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
