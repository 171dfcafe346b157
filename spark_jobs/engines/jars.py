"""The jars that a local Spark needs beside its own: Delta's, and S3's where a lake is there.

Belongs here: which jars, fetching them once, and refusing what is not pinned. Does not belong here:
how a JVM is found and run (`jvm.py`), or its settings for S3 (`s3a.py`).

Each set has a file `<name>.sha256`, beside this module if it says no other folder: all of its jars,
under the names that Ivy gives them (`<group>_<artifact>-<version>.jar`), with their sums.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from spark_jobs import cache
from spark_jobs.engines.java import spark_home, spark_submit, submit_environment, tail
from spark_jobs.errors import EngineUnavailable

# The release whose parts are fetched one by one: as one bundle they are 600 MB.
_AWS_SDK = "2.40.2"
# What a lake on S3 needs of it: S3, and the credentials of roles and of people who signed on.
_AWS_PARTS = ("s3", "s3-transfer-manager", "sts", "sso", "ssooidc")


@dataclass(frozen=True)
class Jars:
    """A set of jars: what Ivy resolves, and what it leaves out since Spark has it already, often in
    another release."""

    name: str
    coordinates: tuple[str, ...]
    excluded: tuple[str, ...]
    folder: Path = Path(__file__).parent

    @property
    def pins(self) -> Path:
        return self.folder / f"{self.name}.sha256"

    def pinned(self) -> dict[str, str]:
        """The sum of each jar by its name."""
        if not self.pins.exists():
            raise EngineUnavailable(
                f"the sums of {', '.join(self.coordinates)} are not pinned: pyspark or delta-spark has"
                f" changed. Pin those of the new jars in {self.pins}"
            )
        lines = map(str.split, self.pins.read_text().splitlines())
        return {name: sum_ for sum_, name in lines}


def delta() -> Jars:
    """Those of the installed `delta-spark` and `pyspark`."""
    release = version("delta-spark")
    spark = ".".join(version("pyspark").split(".")[:2])
    # Delta 4.0 is for one Spark, and later ones name theirs.
    artifact = "delta-spark_2.13" if release.startswith("4.0.") else f"delta-spark_{spark}_2.13"
    return Jars(
        f"delta-{release}",
        (f"io.delta:{artifact}:{release}",),
        # Left alone, Ivy also brings a second Hadoop client and an older Parquet.
        (
            *("com.*:*", "commons-*:*", "io.airlift:*", "io.delta:delta-kernel*"),
            *("io.unitycatalog:*", "javax.*:*", "org.*:*"),
        ),
    )


def s3() -> Jars:
    """Those with which the installed Spark's Hadoop reaches S3."""
    (client,) = (spark_home() / "jars").glob("hadoop-client-api-*.jar")
    hadoop = client.stem.removeprefix("hadoop-client-api-")
    parts = (f"software.amazon.awssdk:{part}:{_AWS_SDK}" for part in _AWS_PARTS)
    return Jars(
        f"hadoop-aws-{hadoop}",
        (f"org.apache.hadoop:hadoop-aws:{hadoop}", *parts),
        (
            "software.amazon.awssdk:bundle",
            *("commons-*:*", "io.netty:*", "org.apache.httpcomponents:*", "org.slf4j:*"),
            "org.wildfly.openssl:*",
        ),
    )


def fetched(jars: Jars, folder: Path | None = None) -> list[Path]:
    """The jars of a set, fetched if they are not in `folder` yet, and verified.

    Raises `EngineUnavailable` naming the jar when one cannot be had or is not the pinned one.
    """
    folder = folder or default_folder()
    pinned = jars.pinned()
    if not all((folder / name).exists() for name in pinned):
        _fetch(jars, folder)
    for name, wanted in pinned.items():
        if (got := _sha256(folder / name)) != wanted:
            raise EngineUnavailable(
                f"{folder / name} has SHA-256 {got}, and {jars.pins.name} pins {wanted}. "
                "Remove the file to have it fetched again; if it stays different, do not use it."
            )
    return [folder / name for name in pinned]


def default_folder() -> Path:
    return cache.folder("jars")


def _fetch(jars: Jars, folder: Path) -> None:
    """Have Spark's own Ivy resolve the jars, with the settings of the user's Spark if any."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ivy-", dir=folder) as ivy:
        nothing = Path(ivy, "nothing.py")
        nothing.touch()  # spark-submit resolves packages on the way to running something
        # A Maven repository at home may have a description without its jar, at which Ivy gives up.
        options = f"{os.environ.get('SPARK_SUBMIT_OPTS', '')} -Duser.home={ivy}"
        said = subprocess.run(
            [
                *spark_submit("--master", "local[1]", "--packages", ",".join(jars.coordinates)),
                *(("--exclude-packages", ",".join(jars.excluded)) if jars.excluded else ()),
                *("--conf", f"spark.jars.ivy={ivy}", str(nothing)),
            ],
            env=submit_environment() | {"SPARK_SUBMIT_OPTS": options},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in jars.pinned():
            jar = Path(ivy, "jars", name)
            if not jar.exists():
                raise EngineUnavailable(
                    f"could not fetch {name} ({jars.coordinates[0]}); offline, put it into {folder} "
                    f"yourself. Ivy said:\n{tail(said.stdout)}"
                )
            os.replace(jar, folder / name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
