"""The Java and the Spark that are installed here.

Belongs here: finding both, and what a process of theirs is started with. Does not belong here: which
jars it needs beside them (`jars.py`), or a server (`jvm.py`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from spark_jobs.errors import EngineUnavailable

MINIMUM_JAVA = 17


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
        f"there is no Java {MINIMUM_JAVA} or later, on PATH or under JAVA_HOME "
        f"({'; '.join(found) or 'found none'}). "
        "On Debian and Ubuntu: apt-get install openjdk-17-jre-headless"
    )


def spark_home() -> Path:
    import pyspark

    home = Path(pyspark.__file__).parent
    if not (home / "jars").is_dir():
        raise EngineUnavailable(
            "the installed pyspark has no jars (is it pyspark-client?): "
            "install pyspark[connect], or set SPARK_REMOTE to a running server"
        )
    return home


def spark_submit(*arguments: str) -> list[str]:
    return ["bash", str(spark_home() / "bin" / "spark-submit"), *arguments]


def submit_environment() -> dict[str, str]:
    """What a JVM of Spark inherits: this Java, this Python, and this Python's path."""
    client_only = {"SPARK_CONNECT_MODE_ENABLED", "SPARK_REMOTE"}
    inherited = {name: value for name, value in os.environ.items() if name not in client_only}
    return inherited | {
        "JAVA_HOME": str(find_java().resolve().parent.parent),
        "PYSPARK_PYTHON": sys.executable,
        # Functions travel to Spark's Python workers by name: they import what this process can.
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "SPARK_HOME": str(spark_home()),
    }


def tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.splitlines()[-lines:])
