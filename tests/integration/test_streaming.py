"""A continuous pipeline of Spark Structured Streaming: no record is lost, and none counted twice,
wherever its process is killed.

Here: records as Kinesis gives them, through a file source, into the sample's sensor tables. Not here:
what publishing does to rows (test_publish_properties.py), or Kinesis itself.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from spark_jobs.errors import ContractError
from spark_jobs.lake import ledger
from spark_jobs.lake.storage import Lake, Storage
from spark_jobs.streaming import pipeline
from spark_jobs.streaming.spec import StreamSpec
from tests import documents, processes
from tests.integration.streams import STEPS, follow
from tests.lakes import TinyLake

PROJECT = Path(__file__).parents[2]
BRONZE, SILVER = "bronze.sensor_readings", "silver.sensor_readings"
HOURS = ("2026-10-05T07", "2026-10-05T08")


class Stream:
    """A lake with the sample's contracts, and records on their way to it."""

    def __init__(self, root: Path) -> None:
        self.root, self.sent = root, 0
        self.tables = TinyLake(root)
        (root / "stream").mkdir(parents=True)

    @property
    def lake(self) -> Lake:
        return self.tables.lake

    def spec(self, **more: Any) -> StreamSpec:
        given = {
            "table": BRONZE,
            "then": [SILVER],
            "name": "sensors",
            "source": {
                "format": "json",
                "location": str(self.root / "stream"),
                "options": {"maxFilesPerTrigger": "1"},
            },
            "arrival": "arrival_timestamp",
            "every_seconds": None,
            "contracts": str(PROJECT / "contracts"),
            "zones": self.lake.zones,
            "engine": "ambient",
            "run_id": "streaming",
        }
        return StreamSpec(**given | more)

    def send(self, records: Iterable[tuple[str, bytes]]) -> None:
        """A file of the source, which is one batch of the stream: records by minute of arrival."""
        rows = []
        for minute, body in records:
            self.sent += 1
            rows.append(
                {
                    "partitionKey": "sensor_01",
                    "data": base64.b64encode(body).decode(),
                    "stream": "sensor-readings",
                    "shardId": f"shardId-{self.sent % 2:012}",
                    "sequenceNumber": str(self.sent),
                    "approximateArrivalTimestamp": f"{minute}:{self.sent % 60:02}.250Z",
                }
            )
        text = "\n".join(map(json.dumps, rows))
        unfinished = self.root / f"{self.sent}.part"
        unfinished.write_text(text)
        unfinished.rename(self.root / "stream" / f"{self.sent:06}.json")

    def run(self, *steps: str, kind: str = "classic") -> subprocess.CompletedProcess[str]:
        path = self.root / "stream.spec"
        path.write_text(self.spec().model_dump_json())
        command = [sys.executable, "-m", "tests.integration.streams", kind, str(path), *steps]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SPARK_")}
        environment["PYSPARK_PYTHON"] = sys.executable
        return subprocess.run(
            command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300
        )

    def finish(self) -> list[dict[str, Any]]:
        """Runs it to the end of what was sent; what it said of its batches."""
        done = self.run()
        assert done.returncode == 0, done.stderr[-3000:]
        return _told(done.stderr)

    def follow(self, step: str | None = None) -> list[dict[str, Any]]:
        """The same on the embedded engine; what it said until it ended, or was killed at a step."""
        said = self.root / "said"
        said.unlink(missing_ok=True)
        process = processes.start(follow, self.spec(engine="sail"), step, said)
        assert processes.finish(process) == (-signal.SIGKILL if step else 0)
        return _told(said.read_text())

    def rows(self, table: str) -> list[dict[str, Any]]:
        return self.tables.delta(table).to_pyarrow_table().to_pylist()

    def landed(self) -> list[str]:
        return [
            text
            for path in sorted((self.root / "lake/landing/sensor_readings").rglob("*.json"))
            for text in path.read_text().splitlines()
        ]


def _told(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith('{"str')]


def reading(number: int, celsius: float = -18.2) -> bytes:
    """A reading as a sensor sends it; each has a time of its own."""
    taken = f"2026-10-05T07:{number // 60:02}:{number % 60:02}"
    return json.dumps(
        {"timestamp": taken, "sensor_id": "sensor_01", "temperature_celsius": celsius}
    ).encode()


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    return Stream(tmp_path)


BAD = [b"", b"\n", b'{"sensor_id": "x"', b"\xff\xfe", b"[1]"]
SPREAD = b'{\r\n"timestamp": "2026-10-05T07:59:59",\n"sensor_id": "s", "temperature_celsius": 1.10}'


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stream, list[dict[str, Any]]]:
    """A stream whose pipeline was killed at each step of its first batch, one after another, and then
    finished; and what it said."""
    stream = Stream(tmp_path_factory.mktemp("killed"))
    seven, eight = "2026-10-05T07:59", "2026-10-05T08:00"  # one batch of two windows
    good = [*(reading(n) for n in range(110)), SPREAD, *BAD]
    stream.send(
        [*((seven, body) for body in good), *((eight, reading(n)) for n in range(110, 170))]
    )
    for step in STEPS:
        assert stream.follow(step) == []
    stream.send((eight, reading(n)) for n in range(170, 180))
    return stream, stream.follow()


@pytest.mark.slow
def test_a_pipeline_killed_at_every_step_of_a_batch_loses_and_doubles_nothing(
    killed: tuple[Stream, list[dict[str, Any]]],
) -> None:
    stream, (first, second) = killed
    assert first["batch"] == 0 and first["landed"] == {HOURS[0]: 116, HOURS[1]: 60}
    assert second["batch"] == 1 and second["landed"] == {HOURS[1]: 10}
    assert len(stream.landed()) == 186
    bronze = [row["timestamp"] for row in stream.rows(BRONZE)]
    assert len(bronze) == len(set(bronze)) == 181
    assert len(stream.rows(SILVER)) == 181
    assert len(stream.tables.quarantined(BRONZE)) == len(BAD)


@pytest.mark.slow
def test_every_record_is_accounted_for_to_the_letter(
    killed: tuple[Stream, list[dict[str, Any]]],
) -> None:
    stream, _ = killed
    newest = {row.partition: row for row in ledger.history(stream.lake, BRONZE)}
    assert {p: (r.read, r.inserted, r.quarantined) for p, r in newest.items()} == {
        HOURS[0]: (116, 111, 5),
        HOURS[1]: (70, 70, 0),
    }
    rows = {row["timestamp"]: row for row in stream.rows(BRONZE)}
    assert rows["2026-10-05T07:59:59"]["temperature_celsius"] == "1.10"
    assert rows["2026-10-05T07:00:00"]["arrival_timestamp"] == "2026-10-05T07:59:01.250Z"


@pytest.mark.slow
def test_a_cleared_checkpoint_reads_the_stream_again_and_costs_no_row(
    killed: tuple[Stream, list[dict[str, Any]]],
) -> None:
    stream, _ = killed
    shutil.rmtree(stream.spec().checkpoint)
    first, second = stream.follow()
    assert first["batch"] == 0 and second["batch"] == 1
    assert len(stream.landed()) == 2 * 186, "taken for the batches of the old checkpoint: lost"
    assert len(stream.rows(SILVER)) == 181


@pytest.mark.jvm
@pytest.mark.slow
def test_a_job_of_spark_that_is_killed_in_a_batch_goes_on_with_it(stream: Stream) -> None:
    stream.send([("2026-10-05T07:58", reading(1)), ("2026-10-05T07:59", reading(2))])
    done = stream.run("between a commit and its ledger row")
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    stream.send([("2026-10-05T07:59", reading(3))])
    first, second = stream.finish()
    assert (first["batch"], first["landed"]) == (0, {HOURS[0]: 2})
    assert (second["batch"], second["landed"]) == (1, {HOURS[0]: 1})
    assert len(stream.landed()) == len(stream.rows(BRONZE)) == len(stream.rows(SILVER)) == 3


@pytest.mark.jvm
@pytest.mark.slow
@pytest.mark.rehearsal
def test_a_session_of_spark_connect_sends_the_pipeline_to_its_server(stream: Stream) -> None:
    """Where batches come to a worker of Python, which connects to the same session."""
    stream.send([("2026-10-05T07:58", reading(1)), ("2026-10-05T08:00", reading(2))])
    done = stream.run(kind="connect")
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(stream.landed()) == len(stream.rows(BRONZE)) == len(stream.rows(SILVER)) == 2
    runs = {(row.partition, row.run_id) for row in ledger.history(stream.lake, SILVER)}
    assert runs == {(hour, "streaming-0") for hour in HOURS}


# -- without an engine -------------------------------------------------------------------------


def test_a_source_holds_no_key_but_may_name_a_service_credential(stream: Stream) -> None:
    options = {"streamName": "sensor-readings", "serviceCredential": "kinesis-sensor-credential"}
    made = stream.spec(source={"format": "kinesis", "options": options})
    assert made.source.options == options
    with pytest.raises(ValidationError, match="awsSecretKey is a credential"):
        stream.spec(source={"format": "kinesis", "options": options | {"awsSecretKey": "x"}})


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        ({"table": "silver.sensor_readings"}, "takes no stream"),
        ({"table": "bronze.fx_rates"}, "takes no stream"),
        ({"then": ["gold.sensor_status_daily"]}, "is not hourly"),
        ({"then": ["silver.nothing"]}, "no contract for table silver.nothing"),
    ],
)
def test_a_table_that_cannot_follow_a_stream_is_refused(
    stream: Stream, tables: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ContractError, match=complaint):
        pipeline.pipeline(stream.spec(**tables))


def test_the_documented_pipeline_is_one_that_runs() -> None:
    page = PROJECT / "docs/how-to/stream.md"
    (block,) = [b for b in documents.blocks(page) if b.title == "stream.json"]
    made = StreamSpec.model_validate_json(block.text)
    assert made.source.format == "kinesis" and made.checkpoint.startswith("s3://")
    assert pipeline.pipeline(made).scheme == "hourly"


def test_a_file_that_is_given_up_is_not_there(tmp_path: Path) -> None:
    def lines() -> Iterable[bytes]:
        yield b"one\n"
        raise KeyboardInterrupt

    store, file = Storage(), str(tmp_path / "folder" / "file.json")
    with pytest.raises(KeyboardInterrupt):
        store.write(file, lines())
    assert not store.exists(file) and store.files(str(tmp_path / "folder")) == []
    store.write(file, [b"one\n", b"two\n"])
    assert store.exists(file) and Path(file).read_bytes() == b"one\ntwo\n"
