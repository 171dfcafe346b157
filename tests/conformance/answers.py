"""What a session answers to everything that the data plane asks of one, as values to compare.

Belongs here: asking, and a process that asks the session that a job would have, under whatever PySpark
is installed. Does not belong here: what the answers should be; the tests compare those of the embedded
engine with these, row by row.

    python -m tests.conformance.answers classic answers.json '["upsert", "snapshot"]'

The kinds: `classic`, a session on the JVM of this process, without the Connect client; `connect`, one
of a Spark Connect server. The last argument names the stories of publishing that are asked.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spark_jobs.engines import ambient, jars, jvm
from spark_jobs.engines.session import Engine
from spark_jobs.errors import EngineUnavailable
from spark_jobs.lake.storage import ZONES
from tests.conformance import edge_values
from tests.conformance.agreement import accounted, content, published, rejected
from tests.conformance.stories import STORIES
from tests.lakes import TinyLake, transforms_in
from tests.small_spark import INTERPRETED, JVM_OPTIONS, SMALL

Answers = dict[str, Any]
# The client of Spark Connect, which a classic session does without.
CONNECT_CLIENT = ("grpc", "grpc_status", "google")


def answers(engine: Engine, folder: Path, stories: Iterable[str]) -> Answers:
    """By name: of expressions and frames on edge values, and of every publish mode batch by batch.
    The former are compiled where the engine does that, as in production."""
    found = {**_expressions(engine, folder), **_frames(engine, folder)}
    if engine.name != "sail":
        for name, value in INTERPRETED.items():
            engine.spark.conf.set(name, value)
    return {**found, **_stories(engine, folder, stories)}


def _expressions(engine: Engine, folder: Path) -> Answers:
    from tests.conformance.test_expressions import GROUPS

    found = {}
    for group, (values, expressions) in GROUPS.items():
        path, columns = edge_values.write(folder, group, values()), expressions()
        named = {f"x{i}": c for i, c in enumerate(columns.values())}
        rows = engine.spark.read.parquet(path).select(
            "row", *[c.alias(n) for n, c in named.items()]
        )
        table = rows.orderBy("row").toArrow()
        for name, alias in zip(columns, named, strict=True):
            answer = [repr(v) for v in table.column(alias).to_pylist()]
            found[f"{group}: {name}"] = [dict(rows.dtypes)[alias], *answer]
    return found


def _frames(engine: Engine, folder: Path) -> Answers:
    from tests.conformance.test_frames import FRAMES, _rows

    path = edge_values.write(folder, "rows", _rows())
    made = {f.__name__: f(engine.spark.read.parquet(path)) for f in FRAMES}
    return {
        f"frame {name}": [repr(frame.dtypes), *content(frame.toArrow())]
        for name, frame in made.items()
    }


def _stories(engine: Engine, folder: Path, stories: Iterable[str]) -> Answers:
    found = {}
    for nth, name in enumerate(stories):
        story = STORIES[name]
        root = folder / f"story-{nth}"
        lake = TinyLake(root, engine, zones={z: str(root / "lake" / z) for z in ZONES})
        with transforms_in(lake.transforms):
            story.define(lake)
            for n, batch in enumerate(story.batches, 1):
                lake.given(story.source, batch.upstream)
                report = lake.run(story.table, *batch.partitions, engine=engine.name)
                assert not report.failed, report.failed[0].error
                found[f"{name}, batch {n}"] = [
                    *map(repr, accounted(report)),
                    *published(lake, story.table),
                    *rejected(lake, story.table),
                ]
    return found


# -- the session of a job ----------------------------------------------------------------------


@contextmanager
def job_session(kind: str) -> Iterator[Any]:
    """A session as a job finds it: somebody else's, with settings of their own. Yields it if it is
    there before anybody asks."""
    if kind == "connect":
        small = (f"-D{key}={value}" for key, value in SMALL.items())
        server = jvm.start_server(cores=2, memory="1g", options=(*JVM_OPTIONS, *small))
        os.environ["SPARK_REMOTE"] = server.url
        from pyspark.sql import SparkSession

        try:
            yield None
        finally:
            if (spark := SparkSession.getActiveSession()) is not None:
                spark.stop()  # before its server, or it waits for that for minutes
            server.stop()
        return
    sys.meta_path[:] = [_Without(finder, CONNECT_CLIENT) for finder in sys.meta_path]
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]")  # noqa: TID251
    settings = SMALL | {
        "spark.ui.enabled": "false",
        "spark.driver.extraClassPath": os.pathsep.join(map(str, jars.fetched(jars.delta()))),
        "spark.driver.extraJavaOptions": " ".join(JVM_OPTIONS),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.session.timeZone": "America/New_York",
        "spark.sql.warehouse.dir": tempfile.mkdtemp(),
    }
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    try:
        yield spark
    finally:
        spark.stop()


class _Without:
    """A finder of modules, but for some, which are not installed where a job runs."""

    def __init__(self, finder: Any, names: tuple[str, ...]) -> None:
        self.finder, self.names = finder, names

    def find_spec(self, name: str, *of: Any) -> Any:
        return None if name.partition(".")[0] in self.names else self.finder.find_spec(name, *of)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)


def main(kind: str, out: str, stories: str) -> None:
    import pyspark

    with job_session(kind) as there, tempfile.TemporaryDirectory() as folder:
        with Engine.start("ambient") as engine:
            assert there is None or engine.spark is there
            found = answers(engine, Path(folder), json.loads(stories))
        left_running = engine.spark.range(3).count() == 3
        answer = {
            "pyspark": pyspark.__version__,
            "left running": left_running,
            "refusal": _refusal(),
            "answers": found,
        }
        Path(out).write_text(json.dumps(answer), encoding="utf-8")


def _refusal() -> str:
    """What is said of a setting that a running session does not take."""
    try:
        ambient.session({"spark.sql.warehouse.dir": "/elsewhere"}, {})
    except EngineUnavailable as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main(*sys.argv[1:])
