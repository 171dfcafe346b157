"""Engines: what a session is like on each, and that every way out of a process is a quick one.

Not here: what the engines answer (the other conformance tests compare that row by row).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.errors import PySparkException

from spark_jobs.engines import jars
from spark_jobs.engines import session as engines
from spark_jobs.engines.java import find_java
from spark_jobs.engines.session import Engine, EngineUnavailable

ENGINES = ["sail", pytest.param("spark", marks=pytest.mark.jvm)]
PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
    # A JVM that lives for a minute has no use for its second compiler.
    with Engine.start(request.param, cores=2, jvm_options=("-XX:TieredStopAtLevel=1",)) as engine:
        yield engine


def run_python(program: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_delta_table_is_written_and_read(engine, tmp_path):
    path = str(tmp_path / "table")
    rows = engine.spark.sql("select id, id % 2 = 0 as even from range(5)")
    rows.write.format("delta").partitionBy("even").save(path)
    read = engine.spark.read.format("delta").load(path).orderBy("id").toArrow()
    assert read.to_pylist() == [{"id": n, "even": n % 2 == 0} for n in range(5)]


def test_a_session_reads_and_shows_time_in_utc(engine):
    row = engine.spark.sql(
        "select current_timezone() as zone, timestamp'2026-07-01 12:00:00' as at,"
        " cast(timestamp'2026-07-01 12:00:00' as string) as shown"
    ).toArrow()
    assert row.to_pylist() == [
        {
            "zone": "UTC",
            "at": dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC),
            "shown": "2026-07-01 12:00:00",
        }
    ]


def test_a_bad_cast_is_an_error_not_a_null(engine):
    with pytest.raises(Exception, match=r"(?i)cast"):
        engine.spark.sql("select cast('x' as int)").collect()


def test_shuffles_have_as_many_partitions_as_cores(engine):
    assert engine.spark.conf.get("spark.sql.shuffle.partitions") == "2"


def test_a_python_function_imports_what_its_caller_can(engine):
    frame = engine.spark.range(3).mapInArrow(_with_answer, "id long, answer string")
    assert {row.answer for row in frame.collect()} == {Path(__file__).stem}


@pytest.mark.parametrize("engine", ENGINES[1:], indirect=True)
def test_the_jvm_asks_for_a_secret_on_its_other_ports_too(engine):
    assert engine.spark.conf.get("spark.authenticate") == "true"
    assert engine.spark.range(3).mapInArrow(_with_answer, "id long, answer string").count() == 3


def _with_answer(batches):
    for batch in batches:
        answers = pa.array([Path(__file__).stem] * batch.num_rows)
        yield pa.RecordBatch.from_arrays([batch.column(0), answers], names=["id", "answer"])


@pytest.mark.parametrize("name", ENGINES)
def test_a_forgotten_engine_ends_with_its_process_and_says_nothing(name, tmp_path):
    last_line = tmp_path / "last-line"
    ended = run_python(
        "import os, pathlib; from spark_jobs.engines.session import Engine\n"
        f"engine = Engine.start({name!r})\n"
        "assert engine.spark.range(3).count() == 3\n"
        "pathlib.Path(os.environ['LAST_LINE']).touch()",
        LAST_LINE=str(last_line),
    )
    seconds = time.time() - last_line.stat().st_mtime
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert seconds < 30


def test_an_engine_stops_when_its_block_raises():
    with pytest.raises(ZeroDivisionError), Engine.start("sail") as engine:
        _ = 1 / 0
    assert engine.spark.is_stopped


def test_stopping_twice_is_stopping_once():
    engine = Engine.start("sail")
    engine.stop()
    engine.stop()
    assert engine.spark.is_stopped


def test_a_pause_of_its_process_does_not_end_a_session(monkeypatch):
    def after_a_pause() -> int:
        with Engine.start("sail") as engine:
            assert engine.spark.range(3).count() == 3
            time.sleep(2.5)
            return int(engine.spark.range(3).count())

    day = 24 * 3600
    assert after_a_pause() == 3
    assert 7 * day < engines.SAIL_PAUSE
    monkeypatch.setenv("SAIL_SPARK__SESSION_TIMEOUT_SECS", "1")  # what Sail listens to
    with pytest.raises(PySparkException, match="is not running"):
        after_a_pause()


@pytest.mark.filterwarnings("ignore:.*RETRIES_EXCEEDED")
def test_a_server_that_died_is_an_error_in_seconds_and_does_not_hold_up_the_stop():
    engine = Engine.start("sail")
    engine._stop_server()
    began = time.monotonic()
    with pytest.raises(Exception, match="UNAVAILABLE"):
        engine.spark.range(1).collect()
    engine.stop()
    assert time.monotonic() - began < 30


def test_classic_sessions_are_possible_again_after_the_last_engine():
    others = list(engines._running)
    with Engine.start("sail"):
        assert "SPARK_CONNECT_MODE_ENABLED" in os.environ
    assert ("SPARK_CONNECT_MODE_ENABLED" in os.environ) == bool(others)


@pytest.mark.jvm
def test_the_jvm_ends_with_a_process_that_is_killed():
    killed = run_python(
        "import os, signal; from spark_jobs.engines.session import Engine\n"
        "engine = Engine.start('spark')\n"
        "server = engine._stop_server.__self__\n"
        "print(server._process.pid, server._folder, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert killed.returncode == -signal.SIGKILL
    pid, folder = killed.stdout.split()
    deadline = time.monotonic() + 30
    while Path(folder).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(folder).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_spark_remote_is_used_and_left_running(monkeypatch):
    with running(SERVER) as (server, port):
        monkeypatch.setenv("SPARK_REMOTE", f"sc://127.0.0.1:{port}")
        for _ in range(2):
            with Engine.start("spark") as engine:
                assert engine.name == "spark"
                assert engine.spark.range(3).count() == 3
        assert server.poll() is None


# A server for everybody, such as SPARK_REMOTE names; it ends with its standard input.
SERVER = """
from pysail.spark import SparkConnectServer
server = SparkConnectServer("127.0.0.1", 0)
server.start()
print(server.listening_address[1], flush=True)
input()
"""

# Another process that connects to a port, says so, and tells whether it was cut off.
STRANGER = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as stranger:
    stranger.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n")
    stranger.recv(1)
    print("connected", flush=True)
    try:
        while stranger.recv(1000):
            pass
    except ConnectionResetError:
        pass
"""


@contextmanager
def running(program, *arguments):
    """A Python program in a process of its own, and the first line that it prints."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_nobody_else_can_connect_to_the_embedded_engine():
    with Engine.start("sail") as engine:
        address = engine.spark.client._builder.endpoint.split(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address[0], int(address[1])), timeout=5)
        assert engine.spark.range(3).mapInArrow(_with_answer, "id long, answer string").count() == 3
        assert engine.spark.sql("select 1 as one").toArrow().to_pylist() == [{"one": 1}]


def test_an_engine_to_which_somebody_else_connected_while_it_started_is_refused(monkeypatch):
    from pysail.spark import SparkConnectServer  # noqa: TID251
    from pyspark.sql.connect.client import SparkConnectClient

    start, strangers = SparkConnectServer.start, ExitStack()

    def found_at_once(server, **options):
        start(server, **options)
        stranger = running(STRANGER, server.listening_address[1])
        strangers.enter_context(stranger)

    told = []
    monkeypatch.setattr(SparkConnectServer, "start", found_at_once)
    monkeypatch.setattr(SparkConnectClient, "__init__", lambda *_, **__: told.append("a session"))
    with strangers:
        before = list(engines._running)
        with pytest.raises(EngineUnavailable, match="another process connected"):
            Engine.start("sail")
        assert engines._running == before
    assert not told, "nothing is asked of an engine that a stranger has found"
    monkeypatch.undo()
    with Engine.start("sail") as engine:  # and the next one is none the worse
        assert engine.spark.range(3).count() == 3


def test_importing_the_module_imports_no_engine():
    ended = run_python(
        "import sys, spark_jobs.engines.session\n"
        "print({'pyspark', 'pysail', 'grpc', 'pandas', 'pyarrow'} & set(sys.modules))"
    )
    assert ended.stdout.strip() == "set()", ended.stderr


def test_without_java_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv("SPARK_REMOTE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnavailable, match="apt-get install openjdk-17-jre-headless"):
        Engine.start("spark")


def test_a_java_that_is_too_old_is_named(monkeypatch, tmp_path):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineUnavailable, match=f"Java 17 or later.*{java} is 11"):
        find_java()


@pytest.mark.parametrize("of", [jars.delta, jars.s3])
def test_a_jar_that_is_not_the_pinned_one_is_refused_by_name(tmp_path, of):
    wanted = of()
    names = list(wanted.pinned())
    for name in names:
        (tmp_path / name).write_bytes(b"not the jar")
    with pytest.raises(EngineUnavailable) as refused:
        jars.fetched(wanted, tmp_path)
    assert names[0] in str(refused.value)
    assert hashlib.sha256(b"not the jar").hexdigest() in str(refused.value)


def test_jars_of_a_release_that_nobody_has_pinned_are_not_fetched(tmp_path):
    unknown = jars.Jars("delta-99", ("io.delta:delta-spark_2.13:99",), ())
    with pytest.raises(EngineUnavailable, match=r"delta-spark_2\.13:99 are not pinned"):
        jars.fetched(unknown, tmp_path)


def test_an_unknown_engine_is_an_error():
    with pytest.raises(ValueError, match="unknown engine 'duck': one of sail, spark, ambient"):
        Engine.start("duck")
