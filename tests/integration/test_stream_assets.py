"""Streams under Dagster and the command line: what is put into one reaches silver, each record once.

Here: the landing asset, its check, the sensors, the commands. Not here: the steps of a drain
(test_kinesis.py, test_kafka.py).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner

from lakehouse.automation import stream_sensor
from lakehouse.automation.landing_sensor import delivered_to
from lakehouse.cli import stream as command
from lakehouse.cli.doctor import doctor
from lakehouse.cli.quarantine import quarantine
from lakehouse.definitions import build_definitions
from lakehouse.keys import landing_key
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.settings.references import resolve
from lakehouse.settings.sources import KafkaConnection, SourceSettings
from lakehouse.sources.registry import extracted
from lakehouse.sources.stream_datasets import StreamDataset, Streams
from lakehouse.standins.servers.aws import REGION, Aws
from spark_jobs.contract.reader import load_contracts
from spark_jobs.contract.source import kind_of
from spark_jobs.engines.session import Engine
from spark_jobs.stream_records import sent
from tests import documents
from tests.integration.kinesis_streams import DATASET, NAME, client
from tests.lakes import TinyLake

PROJECT = Path(__file__).parents[2]
BRONZE, SILVER = "bronze.sensor_readings", "silver.sensor_readings"


@pytest.fixture
def settings(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    sources = {"kinesis": {"region": REGION, "endpoint": aws.url, "calls_per_second": 1000}}
    file = tmp_path / "sources.yaml"
    file.write_text(yaml.safe_dump(sources))
    for name, value in {
        "LAKEHOUSE_ENV": "local",
        "LAKEHOUSE_HOME": str(tmp_path),
        "LAKEHOUSE_SOURCES": str(file),
        "DAGSTER_HOME": "",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DAGSTER_HOME")
    read = load_settings()
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    days = read.partitions.model_copy(update={"start": yesterday, "end": None})
    return read.model_copy(update={"partitions": days})


@pytest.fixture
def stream(settings: Settings, aws: Aws) -> StreamDataset:
    for name in (NAME, "customer-events-stream"):
        client(aws.url).create_stream(StreamName=name, ShardCount=2)
    return Streams(settings, load_contracts(settings.contracts))[DATASET]


@pytest.fixture
def defs(settings: Settings) -> dg.Definitions:
    return build_definitions(settings, marts=False)


def reading(number: int, celsius: float = -18.2) -> bytes:
    taken = f"2026-10-05T07:{number // 60:02}:{number % 60:02}"
    body = {"timestamp": taken, "sensor_id": f"sensor_{number % 3}", "temperature_celsius": celsius}
    return json.dumps(body).encode()


def materialize(defs: dg.Definitions, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    partition = newest(defs)
    job = defs.resolve_job_def("lake_hourly")
    return job.execute_in_process(
        asset_selection=[landing_key(DATASET)],
        partition_key=partition,
        instance=instance,
        raise_on_error=False,
    )


def newest(defs: dg.Definitions) -> str:
    found = defs.resolve_asset_graph().get(landing_key(DATASET)).partitions_def
    assert found is not None
    key = found.get_last_partition_key()
    assert key is not None
    return key


def landed(stream: StreamDataset) -> Iterator[tuple[str, str]]:
    for file in sorted(Path(stream.files.uri).glob("*/[!_]*.json")):
        for text in file.read_text().splitlines():
            yield file.parent.name, text


def test_what_is_put_reaches_silver_once_though_producers_repeat_it_and_a_reset_reads_it_again(
    settings: Settings, stream: StreamDataset, sail: Engine
) -> None:
    for number in range(40):
        stream.put(reading(number), f"sensor_{number % 3}")
    for number in range(10):
        stream.put(
            reading(number, -18.0), f"sensor_{number % 3}"
        )  # again, with a number of its own
    for bad in (b"\xff\xfe", b"[1]"):
        stream.put(bad, "x")
    assert stream.drain().dead_letters == 2
    hours = sorted({hour for hour, _ in landed(stream)})

    lake = TinyLake(Path(settings.home), sail, zones=dict(settings.zones))
    contracts = str(settings.contracts)
    lake._parsed = load_contracts(settings.contracts)

    def silver() -> list[dict[str, Any]]:
        for table in (BRONZE, SILVER):
            lake.run(table, *hours, contracts=contracts)
        return lake.rows(SILVER)

    before = silver()
    assert len(before) == 40 and len(lake.rows(BRONZE)) == 50
    assert sum(str(row["temperature_celsius"]) == "-18.00" for row in before) == 10
    letters = lake.quarantined(BRONZE)
    assert len(letters) == 2
    assert {sent(row["_raw"] if "_raw" in row else row["record"]) for row in letters} == {
        b"\xff\xfe",
        b"[1]",
    }
    stream.reset()
    for number in range(40, 45):
        stream.put(reading(number), "sensor_1")
    assert stream.drain().records == 57
    after = silver()
    assert len(after) == 45 and [row for row in after if row in before] == before


def test_a_dead_letter_keeps_its_bytes_through_a_replay_and_a_discard(
    settings: Settings, aws: Aws, stream: StreamDataset, sail: Engine
) -> None:
    aws.set_kinesis_clock("2026-10-20T10:30:00+00:00")
    for number in range(30):
        stream.put(reading(number), "sensor_1")
    stream.put(b'{"sensor_id": \xff\x00', "sensor_2")
    assert stream.drain().dead_letters == 1
    lake = TinyLake(Path(settings.home), sail, zones=dict(settings.zones))
    lake._parsed = load_contracts(settings.contracts)
    lake.run(BRONZE, "2026-10-20T10", contracts=str(settings.contracts))

    def said(*arguments: str) -> str:
        done = CliRunner().invoke(quarantine, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    def letter() -> tuple[str, bytes | None, dict[str, str]]:
        (row,) = lake.quarantined(BRONZE)
        ((about),) = json.loads(row["record"])
        return row["quarantine_id"], sent(row["record"]), about

    before = letter()
    assert before[1] == b'{"sensor_id": \xff\x00' and before[2]["reason"] == "no UTF-8"
    assert before[2]["key"] == "sensor_2" and before[2]["shard"].startswith("shardId-")
    assert "0 of 1 rows replayed, 1 stay" in said("replay", BRONZE)
    assert letter() == before and len(lake.rows(BRONZE)) == 30
    # Its producer sends what it meant, and the letter is settled.
    stream.put(reading(30), "sensor_2")
    stream.drain()
    lake.run(BRONZE, "2026-10-20T10", contracts=str(settings.contracts))
    assert "1 rows discarded" in said("discard", BRONZE, before[0], "--reason", "sent again")
    assert "no open rows" in said("replay", BRONZE)
    assert letter() == before and len(lake.rows(BRONZE)) == 31


def test_a_drain_is_a_materialization_with_its_lag_and_other_hours_are_told_too(
    settings: Settings, aws: Aws, stream: StreamDataset, defs: dg.Definitions
) -> None:
    then = datetime.now(UTC) - timedelta(hours=3)
    aws.set_kinesis_clock(then.isoformat())
    stream.put(reading(1), "sensor_1")
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(defs, instance)
        assert result.success
        events = instance.fetch_materializations(landing_key(DATASET), limit=50).records
        by_partition = {e.partition_key: e.asset_materialization.metadata for e in events}
        assert by_partition[newest(defs)]["records"].value == 1
        (hour,) = {hour for hour, _ in landed(stream)}
        silent = by_partition[newest(defs)]["partitions without a record"].value
        assert hour == f"{then:%Y-%m-%dT%H}" not in silent and newest(defs) in silent
        assert {hour, *silent} == by_partition.keys()
        assert {by_partition[h]["dagster/row_count"].value for h in silent[:-1]} == {0}
        (check,) = result.get_asset_check_evaluations()
        assert not check.passed and check.metadata["limit"].value == 7200


def test_a_record_that_waited_for_longer_than_the_contract_allows_fails_the_check(
    settings: Settings, stream: StreamDataset, defs: dg.Definitions
) -> None:
    stream.put(reading(1), "sensor_1")
    contracts = load_contracts(settings.contracts)
    source = contracts[BRONZE].delivered.model_copy(update={"max_lag_seconds": 0})
    contracts[BRONZE] = replace(contracts[BRONZE], source=source)
    strict = build_definitions(settings, contracts=contracts, marts=False)
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(strict, instance)
        (check,) = result.get_asset_check_evaluations()
    assert result.success and not check.passed
    assert [text for _, text in landed(stream)], "what is late lands all the same"


def test_a_gap_fails_the_step_and_is_not_tried_again(
    settings: Settings, aws: Aws, stream: StreamDataset, defs: dg.Definitions
) -> None:
    stream.put(reading(1), "sensor_1")
    stream.drain()
    shard = client(aws.url).list_shards(StreamName=NAME)["Shards"][0]["ShardId"]
    client(aws.url).split_shard(StreamName=NAME, ShardToSplit=shard, NewStartingHashKey="99")
    aws.trim_kinesis(NAME, (datetime.now(UTC) + timedelta(seconds=5)).isoformat())
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(defs, instance)
        assert not result.success
        (failure,) = [e for e in result.all_events if e.event_type_value == "STEP_FAILURE"]
        assert "has left it before it was read" in str(failure.event_specific_data.error)


def test_the_sensor_drains_what_waits_and_asks_for_no_second_run_while_one_is_queued(
    settings: Settings, stream: StreamDataset
) -> None:
    rules = settings.sources.streams.model_copy(update={"drain_after_seconds": 0.001})
    sources = settings.sources.model_copy(update={"streams": rules})
    eager = settings.model_copy(update={"sources": sources})
    defs = build_definitions(eager, marts=False)
    sensor = defs.resolve_sensor_def(stream_sensor.NAME)

    with dg.DagsterInstance.ephemeral() as instance:

        def look() -> Any:
            with dg.build_sensor_context(
                instance=instance,
                repository_def=defs.get_repository_def(),
                resources=defs.resources,
            ) as context:
                return sensor.evaluate_tick(context)

        assert not look().run_requests, "nothing waits"
        stream.put(reading(1), "sensor_1")
        (request,) = look().run_requests
        assert request.partition_key == newest(defs)
        # A crash now: the run is there, and nothing else was written down.
        run = instance.create_run_for_job(
            defs.resolve_job_def("lake_hourly"),
            tags={**request.tags, "dagster/partition": request.partition_key},
            status=dg.DagsterRunStatus.NOT_STARTED,
            asset_selection=frozenset(request.asset_selection),
        )
        assert not look().run_requests
        instance.report_run_canceled(run)
        assert len(look().run_requests) == 1, "one that came to nothing holds up nothing"
        stream.drain()
        assert not look().run_requests


def test_what_lands_is_served_by_the_sensor_on_landing_and_extracted_by_nobody(
    settings: Settings,
) -> None:
    contracts = load_contracts(settings.contracts)
    assert BRONZE in delivered_to(settings, contracts)[DATASET]
    assert DATASET in Streams(settings, contracts).readers
    assert DATASET not in extracted(settings, contracts)


def test_the_commands_put_show_and_land_records(
    settings: Settings, aws: Aws, stream: StreamDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(command.stream, arguments)
        assert done.exit_code == code, done.output
        return done.output

    shard, position = said("put", DATASET, '{"a": 1}', "--key", "sensor_01").split()
    assert f"{shard} {position} sensor_01 " in said("tail", DATASET)
    assert said("tail", DATASET, "--shard", "another") == ""
    assert "waits for" in said("lag", DATASET)
    stream.drain()
    assert said("tail", DATASET) == "" and '{"a": 1}' in said("tail", DATASET, "--landed")
    assert said("lag", DATASET).count("all has landed") == 2
    question = CliRunner().invoke(command.stream, ["reset", DATASET], input="n\n")
    hour = f"{datetime.now(UTC):%Y-%m-%dT%H}"
    assert f"all records since {hour}" in question.output, "Kinesis does not tell how many"
    assert f"run again for the partitions {hour} to {hour}" in question.output
    assert "have them twice" in question.output and question.exit_code == 1
    assert stream.drain().records == 0
    said("reset", DATASET, "--yes")
    assert stream.drain().records == 1


def test_the_documented_settings_contract_and_commands_are_good(
    settings: Settings, stream: StreamDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = list(documents.blocks(PROJECT / "docs/how-to/read-a-stream.md"))
    for name in ("KAFKA_API_KEY", "KAFKA_API_SECRET"):
        monkeypatch.setenv(name, "x")
    problems: list[str] = []
    (connections,) = [yaml.safe_load(b.text) for b in blocks if b.title == "streams.yaml"]
    SourceSettings.model_validate(resolve(connections, ("sources",), problems))
    assert not problems
    (source,) = [yaml.safe_load(b.text)["source"] for b in blocks if b.text.startswith("source:")]
    assert kind_of(source).model_validate(source).kind == "kinesis"
    for line in (x for b in blocks if b.language == "sh" for x in b.text.splitlines()):
        program, group, *arguments = shlex.split(line)
        assert (program, group) == ("lakehouse", "stream")
        done = CliRunner().invoke(command.stream, arguments)
        assert done.exit_code == 0, f"{line}: {done.output} {done.exception!r}"
    assert len(list(landed(stream))) == 1
    assert CliRunner().invoke(doctor).output.count("sensor_readings: ok") == 1


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"bootstrap": "b.example:9092", "protocol": "PLAINTEXT"}, "not encrypted"),
        ({"bootstrap": "b.example:9092"}, "user and password"),
        ({"bootstrap": "no port"}, "match pattern"),
    ],
)
def test_a_cluster_without_encryption_or_login_is_refused(
    given: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        KafkaConnection(**given)
