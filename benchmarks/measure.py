"""What a process costs: seconds, CPU seconds and peak memory, its children included.

Belongs here: running one contender in a process of its own, and the variables of this one. Does not
belong here: which contender, or what its numbers mean.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.workload import PROJECT

_SAMPLE_SECONDS = 0.05
_PAGE = resource.getpagesize()


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Variables of this process for as long as a server is there that they lead to."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class ContenderFailed(Exception):
    """A contender ended with an error; the message has its last words."""


@dataclass(frozen=True)
class Cost:
    """Wall and CPU seconds; `peak` is the most memory that was resident at once, in bytes."""

    wall: float
    cpu: float
    peak: int

    @classmethod
    def median_of(cls, costs: Sequence[Cost]) -> Cost:
        """The median of each number by itself."""
        return cls(
            median(c.wall for c in costs),
            median(c.cpu for c in costs),
            int(median(c.peak for c in costs)),
        )


def run(
    module: str, arguments: Sequence[str], log: Path, *, leave_out: str = "", **variables: str
) -> Cost:
    """Runs `python -m module arguments` to its end. Raises ContenderFailed if it fails.

    The memory of children that run the command `leave_out` is not counted.
    """
    environment = os.environ | variables
    paths = [str(PROJECT), str(PROJECT / "platform"), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    log.parent.mkdir(parents=True, exist_ok=True)
    os.sync()  # or one contender waits for what the one before it has written
    start = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        watch = _PeakMemory(process.pid, leave_out)
        watch.start()
        _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    watch.done.set()
    watch.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise ContenderFailed(
            f"{module} {' '.join(arguments[:2])}: exit {process.returncode}\n{last}"
        )
    # Not ru_maxrss: a child begins with what its parent had when it was forked.
    return Cost(wall, used.ru_utime + used.ru_stime, watch.peak)


class _PeakMemory(threading.Thread):
    """Adds up the resident memory of a process and its descendants, again and again."""

    def __init__(self, pid: int, leave_out: str) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.leave_out = leave_out
        self.peak = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(_SAMPLE_SECONDS):
            counted = (p for p in _family(self.pid) if _command(p) != self.leave_out)
            self.peak = max(self.peak, sum(map(_resident, counted)))


def _family(pid: int) -> list[int]:
    out = [pid]
    for parent in out:  # grows while it is read
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                out += map(int, (task / "children").read_text().split())
        except OSError:  # it has ended, or this is no Linux
            continue
    return out


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0
