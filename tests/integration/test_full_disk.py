"""A disk that fills up during a run, at each step of it.

Here: a small disk of its own in a child process, made in a mount namespace where the system allows
that; elsewhere a limit on the size of any one file, which fails the same writes. Not here: other
faults of storage (test_bad_input.py).
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spark_jobs.batch.reconcile import reconcile
from spark_jobs.engines.session import Engine
from spark_jobs.errors import StorageError
from tests.lakes import MONDAY, TUESDAY, TinyLake, bronze, column, transforms_in

PROJECT = Path(__file__).parents[2]
ROWS = 4000
SAYS = {
    "disk": "the disk is full; no batch was published in part. Free space, then run again.",
    "limit": "a file has grown beyond what this system allows (",
}
# KB that are left, so that the data, the quarantine, a log or the ledger is what does not fit.
ROOM = {
    "disk": (0, 4, 16, 32, 48, *range(56, 128, 4), 200, 400),
    "limit": (0, 1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64, 128),
}


def day(first: int) -> str:
    """Rows that do not compress well, and some that leave."""
    good = [f'{{"id":"{i}","text":"{i * 7919 % 10**9:x}{i * 104729 % 10**9:x}"}}'
            for i in range(first, first + ROWS)]  # fmt: skip
    bad = [f"{{broken {i * 7919}" for i in range(100)]
    return "\n".join(good + bad) + "\n"


class SmallDisk:
    """A file system of a few MB, on which files take up all but some KB."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.filler = folder, folder / "filler"
        mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
        subprocess.run(mount, check=True, capture_output=True)

    def leave(self, kilobytes: int | None) -> None:
        """Fills the disk up to so many KB, or empties it again."""
        self.filler.unlink(missing_ok=True)
        if kilobytes is not None:
            room = shutil.disk_usage(self.folder).free - kilobytes * 1024
            self.filler.write_bytes(bytes(max(room, 0)))


class SizeLimit:
    """A limit on every file that this process writes."""

    def __init__(self, folder: Path) -> None:
        self.most = resource.getrlimit(resource.RLIMIT_FSIZE)

    def leave(self, kilobytes: int | None) -> None:
        low = self.most[0] if kilobytes is None else kilobytes * 1024
        resource.setrlimit(resource.RLIMIT_FSIZE, (low, self.most[1]))


def child(root: Path, disk_kind: str) -> None:
    """Publishes Monday, then runs Tuesday with more and more room until it fits; prints what it
    saw."""
    small = root / "disk"
    small.mkdir()
    disk = SmallDisk(small) if disk_kind == "disk" else SizeLimit(small)
    seen: list[dict[str, Any]] = []
    with Engine.start("sail", cores=1) as engine, transforms_in(root / "transforms"):
        tiny = TinyLake(root, engine)
        tiny.zones |= {z: str(small / z) for z in ("bronze", "quarantine", "ledger")}
        assert not tiny.run("bronze.feed", MONDAY).failed
        for room in ROOM[disk_kind]:
            disk.leave(room)
            error = ""
            try:
                tiny.run("bronze.feed", TUESDAY)
            except StorageError as failure:
                error = str(failure)
            disk.leave(None)
            seen.append(
                {
                    "error": error,
                    "rows": len(tiny.rows("bronze.feed", "id")),
                    "ledger": len(tiny.ledger("bronze.feed")),
                }
            )
            if not error:
                break
        final = tiny.run("bronze.feed", TUESDAY).partitions[0].status
        found = reconcile(engine.spark, tiny.parsed()["bronze.feed"], tiny.lake)
        held = len(tiny.quarantined("bronze.feed"))
    print(
        json.dumps({"seen": seen, "final": final, "findings": list(map(str, found)), "held": held})
    )


def in_namespace() -> list[str]:
    """How to start a process that may mount; empty if the system lets nobody."""
    start = ["unshare", "--user", "--map-root-user", "--mount"]
    probe = [*start, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        allowed = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    return start if allowed else []


@pytest.mark.parametrize("kind", ["disk", "limit"])
def test_a_full_disk_publishes_nothing_and_says_so(tmp_path, kind):
    tiny = TinyLake(tmp_path)
    tiny.define(bronze("feed", "json", column("id", required=True), column("text")))
    tiny.land("feed", MONDAY, "f.json", day(0))
    tiny.land("feed", TUESDAY, "f.json", day(ROWS))
    start = in_namespace() if kind == "disk" else []
    kind = kind if start else "limit"
    program = (
        f"from tests.integration.test_full_disk import *; child(Path({str(tmp_path)!r}), {kind!r})"
    )
    ran = subprocess.run(
        [*start, sys.executable, "-c", program],
        cwd=PROJECT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    said = json.loads(ran.stdout.splitlines()[-1])

    *failures, fits = said["seen"]
    assert len(failures) >= 3, "the disk was to be full at several steps"
    for s in failures:
        assert SAYS[kind] in s["error"]
        # Either nothing of Tuesday is there, or all of it and only the ledger row did not fit.
        assert s["rows"] in (ROWS, 2 * ROWS)
    assert not fits["error"], "at last it fits"
    assert (fits["rows"], fits["ledger"]) == (2 * ROWS, 2)
    assert (said["final"], said["findings"], said["held"]) == ("unchanged", [], 200)
