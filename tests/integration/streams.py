"""A job that runs a continuous pipeline, in a process that may be killed at any step of a batch.

    python -m tests.integration.streams stream.json [step]

Belongs here: that process, with the session that a job finds. Does not belong here: what must hold
afterwards (test_streaming.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from spark_jobs.__main__ import main
from spark_jobs.lake import ledger, storage
from spark_jobs.streaming import pipeline
from tests.conformance.answers import job_session
from tests.processes import die


def dying(module: Any, name: str, *, before: bool, after: int = 0) -> None:
    """Kills this process right before or after a function is called, once it was `after` times."""
    original, calls = getattr(module, name), iter(range(1_000))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        hit = next(calls) >= after
        if hit and before:
            die()
        result = original(*args, **kwargs)
        if hit:
            die()
        return result

    setattr(module, name, wrapped)


def torn() -> None:
    """Dies while the second file of a batch is being written, with a line of it out."""
    write, calls = storage.Storage.write, iter(range(1_000))

    def first_line(blocks: Any) -> Any:
        yield next(iter(blocks))
        die()

    storage.Storage.write = lambda self, file, blocks: write(
        self, file, first_line(blocks) if next(calls) else blocks
    )


STEPS: dict[str, Callable[[], None]] = {
    "in the middle of the second landing file": torn,
    "between a commit and its ledger row": lambda: dying(ledger, "append", before=True),
    "before the batch is done": lambda: dying(pipeline, "run_table", before=False, after=1),
}


if __name__ == "__main__":
    path, *steps = sys.argv[1:]
    for step in steps:
        STEPS[step]()
    with job_session("classic"):
        main(["stream", "--spec", path], standalone_mode=False)
