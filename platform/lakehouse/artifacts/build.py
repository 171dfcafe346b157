"""Building what is shipped: a wheel of the data plane with the contracts in it, and its packages.

Belongs here: both, and the version that their content has. Does not belong here: where they go
(push.py), or how a job is started with them (engines/).

The same tree gives the same version, on any machine: archives are written with sorted names and
without times, and what a build tool says about itself does not count.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from lakehouse.artifacts.artifact import Artifact, ArtifactError
from lakehouse.settings.artifacts import Target
from spark_jobs.contract.location import digest
from spark_jobs.engines.jvm import DELTA_PROPERTIES

LOCK = "requirements-jobs.lock"
# What a job starts with: it finds the data plane on its path.
ENTRY_POINT = b"from spark_jobs.__main__ import main\n\nmain()\n"
# Amazon Linux 2023 has glibc 2.34; pip takes each tag by itself.
_GLIBC = ("2_34", "2_28", "2_27", "2_24", "2_17", "2014", "2_12", "2010", "2_5", "1")
_MACHINE = {"x86_64": "x86_64", "arm64": "aarch64"}
_OF_THE_TOOLS = ("WHEEL", "RECORD")
_PACKING = b"1"  # another one, whenever packages are packed in another way
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Built:
    """An artifact and its files here, by their names in a store. Packages are made only where a store
    has none of that name: they are large, and change with the lock alone."""

    artifact: Artifact
    files: dict[str, bytes | Path]
    project: Path
    folder: Path

    def packages(self) -> Path:
        """The archive of packages in `folder`, made if it is not there."""
        path = self.folder / Path(self.artifact.packages).name
        if not path.exists():
            _pack(self.project / LOCK, self.artifact.target, path)
        return path


def build(project: Path, target: Target, folder: Path) -> Built:
    """Builds what is shipped of a source tree; the wheel and packages go to `folder`."""
    missing = [n for n in ("spark_jobs", "contracts", LOCK) if not (project / n).exists()]
    if missing:
        raise ArtifactError(
            f"{project}: no {', '.join(missing)} there, so that nothing can be shipped of it. Run"
            " this in a source tree of the project."
        )
    folder.mkdir(parents=True, exist_ok=True)
    wheel_name, wheel = _wheel(project)
    lock = (project / LOCK).read_bytes()
    made_for = f"py{target.python.replace('.', '')}-{target.architecture}"
    packages = f"{hashlib.sha256(_PACKING + lock).hexdigest()[:16]}-{made_for}"
    said = {
        "code": dict(_contents(wheel)),
        "entry_point": hashlib.sha256(ENTRY_POINT).hexdigest(),
        "packages": packages,
        "spark": DELTA_PROPERTIES,
    }
    version = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
    artifact = Artifact(
        version=version,
        target=target,
        wheel=f"dist/{version}/{wheel_name}",
        code=f"dist/{version}/spark_jobs.zip",
        packages=f"dist/packages/{packages}.tar.gz",
        requirements=f"config/{version}/requirements.txt",
        entry_point=f"jobs/{version}/run.py",
        contracts=f"dq/{version}",
        contracts_sha256=digest(project / "contracts"),
        spark=DELTA_PROPERTIES,
    )
    files: dict[str, bytes | Path] = {
        artifact.wheel: wheel,
        artifact.code: wheel,
        artifact.entry_point: ENTRY_POINT,
        artifact.requirements: "".join(f"{pin}\n" for pin in pins(lock.decode())).encode(),
    }
    for path in sorted((project / "contracts").glob("*/*.yaml")):
        name = path.relative_to(project / "contracts").as_posix()
        files[f"{artifact.contracts}/{name}"] = path
    return Built(artifact, files, project, folder)


def pins(lock: str) -> list[str]:
    """The requirements of a lock without their sums, which not every service takes."""
    lines = (line.rstrip("\\ ") for line in lock.splitlines())
    return [line for line in lines if line and not line.startswith((" ", "#"))]


def _wheel(project: Path) -> tuple[str, bytes]:
    """The wheel of the data plane: its name, and its bytes without the marks of this build."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-wheel-") as scratch:
        # A copy, since setuptools leaves its own files beside what it builds.
        for name in ("spark_jobs", "contracts"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(project / name, Path(scratch, name), symlinks=True, ignore=ignored)
        options = ("--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", scratch)
        _pip("wheel", *options, str(Path(scratch, "spark_jobs")), what="building the wheel")
        (path,) = Path(scratch).glob("*.whl")
        out = BytesIO()
        with zipfile.ZipFile(path) as read, zipfile.ZipFile(out, "w") as written:
            for name in sorted(read.namelist()):
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                written.writestr(entry, read.read(name))
        return path.name, out.getvalue()


def _contents(wheel: bytes) -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(BytesIO(wheel)) as read:
        for name in read.namelist():
            if not (".dist-info/" in name and name.endswith(_OF_THE_TOOLS)):
                yield name, hashlib.sha256(read.read(name)).hexdigest()


def _pack(lock: Path, target: Target, to: Path) -> None:
    """Writes an archive of what a lock pins, as installed for `target`: pip verifies the sums."""
    platforms = [
        f"--platform=manylinux{'_' if '_' in v else ''}{v}_{_MACHINE[target.architecture]}"
        for v in _GLIBC
    ]
    with tempfile.TemporaryDirectory(prefix="lakehouse-packages-") as scratch:
        _pip(
            *("download", "--require-hashes", "--no-deps", "--only-binary=:all:", *platforms),
            *("--implementation=cp", f"--python-version={target.python}"),
            *("--dest", scratch, "--requirement", str(lock)),
            what=f"downloading the packages of {lock.name}",
        )
        unfinished = to.with_name(f"{to.name}.{os.getpid()}")
        with (
            unfinished.open("wb") as file,
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for path in sorted(Path(scratch).glob("*.whl")):
                with zipfile.ZipFile(path) as wheel:
                    _unpack(wheel, tar)
        unfinished.replace(to)


def _unpack(wheel: zipfile.ZipFile, tar: tarfile.TarFile) -> None:
    for name in sorted(wheel.namelist()):
        top, _, rest = name.partition("/")
        installed = name
        if top.endswith(".data"):  # scripts and headers are of no use to a job
            kind, _, installed = rest.partition("/")
            if kind not in ("purelib", "platlib"):
                continue
        if not name.endswith("/"):
            entry = tarfile.TarInfo(installed)
            content = wheel.read(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, BytesIO(content))


def _pip(*arguments: str, what: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-10:])
        raise ArtifactError(
            f"{what} failed. The development environment (`make .venv/.installed`) has pip and"
            f" setuptools, and packages come from the index that pip is set to. It said:\n{said}"
        )
