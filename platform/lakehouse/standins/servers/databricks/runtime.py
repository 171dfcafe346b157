"""The runtime of a workspace on this machine: the Spark that is installed here, with Delta, and with S3
where the lake is there.

Belongs here: its jars and its settings, which no job has to say. Does not belong here: environments and
drivers (compute.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lakehouse.standins.servers.aws import CREDENTIALS
from spark_jobs.engines import jars, java, jvm, s3a
from spark_jobs.lake.storage import Storage

# Plans that are compiled, and states in many parts, cost more than they give where rows are few. A
# compiler of one level has a small cache, and what does not fit is interpreted.
_SMALL = {
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.driver.extraJavaOptions": (
        "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC"
    ),
    "spark.driver.memory": "1g",
    "spark.sql.adaptive.enabled": "false",
}


@dataclass(frozen=True)
class Runtime:
    """`environment` is what the identity of a job gives its driver."""

    jars: tuple[Path, ...]
    spark_conf: Mapping[str, str]
    environment: Mapping[str, str]


def of_this_machine(
    store: Storage | None = None, memory: str = "1g", *, session: str = ""
) -> Runtime:
    """A runtime that reaches a store: by the keys of a role that drivers have too, or, where a catalogue
    governs the store, by a key of its `session` that nothing else of a driver has. Raises
    EngineUnavailable if there is no Java, or a jar cannot be had."""
    home = java.find_java().resolve().parent.parent
    found = jars.fetched(jars.delta())
    conf = {**jvm.DELTA_PROPERTIES, **_SMALL, "spark.driver.memory": memory}
    environment = {"JAVA_HOME": str(home)}
    if store is not None:
        found += jars.fetched(jars.s3())
        conf |= s3a.conf(store)
        if session:
            conf |= _keys(session)
        else:
            environment |= {**CREDENTIALS, **store.options}
    return Runtime(tuple(found), conf, environment)


def _keys(session: str) -> dict[str, str]:
    """The session's own key, which the service gives it."""
    given = {
        "aws.credentials.provider": "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
        "access.key": session,
        "secret.key": "of the session",
    }
    return {f"spark.hadoop.fs.s3a.{name}": value for name, value in given.items()}
