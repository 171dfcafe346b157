"""The compute of a workspace: a Python with the service's own Spark, and what a task asks to be
installed beside it.

Belongs here: making that environment, and the program that a driver runs. Does not belong here: what
becomes of a run (runs.py).

An environment has nothing of the project but what was shipped. Spark is the one that is installed
here, with Delta on its path, as a runtime has its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

# What a runtime brings along, of the distributions that are installed here, with what they need.
_OF_THE_RUNTIME = ("pyspark", "databricks-sdk")
# A volume is a folder of a driver's file system (a FUSE mount); here it is one by name only. What is
# written there is a file once it is closed.
_MOUNT = """\
import builtins, io, os
_open, _root = builtins.open, os.environ["STANDIN_VOLUMES"]
def _local(path):
    named = isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith("/Volumes/")
    return _root + os.fspath(path)[len("/Volumes"):] if named else path
def _mounted(original):
    return lambda path, *args, **kwargs: original(_local(path), *args, **kwargs)
def _opened(file, mode="r", *args, **kwargs):
    path = _local(file)
    if path is file or "w" not in mode:
        return _open(path, mode, *args, **kwargs)
    unfinished = path + ".unfinished"
    opened = _open(unfinished, mode, *args, **kwargs)
    close = opened.close
    def closed():
        if not opened.closed:
            close()
            os.replace(unfinished, path)
    opened.close = closed
    return opened
builtins.open = io.open = _opened
for _name in ("listdir", "makedirs", "mkdir", "remove", "stat"):
    setattr(os, _name, _mounted(getattr(os, _name)))
"""
# What calls the task's code: the session is there before it, as on a cluster.
_DRIVER = """\
import json, os, sys
from importlib.metadata import distribution
from pyspark.sql import SparkSession
task = json.loads(os.environ.pop("STANDIN_TASK"))
builder = SparkSession.builder.master("local[2]").appName(task["run_name"])
for key, value in task["spark_conf"].items():
    builder = builder.config(key, value)
spark = builder.getOrCreate()
found = distribution(task["package_name"]).entry_points.select(name=task["entry_point"])
sys.argv = [task["entry_point"], *task["parameters"]]
(entry_point,) = found
entry_point.load()()
spark.stop()
"""


class NoEnvironment(Exception):
    """What a task asks for cannot be installed; the message is the installer's."""


@dataclass(frozen=True)
class Compute:
    """Environments below `home`, kept by what is in them. `jars`, `spark_conf` and `environment` are
    the service's own: its Delta, how the store of the lake is reached, and who a job is, which no job
    has to say."""

    home: Path
    volumes: Path
    jars: Sequence[Path]
    spark_conf: Mapping[str, str]
    environment: dict[str, str]

    def python(self, wheels: Sequence[Path], requirements: Sequence[str]) -> Path:
        """The Python of an environment with these wheels and requirements."""
        said = [hashlib.sha256(w.read_bytes()).hexdigest() for w in wheels]
        digest = hashlib.sha256(json.dumps([*said, *requirements]).encode()).hexdigest()[:16]
        folder = self.home / digest
        done, python = folder / "installed", folder / "bin" / "python"
        if not done.exists():
            venv.create(folder, with_pip=False, clear=True)
            self._add_runtime(next((folder / "lib").iterdir()) / "site-packages")
            pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
            command = [*pip, "--python", str(python), "install", *map(str, wheels), *requirements]
            said_ = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
            if said_.returncode:
                raise NoEnvironment("\n".join(said_.stderr.strip().splitlines()[-5:]))
            done.touch()
        return python

    def start(
        self, python: Path, task: Mapping[str, object], variables: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Starts the driver of a task, in a process group of its own."""
        local = log.with_suffix(".local")
        conf = {
            "spark.driver.extraClassPath": os.pathsep.join(map(str, self.jars)),
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.local.dir": str(local),
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.warehouse.dir": str(local / "warehouse"),
            "spark.ui.enabled": "false",
            **self.spark_conf,
        }
        kept = ("HOME", "JAVA_HOME", "LANG", "PATH", "TMPDIR")
        environment = {n: os.environ[n] for n in kept if n in os.environ} | {
            **self.environment,
            **variables,
            "PYSPARK_PYTHON": str(python),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "STANDIN_TASK": json.dumps({**task, "spark_conf": conf}),
            "STANDIN_VOLUMES": str(self.volumes),
        }
        with log.open("wb") as out:
            return subprocess.Popen(
                [str(python), "-c", _DRIVER],
                cwd=log.parent,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _add_runtime(self, packages: Path) -> None:
        """Links what the runtime has behind what is installed, and mounts the volumes."""
        runtime = packages / "standin_runtime"
        runtime.mkdir()
        for path in _files(_OF_THE_RUNTIME):
            (runtime / path.name).symlink_to(path)
        (packages / "standin_volumes.py").write_text(_MOUNT)
        (packages / "standin.pth").write_text(f"{runtime}\nimport standin_volumes\n")


def _files(distributions: Iterable[str]) -> set[Path]:
    """The modules and packages of distributions, and of those that they require."""
    found, todo, seen = set[Path](), [*distributions], set[str]()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        of = distribution(name)
        tops = {file.parts[0] for file in of.files or ()} - {"..", "__pycache__"}
        tops = {top for top in tops if not top.endswith(".dist-info")}
        found |= {Path(str(of.locate_file(top))) for top in tops}
        required = map(Requirement, of.requires or ())
        todo += [r.name for r in required if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found
