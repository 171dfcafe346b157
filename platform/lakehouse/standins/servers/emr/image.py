"""The image that a driver of EMR Serverless runs in: Spark 4.0.2 with Delta 4.0.0, and a bare Python.

Belongs here: finding these on this machine, and running spark-submit with what a job was given, and
nothing else of this project or its environment. Does not belong here: when a job runs, and what
becomes of it (jobs.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from lakehouse.standins.servers.aws import CREDENTIALS, REGION
from spark_jobs.errors import EngineUnavailable

RELEASE = "emr-spark-8.0.0"
_PROJECT = Path(__file__).resolve().parents[5]
_SPARK = _PROJECT / ".venv-spark40" / "bin" / "python"
# Run by that environment's Python, since it is its Spark that is asked for.
_ASKED = """
import json
from spark_jobs.engines import jars, java, jvm, s3a
from spark_jobs.lake.storage import Storage
paths = lambda found: [str(path) for path in jars.fetched(found)]
print(json.dumps({
    "log4j": jvm.log4j("warn"),
    "java": str(java.find_java().resolve().parent.parent), "spark": str(java.spark_home()),
    "delta": paths(jars.delta()), "s3": paths(jars.s3()), "conf": s3a.conf(Storage()),
}))
"""
_DELTA = "/usr/share/aws/delta/lib/"
_MOST_MEMORY = "2g"  # of a driver here
# A compiler of one level has a small cache, and what does not fit is interpreted.
_FAST = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC"


@dataclass(frozen=True)
class Image:
    """What is on the image, and how it reaches the store: `store` are variables that a role gives."""

    found: Mapping[str, Any]
    python: Path
    store: Mapping[str, str]

    @classmethod
    def prepared(cls, folder: Path, s3_endpoint: str) -> Image:
        """Raises EngineUnavailable if this machine has no such Spark, or no Java."""
        if not _SPARK.exists():
            raise EngineUnavailable(f"no {_SPARK.parents[1].name}: `make conformance-emr` makes it")
        store = {
            **CREDENTIALS,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": s3_endpoint,
            "AWS_ALLOW_HTTP": "true",
        }
        environment = {**os.environ, **store, "PYTHONPATH": str(_PROJECT)}
        said = subprocess.run(
            [_SPARK, "-c", _ASKED], env=environment, capture_output=True, text=True
        )
        if said.returncode:
            raise EngineUnavailable(said.stderr.strip().splitlines()[-1])
        venv.create(folder / "python", with_pip=False)
        return cls(json.loads(said.stdout), folder / "python" / "bin" / "python", store)

    def submit(self, folder: Path, job: Mapping[str, Any], s3: Any) -> subprocess.Popen[bytes]:
        """Runs spark-submit in `folder` with a job's parameters; its streams go to `stdout` and
        `stderr` there. Raises ValueError for what the image does not have."""
        submitted, properties = job["jobDriver"]["sparkSubmit"], properties_of(job)
        entry = folder / "entry_point.py"
        entry.write_bytes(_object(s3, submitted["entryPoint"]))
        for archive in filter(None, properties.pop("spark.archives", "").split(",")):
            uri, _, name = archive.partition("#")
            _unpacked(_object(s3, uri), uri, folder / name)
        jars = [self._jar(path) for path in properties.pop("spark.jars", "").split(",") if path]
        (folder / "conf").mkdir()
        (folder / "conf" / "log4j2.properties").write_text(self.found["log4j"])
        conf = {
            **properties,
            **self.found["conf"],
            "spark.driver.memory": _MOST_MEMORY,
            "spark.ui.enabled": "false",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.local.dir": str(folder / "local"),
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
        }
        command = [
            *("bash", f"{self.found['spark']}/bin/spark-submit", "--master", "local[2]"),
            *("--driver-class-path", os.pathsep.join([*jars, *self.found["s3"]])),
            *("--driver-java-options", _FAST),
            *(part for k, v in sorted(conf.items()) for part in ("--conf", f"{k}={v}")),
            *(str(entry), *submitted.get("entryPointArguments", [])),
        ]
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            return subprocess.Popen(
                command,
                cwd=folder,
                env=self._environment(folder, properties),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def _environment(self, folder: Path, properties: Mapping[str, str]) -> dict[str, str]:
        """What the driver has: of this process, nothing."""
        prefix = "spark.emr-serverless.driverEnv."
        given = {k.removeprefix(prefix): v for k, v in properties.items() if k.startswith(prefix)}
        for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
            if name in given:
                given[name] = self._python(given[name])
        return {
            **self.store,
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "JAVA_HOME": self.found["java"],
            "SPARK_HOME": self.found["spark"],
            "SPARK_CONF_DIR": str(folder / "conf"),
            "SPARK_LOCAL_IP": "127.0.0.1",
            **given,
        }

    def _python(self, path: str) -> str:
        """The image has several; here there is the one that runs this."""
        here = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        if path != here:
            raise ValueError(f"{path}: no such file on this image, which has {here}")
        return str(self.python)

    def _jar(self, path: str) -> str:
        known = {"delta-spark.jar": "delta-spark", "delta-storage.jar": "delta-storage"}
        wanted = known.get(path.removeprefix(_DELTA), "")
        found = [j for j in self.found["delta"] if wanted and f"_{wanted}" in Path(j).name]
        if not found:
            raise ValueError(f"{path}: no such file on this image")
        return str(found[0])


def properties_of(job: Mapping[str, Any]) -> dict[str, str]:
    """The properties of Spark that a job was given, those of its command line last."""
    import shlex

    found: dict[str, str] = {}
    for one in job.get("configurationOverrides", {}).get("applicationConfiguration", []):
        if one["classification"] == "spark-defaults":
            found |= one.get("properties", {})
    words = shlex.split(job["jobDriver"]["sparkSubmit"].get("sparkSubmitParameters", ""))
    for option, value in zip(words[::2], words[1::2], strict=True):
        if option != "--conf":
            raise ValueError(f"{option}: this stand-in knows --conf alone")
        name, _, given = value.partition("=")
        found[name] = given
    return found


def _object(s3: Any, uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    content: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


def _unpacked(content: bytes, uri: str, to: Path) -> None:
    if uri.endswith(".zip"):
        with zipfile.ZipFile(BytesIO(content)) as archive:
            archive.extractall(to)
    else:
        with tarfile.open(fileobj=BytesIO(content)) as archive:
            archive.extractall(to, filter="data")
