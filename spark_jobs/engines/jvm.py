"""The JVM behind the `spark` engine: find Java, fetch the Delta jars, run a Spark Connect server.

Belongs here: processes, jars and the settings a server takes at its start. Does not belong here:
sessions and their order of shutdown (`session.py`, the only caller).

The server is a process of its own, so that its memory, its log and its end are too. It listens on
localhost, asks for a token that only this process knows, and ends with this process, however that
ends.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from spark_jobs.errors import EngineUnavailable

PINNED = Path(__file__).with_name("delta-jars.sha256")
MINIMUM_JAVA = 17
START_SECONDS = 120
STOP_SECONDS = 10

# Delta needs the two jars of its own and what Spark ships already. Left alone, Ivy also brings a
# second Hadoop client and an older Parquet, which then shadow Spark's.
EXCLUDED = (
    "com.*:*,commons-*:*,io.airlift:*,io.delta:delta-kernel*,io.unitycatalog:*,javax.*:*,org.*:*"
)

# What makes Spark a Delta one; it takes them at its start alone.
DELTA_PROPERTIES = {
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
}

LOG4J = """\
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n
logger.server.name = org.apache.spark.sql.connect.service.SparkConnectServer
logger.server.level = info
"""
LISTENING = re.compile(r"Spark Connect server started at: \S+:(\d+)")


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


def find_java() -> Path:
    """The first Java of 17 or later, of `JAVA_HOME` and `PATH`."""
    home = os.environ.get("JAVA_HOME")
    found = []
    for java in (Path(home, "bin", "java") if home else None, shutil.which("java")):
        if java is None or not os.access(java, os.X_OK):
            continue
        said = subprocess.run(
            [java, "-version"], capture_output=True, text=True, stdin=subprocess.DEVNULL
        ).stderr
        release = re.search(r'version "(?:1\.)?(\d+)', said)
        if release and int(release[1]) >= MINIMUM_JAVA:
            return Path(java)
        found.append(f"{java} is {release[1] if release else 'not a Java'}")
    raise EngineUnavailable(
        f"the spark engine needs Java {MINIMUM_JAVA} or later, on PATH or under JAVA_HOME "
        f"({'; '.join(found) or 'found none'}). "
        "On Debian and Ubuntu: apt-get install openjdk-17-jre-headless"
    )


def delta_jars(folder: Path | None = None) -> list[Path]:
    """The Delta jars of the installed `delta-spark` and `pyspark`, fetched once and verified.

    Raises `EngineUnavailable` naming the jar when one cannot be had or is not the pinned one.
    """
    folder = folder or default_jars_dir()
    delta = version("delta-spark")
    spark = ".".join(version("pyspark").split(".")[:2])
    # Delta 4.0 is for one Spark, and later ones name theirs.
    artifact = "delta-spark_2.13" if delta.startswith("4.0.") else f"delta-spark_{spark}_2.13"
    coordinates = f"io.delta:{artifact}:{delta}"
    # The names under which Ivy puts them: <group>_<artifact>-<version>.jar
    names = [
        f"io.delta_{artifact}-{delta}.jar",
        f"io.delta_delta-storage-{delta}.jar",
    ]
    pinned = _pinned_sums(names)
    if not all((folder / name).exists() for name in names):
        _fetch(coordinates, names, folder)
    for name in names:
        if (got := _sha256(folder / name)) != pinned[name]:
            raise EngineUnavailable(
                f"{folder / name} has SHA-256 {got}, and {PINNED.name} pins {pinned[name]}. "
                "Remove the file to have it fetched again; if it stays different, do not use it."
            )
    return [folder / name for name in names]


def default_jars_dir() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "lakehouse", "jars")


def start_server(
    *, cores: int, memory: str, jars_dir: Path | None, options: tuple[str, ...]
) -> ConnectServer:
    """Start a Connect server on a free port of localhost and wait until it listens."""
    java = find_java()
    jars = delta_jars(jars_dir)
    folder = Path(tempfile.mkdtemp(prefix="lakehouse-spark-"))
    (folder / "log4j2.properties").write_text(LOG4J)
    log = folder / "server.log"
    token = secrets.token_urlsafe(24)
    environment = _environment(java) | {
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
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.local.dir": str(folder / "local"),
        **DELTA_PROPERTIES,
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.ui.enabled": "false",
    }
    command = [
        *_spark_submit("--master", f"local[{cores}]", "--driver-memory", memory),
        *("--driver-class-path", os.pathsep.join(map(str, jars))),
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
                f"Spark's server ended at its start with code {process.returncode}:\n{_tail(text)}"
            )
        time.sleep(0.05)
    raise EngineUnavailable(f"Spark's server did not start in {START_SECONDS} s:\n{_tail(text)}")


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


def _fetch(coordinates: str, names: list[str], folder: Path) -> None:
    """Have Spark's own Ivy resolve the jars, with the settings of the user's Spark if any."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ivy-", dir=folder) as ivy:
        nothing = Path(ivy, "nothing.py")
        nothing.touch()  # spark-submit resolves packages on the way to running something
        said = subprocess.run(
            [
                *_spark_submit("--master", "local[1]", "--packages", coordinates),
                *("--exclude-packages", EXCLUDED, "--conf", f"spark.jars.ivy={ivy}"),
                str(nothing),
            ],
            env=_environment(find_java()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in names:
            jar = Path(ivy, "jars", name)
            if not jar.exists():
                raise EngineUnavailable(
                    f"could not fetch {name} ({coordinates}); offline, put it into {folder} "
                    f"yourself. Ivy said:\n{_tail(said.stdout)}"
                )
            os.replace(jar, folder / name)


def _pinned_sums(names: list[str]) -> dict[str, str]:
    sums = {name: sum_ for sum_, name in map(str.split, PINNED.read_text().splitlines())}
    if missing := [name for name in names if name not in sums]:
        raise EngineUnavailable(
            f"{PINNED.name} pins no {', '.join(missing)}: pyspark or delta-spark has changed; "
            "pin the sums of the new jars"
        )
    return sums


def _spark_submit(*arguments: str) -> list[str]:
    return ["bash", str(_spark_home() / "bin" / "spark-submit"), *arguments]


def _spark_home() -> Path:
    import pyspark

    home = Path(pyspark.__file__).parent
    if not (home / "jars").is_dir():
        raise EngineUnavailable(
            "the installed pyspark has no jars (is it pyspark-client?): "
            "install pyspark[connect], or set SPARK_REMOTE to a running server"
        )
    return home


def _environment(java: Path) -> dict[str, str]:
    """What a JVM of Spark inherits: this Java, this Python, and this Python's path."""
    client_only = {"SPARK_CONNECT_MODE_ENABLED", "SPARK_REMOTE"}
    inherited = {name: value for name, value in os.environ.items() if name not in client_only}
    return inherited | {
        "JAVA_HOME": str(java.resolve().parent.parent),
        "PYSPARK_PYTHON": sys.executable,
        # Functions travel to Spark's Python workers by name: they import what this process can.
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "SPARK_HOME": str(_spark_home()),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.splitlines()[-lines:])
