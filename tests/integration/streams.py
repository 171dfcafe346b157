"""A continuous pipeline in a process that may be killed at any step of a batch.

    python -m tests.integration.streams classic stream.json [step]

Belongs here: that process, which is a job with a session of Spark (the command), or keeps what Spark
promises to a pipeline on the embedded engine, which starts at once. Does not belong here: what must hold
afterwards (test_streaming.py).
"""

from __future__ import annotations

import base64
import contextlib
import json
import sys
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from spark_jobs.__main__ import main
from spark_jobs.engines.session import Engine
from spark_jobs.lake import ledger, storage
from spark_jobs.streaming import pipeline
from spark_jobs.streaming.spec import StreamSpec
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


def follow(spec: StreamSpec, step: str | None, said: Path) -> None:
    """Hands over what was sent, a file a batch, as Spark does: a batch that was not done comes again,
    with the same records and under the same number."""
    checkpoint = Path(spec.checkpoint)
    done = checkpoint / "commits"
    if not done.exists():
        done.mkdir(parents=True)
        (checkpoint / "metadata").write_text(json.dumps({"id": str(uuid.uuid4())}))
    if step:
        STEPS[step]()
    made = pipeline.pipeline(spec)
    with (
        Engine.start("sail", cores=2) as engine,
        said.open("a") as kept,
        contextlib.redirect_stderr(kept),
    ):
        for number, file in enumerate(sorted(Path(spec.source.location).glob("*.json"))):
            if not (done / str(number)).exists():
                made(engine.spark.createDataFrame(_records(file)), number)
                (done / str(number)).touch()


def _records(file: Path) -> pa.Table:
    """A batch, with the columns of Kinesis' source."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        row["data"] = base64.b64decode(row["data"])
        arrived = row["approximateArrivalTimestamp"]
        row["approximateArrivalTimestamp"] = datetime.fromisoformat(arrived)
    return pa.Table.from_pylist(rows)


if __name__ == "__main__":
    kind, path, *steps = sys.argv[1:]
    for step in steps:
        STEPS[step]()
    with job_session(kind):
        main(["stream", "--spec", path], standalone_mode=False)
