"""Starting and stopping engines: the one place in the data plane that does either.

Belongs here: choosing an engine, the settings that make `sail` and `spark` answer alike, and the
order of shutdown. Does not belong here: reading, writing or anything about a table (`publish.py`
owns every write), and how a JVM is found, fed and run (`jvm.py`).

Importing this module is cheap: PySpark, Sail and gRPC are imported when an engine starts.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from spark_jobs.engines import variables
from spark_jobs.engines.jvm import start_server
from spark_jobs.engines.listener import only_client
from spark_jobs.errors import EngineUnavailable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.connect.client import DefaultChannelBuilder

    from spark_jobs.lake.storage import Storage

__all__ = ["Engine", "EngineName", "EngineUnavailable"]

EngineName = Literal["sail", "spark", "ambient"]

# What the answers depend on; a session that does not take these is refused.
MEANING = {"spark.sql.session.timeZone": "UTC", "spark.sql.ansi.enabled": "true"}

# The client notes for each call where in the code it stands, and looks for IPython each time. Errors of
# a transform name its file and line all the same: Python's own traceback has them.
CLIENT = {"spark.python.sql.dataFrameDebugging.enabled": "false"}

# What a JVM session writes. Parquet timestamps are microseconds in the proleptic calendar, as every
# other reader and writer of the lake has them.
PARQUET = {
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}
# And how fast a local one is. Two partitions for a table's state suit tables of some thousand files;
# Delta's own 50 cost seconds at each small merge.
JVM_SESSION = PARQUET | {
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.adaptive.enabled": "true",
}

# How fast Sail is, as variables of its process. Writing Parquet is most of the work: the defaults
# cost a quarter more CPU, for files 4 % smaller and for statistics per page, which nobody reads. A
# dictionary of up to 1 MiB for each column of a file, the default, costs a tenth and makes files of
# hashes and keys larger; one of 64 KiB holds what repeats.
# What its allocator gives back to the system, it asks for again in the next query; and huge pages have
# the system clear more memory than is used, a tenth of the CPU seconds of a batch.
SAIL_PROCESS = {
    "SAIL_EXECUTION__BATCH_SIZE": "16384",
    "SAIL_PARQUET__COMPRESSION": "zstd(1)",
    "SAIL_PARQUET__DICTIONARY_PAGE_SIZE_LIMIT": str(64 << 10),
    "SAIL_PARQUET__STATISTICS_ENABLED": "chunk",
    "SAIL_PARQUET__WRITE_BATCH_SIZE": "8192",
    "MIMALLOC_ALLOW_THP": "0",
    "MIMALLOC_PURGE_DELAY": "-1",
}

# Seconds that a session bears without a request. It has this process alone, and ends with it; Sail's own
# 900 would end that of a run which builds marts or waits for a job for longer, and fail its next table.
SAIL_PAUSE = 10 * 365 * 24 * 3600

# One task per core. Spark lists a table's files with up to 10,000 tasks: 30 seconds of a VACUUM.
PER_CORE = [
    "spark.sql.shuffle.partitions",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism",
]

# Loggers of the client that write errors of expressions to stderr, with the value that caused them.
_TALKATIVE = (
    "pyspark.sql.connect.logging",
    "DataFrameQueryContextLogger",
    "SQLQueryContextLogger",
)

_running: list[Engine] = []


@dataclass(frozen=True, eq=False)
class Engine:
    """A running engine and the one session on it; a context manager.

    `spark` is a Spark Connect session whichever engine is behind it; an `ambient` one may be a classic
    one, and is left as it is when the engine stops. Its time zone is UTC, but
    `collect()` still turns timestamps into naive local datetimes, as PySpark always does: compare
    instants through `toArrow()`.
    """

    name: EngineName
    spark: SparkSession
    _stop_server: Callable[[], None]
    _process: int  # a forked child has this object too, and must not stop its parent's engine

    @classmethod
    def start(
        cls,
        name: EngineName = "sail",
        *,
        cores: int | None = None,
        memory: str | None = None,
        store: Storage | None = None,
        jars_dir: Path | None = None,
        jvm_options: tuple[str, ...] = (),
    ) -> Engine:
        """Start an engine and open its session.

        `cores`: how many to use, all of the machine's by default.
        `memory`: "2g", "512m". Sail's operators spill to disk beyond it (no limit by default);
        it is the JVM's heap (default "2g").
        `store`: how the lake's object store is reached, if it is in one (`Lake.store`).
        `jars_dir`, `jvm_options`: `spark` only; where jars are kept, and more options.

        With SPARK_REMOTE set, `spark` is that server, and it is not this process's to tune or stop.
        Raises `EngineUnavailable`, saying what to install, when the engine cannot be had here.
        """
        if name not in get_args(EngineName):
            raise ValueError(f"unknown engine {name!r}: one of {', '.join(get_args(EngineName))}")
        if name == "ambient":
            from spark_jobs.engines import ambient

            _silence()
            return cls(name, ambient.session(MEANING, PARQUET), _leave_running, os.getpid())
        cores = cores or os.cpu_count() or 1
        remote = os.environ.get("SPARK_REMOTE") if name == "spark" else None
        settings = MEANING | (JVM_SESSION if name == "spark" else CLIENT)
        if remote is None:
            settings |= dict.fromkeys(PER_CORE, str(cores))

        if remote is not None:
            stop_server = _leave_running
            client: str | DefaultChannelBuilder = remote
        elif name == "sail":
            client, stop_server = _start_sail(cores, memory, store)
        else:
            server = start_server(
                cores=cores,
                memory=memory or "2g",
                store=store,
                jars_dir=jars_dir,
                options=jvm_options,
            )
            client, stop_server = server.url, server.stop
        try:
            spark = _open_session(client, settings, patient=remote is not None)
        except BaseException:
            stop_server()
            raise
        engine = cls(name, spark, stop_server, os.getpid())
        _running.append(engine)
        return engine

    def stop(self) -> None:
        """Stop the session, then the server; again is fine.

        Never the other way round: a session whose server is gone retries its release for ten
        minutes.
        """
        if self not in _running or self._process != os.getpid():
            return
        _running.remove(self)
        try:
            _close_session(self.spark)
        finally:
            self._stop_server()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


@atexit.register
def _stop_forgotten() -> None:
    for engine in _running.copy():  # which stopping changes
        engine.stop()


def _start_sail(
    cores: int, memory: str | None, store: Storage | None
) -> tuple[DefaultChannelBuilder, Callable[[], None]]:
    # The client first: nobody shall have the time that its import takes to connect.
    import pyspark.sql.connect.session  # noqa: F401

    given = {
        "RUST_LOG": "error",  # Sail reports every session on stderr otherwise
        "SAIL_EXECUTION__DEFAULT_PARALLELISM": str(cores),
        "SAIL_SPARK__SESSION_TIMEOUT_SECS": str(SAIL_PAUSE),
    } | SAIL_PROCESS
    if memory is not None:
        given["SAIL_RUNTIME__MEMORY_POOL__TYPE"] = "fair"
        given["SAIL_RUNTIME__MEMORY_POOL__FAIR__MAX_SIZE"] = str(_bytes(memory))
    with variables.defaults(given):
        # Within, since Sail reads its log level when it is imported and the rest when it starts.
        try:
            from pysail.spark import SparkConnectServer
        except ImportError as error:
            raise EngineUnavailable(
                f"the sail engine needs `pip install pysail`: {error}"
            ) from error
        if store is not None:
            variables.ensure_same_key()
        release = variables.held({} if store is None else variables.of_store(store))
        try:
            server = SparkConnectServer("127.0.0.1", 0)
            server.start(background=True)
        except BaseException:
            release()
            raise

    def stop() -> None:
        try:
            if server.running:
                server.stop()
        finally:
            release()

    try:
        return only_client(server.listening_address), stop
    except BaseException:
        stop()
        raise


def _open_session(
    server: str | DefaultChannelBuilder, settings: dict[str, str], *, patient: bool
) -> SparkSession:
    """Connect to a URL, or by a channel, and apply the settings; `patient` rides out a remote
    server's restart."""
    from pyspark.sql.connect.client.retries import DefaultPolicy
    from pyspark.sql.connect.session import SparkSession as Connected

    # PySpark's functions choose between the classic and the Connect API by this variable.
    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
    _silence()
    builder = Connected.builder
    if isinstance(server, str):
        connected = builder.remote(server).create()
    else:
        connected = builder.channelBuilder(server).create()
    # One type for every session, as PySpark's own functions have it: both kinds have its methods.
    spark = cast("SparkSession", connected)
    try:
        if not patient:
            # A local server that does not answer has died; the default is to wait ten minutes.
            spark.client.set_retry_policies([DefaultPolicy(max_retries=4)])
        connected.conf._set_all({**settings}, silent=True)  # a managed service refuses some
        for key, value in MEANING.items():
            if (got := spark.conf.get(key)) != value:
                raise EngineUnavailable(f"the server keeps {key}={got}; {value} is needed")
    except BaseException:
        _close_session(spark)
        raise
    return spark


def _silence() -> None:
    from pyspark.logger import PySparkLogger

    for name in _TALKATIVE:  # by level, since others may enable loggers that are disabled
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL + 1)


def _close_session(spark: SparkSession) -> None:
    spark.client.set_retry_policies([])  # whatever state the server is in, ask once
    spark.stop()
    if not _running:
        os.environ.pop("SPARK_CONNECT_MODE_ENABLED", None)


def _leave_running() -> None:
    """A server that others share stays."""


def _bytes(size: str) -> int:
    match = re.fullmatch(r"(\d+)([kmg])", size.strip().lower())
    if match is None:
        raise ValueError(f"memory {size!r}: a number and k, m or g, such as 2g")
    return int(match[1]) * 1024 ** ("kmg".index(match[2]) + 1)
