"""The broker: its jars, its settings, and its process.

Belongs here: starting, killing and starting it again over the same log. Does not belong here: topics, or
their messages. Needs Java.
"""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lakehouse.standins.servers.processes import free_port
from spark_jobs.engines.jars import Jars, fetched
from spark_jobs.engines.java import find_java, spark_home, tail

JARS = Jars("kafka-4.1.0", ("org.apache.kafka:kafka_2.13:4.1.0",), (), Path(__file__).parent)
USER = "streams_loader"
_SECONDS = 180


@dataclass
class Broker:
    """A broker that takes clients without a login at `plain`, and with one (SASL PLAIN, as `USER`, with
    `password`) at `guarded`."""

    folder: Path
    plain: str
    guarded: str
    password: str = field(repr=False)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                _java("kafka.Kafka", str(self.folder / "server.properties")),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(self.folder),
                start_new_session=True,
            )
        self._wait()

    def kill(self) -> None:
        """As a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _wait(self) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        assert self._process is not None
        # It is away at first: a client that has found nobody asks ever less often, up to each 10 s.
        client = AdminClient(
            {"bootstrap.servers": self.plain, "log_level": 0, "reconnect.backoff.max.ms": 200}
        )
        until = time.monotonic() + _SECONDS
        while True:
            try:
                client.list_topics(timeout=5)
                return
            except KafkaException:
                if self._process.poll() is not None or time.monotonic() > until:
                    said = (self.folder / "broker.log").read_text(errors="replace")
                    raise RuntimeError(f"the broker did not start: {tail(said)}") from None
                time.sleep(0.2)


@contextmanager
def broker() -> Iterator[Broker]:
    """A broker without topics, gone with its log at the end."""
    with tempfile.TemporaryDirectory(prefix="kafka-") as name:
        folder = Path(name)
        ports = [free_port() for _ in range(3)]
        made = Broker(
            folder, f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}", secrets.token_urlsafe(16)
        )
        properties = folder / "server.properties"
        properties.touch(mode=0o600)
        properties.write_text(_properties(made, ports[2]))
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        formatted = subprocess.run(
            _java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            text=True,
        )
        if formatted.returncode:
            raise RuntimeError(f"the broker's log could not be made: {tail(formatted.stdout)}")
        made.start()
        try:
            yield made
        finally:
            made.kill()


def _java(*arguments: str) -> list[str]:
    (scala,) = (spark_home() / "jars").glob("scala-library-2.13*.jar")
    class_path = os.pathsep.join(map(str, [*fetched(JARS), scala]))
    options = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
    return [str(find_java()), *options, "-cp", class_path, *arguments]


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "HOME": str(folder)}


def _properties(made: Broker, controller: int) -> str:
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://{made.plain},SASL_PLAINTEXT://{made.guarded},"
        f"CONTROLLER://127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
        "SASL_PLAINTEXT:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": (
            f'{login} user_{USER}="{made.password}";'
        ),
        "log.dirs": str(made.folder / "log"),
        "log.retention.check.interval.ms": "500",
        "log.cleaner.backoff.ms": "200",
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())
