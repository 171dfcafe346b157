"""The batched event log stores what the stock one stores, or nothing of a batch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as db
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value  # noqa: TID251

from lakehouse.dagster_private import DagsterSqliteStorage
from lakehouse.local import event_log
from lakehouse.local.instance import bury_dead_runs, open_instance, prepare_home
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from lakehouse.settings.references import SettingsError

PROJECT = Path(__file__).parents[2]
DAYS = [f"2026-10-{d:02d}" for d in range(5, 15)]
KEY = dg.AssetKey("days")
PARTITIONS = dg.DailyPartitionsDefinition("2026-10-05", end_date="2026-10-30")


@dg.asset(
    name="days",
    partitions_def=PARTITIONS,
    check_specs=[dg.AssetCheckSpec("sound", asset="days")],
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def days(context: dg.AssetExecutionContext) -> Iterator[Any]:
    stop = context.run.tags.get("fail_after")
    if stop is not None:
        for partition in DAYS[: int(stop)]:
            yield dg.AssetMaterialization(KEY, partition=partition)
        raise dg.Failure("as asked", allow_retries=False)
    for partition in context.partition_keys:
        context.add_asset_metadata({"day": partition}, partition_key=partition)
    yield dg.MaterializeResult()
    yield dg.AssetCheckResult(passed=True)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("DAGSTER_HOME", "DAGSTER_EVENT_BATCH_SIZE"):
        monkeypatch.setenv(name, "")  # so that they are put back afterwards
        monkeypatch.delenv(name)
    return load_settings("local", home=tmp_path, project=PROJECT)


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with open_instance(settings) as found:
        yield found


def materialize(
    instance: dg.DagsterInstance, fail_after: int | None = None
) -> dg.ExecuteInProcessResult:
    tags = {} if fail_after is None else {"fail_after": str(fail_after)}
    tags |= {
        "dagster/asset_partition_range_start": DAYS[0],
        "dagster/asset_partition_range_end": DAYS[-1],
    }
    return dg.materialize([days], instance=instance, tags=tags, raise_on_error=False)


def test_a_range_is_recorded_partition_by_partition(instance: dg.DagsterInstance) -> None:
    assert materialize(instance).success
    assert instance.get_materialized_partitions(KEY) == set(DAYS)
    latest = instance.get_latest_materialization_event(KEY)
    assert latest is not None
    assert latest.asset_materialization.partition == DAYS[-1]


def planned_rows(instance: dg.DagsterInstance) -> list[tuple[str, str | None]]:
    """Run and partition of what is planned, as the index of all runs has it."""
    filters = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, KEY)
    found = instance.event_log_storage.get_event_records(filters, ascending=True)
    return [(r.run_id, r.partition_key) for r in found]


def test_a_range_plans_each_asset_once_in_its_log_and_each_partition_in_the_index(
    instance: dg.DagsterInstance,
) -> None:
    run = materialize(instance).run_id
    (planned,) = instance.all_logs(run, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    assert list(planned.get_dagster_event().partitions_subset.get_partition_keys()) == DAYS
    assert planned_rows(instance) == [(run, day) for day in DAYS]


def test_partitions_of_a_run_that_dies_are_failed_and_the_others_are_not(
    instance: dg.DagsterInstance,
) -> None:
    materialize(instance)
    broken = materialize(instance, fail_after=3)
    assert not broken.success
    said = get_and_update_asset_status_cache_value(instance, KEY, PARTITIONS)
    assert said is not None
    failed = said.deserialize_failed_partition_subsets(PARTITIONS)
    assert set(failed.get_partition_keys()) == set(DAYS[3:])


def test_the_index_has_what_the_stock_storage_would_have_put_there(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    run = materialize(instance).run_id
    with dg.instance_for_test(temp_dir=str(tmp_path)) as stock:
        other = materialize(stock).run_id
        theirs = events_of_the_index(stock, other)
    assert events_of_the_index(instance, run) == theirs


def events_of_the_index(instance: dg.DagsterInstance, run: str) -> list[tuple[Any, ...]]:
    filters = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, KEY)
    found = instance.event_log_storage.get_event_records(filters, ascending=True)
    events = [r.event_log_entry.get_dagster_event() for r in found if r.run_id == run]
    return sorted(
        (e.partition, e.message, e.step_key, e.asset_materialization_planned_data) for e in events
    )


def test_a_batch_takes_one_statement_per_database_and_not_one_per_event(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    real = event_log.BatchingEventLog._engine

    def watched(self: Any, shard: str) -> Any:
        engine = real(self, shard)
        if not db.event.contains(engine, "before_cursor_execute", note):
            db.event.listen(engine, "before_cursor_execute", note)
        return engine

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if statement.startswith("INSERT INTO event_logs"):
            statements.append(statement)

    monkeypatch.setattr(event_log.BatchingEventLog, "_engine", watched)
    result = materialize(instance)
    events = instance.event_log_storage.get_records_for_run(result.run_id).records
    kinds = dg.DagsterEventType
    batched = (kinds.ASSET_MATERIALIZATION, kinds.ASSET_MATERIALIZATION_PLANNED,
               kinds.ASSET_CHECK_EVALUATION_PLANNED)  # fmt: skip
    alone = [r for r in events if r.event_log_entry.dagster_event_type not in batched]
    assert len(statements) <= 2 * len(alone) + 2 * 2, "two batches: the plan, the partitions"


def test_evaluations_are_read_as_soon_as_they_are_said_and_in_order(
    instance: dg.DagsterInstance,
) -> None:
    seen: list[list[bool]] = []

    @dg.asset(check_specs=[dg.AssetCheckSpec(name, asset="one") for name in ("a", "b")])
    def one(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield dg.MaterializeResult()
        for name in ("a", "b"):
            yield dg.AssetCheckResult(check_name=name, passed=name == "a")
            evaluated = dg.DagsterEventType.ASSET_CHECK_EVALUATION
            entries = context.instance.all_logs(context.run.run_id, of_type=evaluated)
            seen.append([e.asset_check_evaluation.passed for e in entries if e.dagster_event])

    run = dg.materialize([one], instance=instance)
    assert seen == [[True], [True, False]]
    logged = [e.dagster_event_type for e in instance.all_logs(run.run_id) if e.is_dagster_event]
    happened = [e.event_type for e in run.all_events]
    of_the_step = [t for t in logged if t in happened and t.value.startswith(("STEP", "ASSET"))]
    assert [t for t in of_the_step if "PLANNED" not in t.value] == [
        t for t in happened if t.value.startswith(("STEP", "ASSET")) and "PLANNED" not in t.value
    ]


def test_an_evaluation_outside_of_a_run_is_stored_at_once(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(check_name="sound", passed=True, asset_key=KEY)
    )
    stock = DagsterSqliteStorage(str(settings.dagster_home)).event_log_storage
    assert len(stock.get_latest_asset_check_execution_by_key([dg.AssetCheckKey(KEY, "sound")])) == 1


def test_a_run_plans_one_evaluation_of_a_check(instance: dg.DagsterInstance) -> None:
    materialize(instance)
    history = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(KEY, "sound"), limit=100
    )
    assert [(r.status.value, r.partition) for r in history] == [("SUCCEEDED", None)]


def test_the_stock_storage_reads_what_was_written(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    result = materialize(instance)
    stock = DagsterSqliteStorage(str(settings.dagster_home)).event_log_storage
    ours = instance.event_log_storage.get_records_for_run(result.run_id).records
    theirs = stock.get_records_for_run(result.run_id).records
    assert [r.event_log_entry for r in theirs] == [r.event_log_entry for r in ours]
    assert stock.get_materialized_partitions(KEY) == set(DAYS)


def test_a_batch_that_fails_halfway_stores_nothing(instance: dg.DagsterInstance) -> None:
    result = materialize(instance)
    storage = instance.event_log_storage
    records = storage.get_records_for_run(result.run_id).records
    events = [r.event_log_entry for r in records if r.event_log_entry.is_dagster_event]
    broken = events[0]._replace(run_id=None)
    with pytest.raises(Exception, match="shard_name"):
        storage.store_event_batch([*events[:3], broken])
    assert len(storage.get_records_for_run(result.run_id).records) == len(records)


def test_the_log_goes_on_after_a_batch_that_failed(instance: dg.DagsterInstance) -> None:
    entry = dg.EventLogEntry(
        error_info=None,
        level=20,
        user_message="x",
        run_id="none",
        timestamp=0.0,
        dagster_event=None,
    )
    with pytest.raises(Exception, match="shard_name"):
        instance.event_log_storage.store_event_batch([entry._replace(run_id=None)])
    assert materialize(instance).success


def test_many_runs_keep_few_databases_open(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "OPEN_RUNS", 2)
    for _ in range(4):
        materialize(instance)
    assert len(instance.event_log_storage._engines) == 1 + 2


def test_a_run_whose_process_died_is_marked_failed(instance: dg.DagsterInstance) -> None:
    from dagster._core.test_utils import create_run_for_test  # noqa: TID251

    dead = create_run_for_test(
        instance, status=dg.DagsterRunStatus.STARTED, tags={"lakehouse/process": "999999999"}
    )
    alive = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    assert bury_dead_runs(instance) == [dead.run_id]
    assert instance.get_run_by_id(dead.run_id).status == dg.DagsterRunStatus.FAILURE
    assert instance.get_run_by_id(alive.run_id).status == dg.DagsterRunStatus.STARTED


def test_the_instance_keeps_telemetry_off_and_one_run_of_a_lane(settings: Settings) -> None:
    prepare_home(settings)
    with dg.DagsterInstance.get() as instance:
        assert instance.telemetry_enabled is False
        limits = instance.get_concurrency_config().run_queue_config.tag_concurrency_limits
        assert limits == [
            {"key": "lakehouse/lane", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
        ]
        assert instance.run_monitoring_settings["free_slots_after_run_end_seconds"] == 60


def test_the_warehouse_takes_as_many_runs_as_the_settings_say_now(settings: Settings) -> None:
    for limit in (3, 2):
        given = {"pools": settings.pools.model_copy(update={"warehouse": limit})}
        prepare_home(settings.model_copy(update=given))
        with dg.DagsterInstance.get() as instance:
            [pool] = instance.event_log_storage.get_pool_limits()
            assert (pool.name, pool.limit, pool.from_default) == ("warehouse", limit, False)
            info = instance.event_log_storage.get_concurrency_info("warehouse")
            assert info.slot_count == limit
            instance.event_log_storage.initialize_concurrency_limit_to_default("gold__fact_sales")
            other = instance.event_log_storage.get_concurrency_info("gold__fact_sales")
            assert other.slot_count == 1
            instance.event_log_storage.delete_concurrency_limit("gold__fact_sales")


def test_a_home_that_cannot_be_written_says_so(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    blocked = settings.model_copy(update={"home": tmp_path / "file"})
    with pytest.raises(SettingsError, match=r"not writable.*LAKEHOUSE_HOME"):
        prepare_home(blocked)
