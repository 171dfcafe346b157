"""How a local Spark reaches S3: Hadoop's S3A, told what every other client of the lake is told.

Belongs here: its settings. Does not belong here: its jars (`jars.py`), or commits: Spark writes data
files and reads tables, and a commit to a table is never its own (`lake/commits.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spark_jobs.lake.storage import Storage

# The chain of every other client: environment, profile, web identity, container, instance.
_CREDENTIALS = "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider"
# One name of its schemes for all of the lake's clients.
_SCHEMES = ("s3", "s3a")


def conf(store: Storage) -> dict[str, str]:
    """Settings of Spark for a store."""
    hadoop = {
        **{f"fs.{scheme}.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem" for scheme in _SCHEMES},
        "fs.s3a.aws.credentials.provider": _CREDENTIALS,
        **_reached(store),
        # A staging folder is one batch's alone: nothing is there that a look before each file and
        # folder could find.
        "fs.s3a.performance.flags": "create,mkdir",
        # Another reader of S3 needs a client in native code.
        "fs.s3a.input.stream.type": "classic",
        "mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
    }
    return {f"spark.hadoop.{key}": value for key, value in hadoop.items()}


def _reached(store: Storage) -> dict[str, str]:
    """Region, endpoint, style and retries."""
    endpoint, virtual = store.endpoint, store.virtual_hosted
    if endpoint and virtual:  # the others want the bucket there, S3A adds it
        scheme, _, host = endpoint.partition("://")
        endpoint = f"{scheme}://{host.partition('.')[2]}"
    retries = store.options_in_force["max_retries"]
    given = {
        "fs.s3a.endpoint": endpoint,
        "fs.s3a.endpoint.region": store.region,
        "fs.s3a.path.style.access": str(bool(endpoint) and not virtual).lower(),
        # Its client tries again, and so would S3A around it: many times, minutes apart.
        "fs.s3a.attempts.maximum": retries,
        "fs.s3a.retry.limit": "1",
        "fs.s3a.retry.throttle.limit": "1",
    }
    return {key: value for key, value in given.items() if value}
