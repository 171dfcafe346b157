"""Exchange rates from the API: what lands is what the bank says, whatever the network does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest
import yaml
from click.testing import CliRunner

from lakehouse.automation.extraction_sensor import NAME as SENSOR
from lakehouse.automation.gaps import find_gaps
from lakehouse.automation.schedules import gap_requests
from lakehouse.cli import lake_run, main
from lakehouse.definitions import build_definitions
from lakehouse.keys import asset_key, landing_key, range_tags
from lakehouse.local.instance import open_instance
from lakehouse.settings.load import SOURCES, load_settings
from lakehouse.settings.model import Settings
from lakehouse.settings.references import Secret
from lakehouse.settings.sources import FxApiConnection
from lakehouse.sources import fx_api
from lakehouse.sources.cursors import SqliteStore
from lakehouse.sources.registry import extracted
from lakehouse.sources.source import Meter
from lakehouse.standins.data import fx
from lakehouse.standins.data.plan import Plan
from lakehouse.standins.servers import fx as server
from lakehouse.standins.servers.fx import KEY, FxService
from spark_jobs.contract.reader import load_contracts
from spark_jobs.contract.source import FxApi
from spark_jobs.errors import InputError

PROJECT = Path(__file__).parents[2]
MONDAY = date(2026, 10, 5)


@pytest.fixture(scope="module")
def running() -> Iterator[FxService]:
    with server.serve() as service:
        yield service


@pytest.fixture
def service(running: FxService, monkeypatch: pytest.MonkeyPatch) -> FxService:
    running.answers.clear()
    running.asked.clear()
    monkeypatch.setenv("FX_KEY", KEY)
    return running


def source(service: FxService, **more: Any) -> Any:
    declared = FxApi(kind="fx_api", dataset="fx_rates", format="csv")
    connection = FxApiConnection(url=service.url, key=Secret("FX_KEY"), **more)
    return fx_api.source(connection, declared, fx.HEADER)


def pulled(of: Any, day: date, days: int = 1) -> list[dict[str, Any]]:
    since = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return [r for b in of.pull(since, since + timedelta(days=days), Meter()) for r in b]


def test_a_day_brings_the_quotations_of_seven_days_as_the_bank_writes_them(
    service: FxService,
) -> None:
    rows = pulled(source(service), MONDAY)
    assert [tuple(r.values()) for r in rows] == fx.quotations().window(MONDAY)
    assert service.asked == ["2026-09-29..2026-10-05"]


def test_a_long_range_is_asked_for_a_month_at_a_time_and_has_each_day_once(
    service: FxService,
) -> None:
    rows = pulled(source(service), date(2026, 6, 1), 92)
    days = list(dict.fromkeys(r["as_of_date"] for r in rows))
    assert days == sorted(days, reverse=True) and days[-1] == "2026-05-26"
    assert len(rows) == len({(r["as_of_date"], r["ccy"]) for r in rows})
    assert len(service.asked) == 4


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_service_that_is_not_well_is_asked_again(
    service: FxService, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waited.append)
    service.answers = [(status, {"Retry-After": "7"}), (status, {})]
    assert pulled(source(service), MONDAY)
    assert len(service.asked) == 3
    assert waited[0] == 7 and 0 <= waited[1] <= 30


def test_an_answer_to_wait_until_a_date_is_kept_to(
    service: FxService, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waited.append)
    then = datetime.now(UTC) + timedelta(seconds=50)
    service.answers = [(503, {"Retry-After": f"{then:%a, %d %b %Y %H:%M:%S} GMT"})]
    assert pulled(source(service), MONDAY)
    assert 30 < waited[0] <= 50


def test_a_service_that_stays_down_is_an_error_after_as_many_attempts_as_were_given(
    service: FxService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    service.answers = [(503, {})] * 9
    with pytest.raises(httpx.HTTPStatusError):
        pulled(source(service, attempts=3), MONDAY)
    assert len(service.asked) == 3


def test_a_refusal_is_asked_once(service: FxService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FX_KEY", "another")
    with pytest.raises(httpx.HTTPStatusError):
        pulled(source(service), MONDAY)
    assert len(service.asked) == 1


def test_an_answer_that_never_comes_ends_with_the_time_it_was_given(service: FxService) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        of = source(FxService(url=url), timeout_seconds=0.2, attempts=1)
        with pytest.raises(httpx.ReadTimeout):
            pulled(of, MONDAY)
    assert FxApiConnection(url=url).timeout_seconds == 30


def test_an_answer_that_is_none_of_rates_is_an_error_that_says_so(service: FxService) -> None:
    of = source(service)
    for text in ("<html>", "[]", '{"base": "EUR", "rates": 3}', '{"rates": {}}'):
        with pytest.raises(InputError, match="the answer is not one of exchange rates"):
            of._rows(text, "x")
    with pytest.raises(InputError, match="against USD, not EUR"):
        of._rows('{"base": "USD", "rates": {}}', "x")


# -- through Dagster ---------------------------------------------------------------------------


@pytest.fixture
def settings(service: FxService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    file = tmp_path / "sources.yaml"
    file.write_text(yaml.safe_dump({"fx_api": {"url": service.url, "key": {"secret": "FX_KEY"}}}))
    monkeypatch.setenv(SOURCES, str(file))
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    return load_settings(project=PROJECT)


def said(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == code, done.output
    return done.output


def test_an_extraction_lands_what_the_sample_delivers_and_asks_for_its_tables(
    settings: Settings, service: FxService
) -> None:
    contracts = load_contracts(settings.contracts)
    output = said("extract", "fx_rates", "--from", "2026-10-05", "--to", "2026-10-06")
    assert "landing.fx_rates 2026-10-06: " in output and "1 requests" in output
    plan = Plan(1, 0.01, MONDAY, faults=False)
    for index in range(2):
        folder = Path(settings.zones["landing"]) / "fx_rates" / plan.partition(index)
        (file,) = folder.glob("*.csv")
        assert file.read_bytes() == fx.deliver(plan, index)[0]
    cursors = SqliteStore(settings.home / "positions.sqlite")
    assert cursors.read("fx_rates").positions["until"] == "2026-10-07T00:00:00+00:00"
    definitions = build_definitions(settings, contracts=contracts, marts=False)
    assert (
        asset_key("bronze.fx_rates")
        in definitions.resolve_asset_graph().get(landing_key("fx_rates")).child_keys
    )
    with open_instance(settings) as instance:
        _tells_what_landed(definitions, instance)
        first = _look(definitions, instance)
        requests = [(r.tags, {k.to_user_string() for k in r.asset_selection})
                    for r in first.run_requests]  # fmt: skip
        assert [range_tags(d, d).items() <= t.items() for d, (t, _) in zip(
            ("2026-10-05", "2026-10-06"), requests, strict=True)] == [True, True]  # fmt: skip
        assert {"bronze/fx_rates", "silver/fx_rates"} <= requests[0][1]
        assert not _look(definitions, instance, first.cursor).run_requests
    assert "is there, 210 rows" in said("extract", "fx_rates", "--from", "2026-10-05")
    _holds_no_secret(settings.home)


def _tells_what_landed(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    spec = definitions.resolve_asset_graph().get(landing_key("fx_rates"))
    assert spec.description == "Extracted from ecb, as files in landing/fx_rates"
    (newest,) = instance.fetch_materializations(landing_key("fx_rates"), limit=1).records
    assert newest.asset_materialization is not None
    metadata = dict(newest.asset_materialization.metadata)
    (file,) = metadata.pop("files").records
    told = {name: of.value for name, of in metadata.items()}
    assert (told["rows"], told["dagster/row_count"], told["requests"]) == (210, 210, 1)
    assert (told["since"][:10], told["until"][:10]) == ("2026-10-06", "2026-10-07")
    assert file.data["rows"] == 210 and file.data["bytes"] == told["bytes"] > 0


def _look(definitions: dg.Definitions, instance: dg.DagsterInstance, cursor: Any = None) -> Any:
    with dg.build_sensor_context(
        cursor=cursor, instance=instance, repository_def=definitions.get_repository_def()
    ) as context:
        return definitions.resolve_sensor_def(SENSOR).evaluate_tick(context)


def _holds_no_secret(home: Path) -> None:
    """No byte that a run left behind is the secret's."""
    files = [p for p in home.rglob("*") if p.is_file()]
    assert len(files) > 5
    for file in files:
        assert KEY.encode() not in file.read_bytes(), file


def test_the_daily_job_extracts_before_its_tables_read(settings: Settings) -> None:
    contracts = load_contracts(settings.contracts)
    definitions = build_definitions(settings, contracts=contracts, marts=False)
    graph = definitions.resolve_job_def("lake_daily").asset_layer.asset_graph
    assert landing_key("fx_rates") in graph.executable_asset_keys
    assert landing_key("orders") not in graph.executable_asset_keys, "others deliver it"


def test_a_gap_of_a_dataset_that_is_extracted_is_filled_by_extracting_it(
    settings: Settings,
) -> None:
    contracts = load_contracts(settings.contracts)
    only = {"bronze.fx_rates": contracts["bronze.fx_rates"]}
    days = (date(2026, 10, 9), date(2026, 10, 12))  # from Friday to Monday
    found = find_gaps(only, [], {}, days, extracted=extracted(settings, contracts))
    assert [(g.partition, g.state, g.detail) for g in found] == [
        ("2026-10-09", "missing", "never extracted"),
        ("2026-10-12", "missing", "never extracted"),
    ]
    at, read = datetime(2026, 10, 13, tzinfo=UTC), {"bronze.fx_rates": "fx_rates"}
    versions = {"bronze.fx_rates": "1"}
    requests = list(gap_requests(found, versions, list(only), at, "daily", read))
    assert [r.asset_selection for r in requests] == 2 * [
        [landing_key("fx_rates"), asset_key("bronze.fx_rates")]
    ]


def test_nothing_is_extracted_on_a_day_on_which_nothing_is_due(
    settings: Settings, service: FxService
) -> None:
    said("extract", "fx_rates", "--from", "2026-10-10", "--to", "2026-10-11")
    assert service.asked == []
    assert not (Path(settings.zones["landing"]) / "fx_rates").exists()


def test_a_table_that_is_run_is_extracted_first(settings: Settings, service: FxService) -> None:
    contracts = load_contracts(settings.contracts)
    definitions = build_definitions(settings, contracts=contracts, marts=False)
    assert lake_run._extracted(definitions, ["bronze.fx_rates", "bronze.orders"]) == [
        landing_key("fx_rates")
    ]


def test_what_is_not_extracted_is_said_with_what_is(settings: Settings) -> None:
    output = said("extract", "orders", code=2)
    assert "orders: is not extracted in local; fx_rates is" in output


def test_the_doctor_says_ok_or_why_not_and_never_a_secret(
    settings: Settings, service: FxService, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said("doctor").splitlines() == ["lake: ok", "positions: ok", "fx_api fx_rates: ok"]
    monkeypatch.setenv("FX_KEY", "wrong-and-secret")
    output = said("doctor", code=1)
    assert "fx_api fx_rates: HTTPStatusError, status 401" in output
    assert "wrong-and-secret" not in output


def test_a_failed_extraction_says_why_and_holds_no_secret(
    settings: Settings, service: FxService
) -> None:
    service.answers = [(403, {})]
    done = CliRunner().invoke(main, ["extract", "fx_rates", "--from", "2026-10-05"])
    assert done.exit_code == 1 and "403" in done.output and KEY not in done.output
    _holds_no_secret(settings.home)
    said("extract", "fx_rates", "--from", "2026-10-05")
