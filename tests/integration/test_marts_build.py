"""The marts are right, an incremental build equals a full one, and no change means no work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from lakehouse.keys import range_tags
from lakehouse.marts import builds
from lakehouse.marts.assets import build_marts
from lakehouse.marts.builds import WarehouseBusyError, opened, read_builds
from lakehouse.marts.dbt import Dbt
from lakehouse.marts.recompute import comparable, differences
from lakehouse.settings.load import load_settings
from lakehouse.settings.model import Settings
from spark_jobs.contract.reader import load_contracts
from tests.integration.synthetic_lake import FIRST_DAY, SyntheticLake, at

PROJECT = Path(__file__).parents[2]
TABLES = (
    "sales.customer_metrics",
    "sales.top_spenders",
    "sales.orders_fx",
    "analytics.account_overview",
    "analytics.customer_360",
    "analytics.product_margins",
    "analytics.revenue_by_geography",
    "analytics.revenue_by_industry",
    "finance.fx_week",
)


class Marts:
    """The marts over a synthetic lake, built through Dagster."""

    def __init__(self, home: Path) -> None:
        local = load_settings("local", home=home, project=PROJECT)
        days = local.partitions.model_copy(update={"start": FIRST_DAY})
        self.settings: Settings = local.model_copy(update={"partitions": days})
        contracts = load_contracts(self.settings.contracts)
        self.lake = SyntheticLake(str(home / "lake"), contracts)
        self.assets, self.resources = build_marts(self.settings)

    def build(
        self, *keys: str, days: tuple[int, int] | None = None, **config: bool
    ) -> dg.ExecuteInProcessResult:
        selection = [dg.AssetKey(k.split(".")) for k in keys] or None
        return dg.materialize(
            self.assets,
            selection=selection,
            resources=self.resources,
            run_config={"ops": {"marts": {"config": config}}},
            tags=range_tags(*(str(FIRST_DAY + timedelta(days=d)) for d in days)) if days else None,
            raise_on_error=False,
        )

    def rows(self, table: str) -> list[dict[str, Any]]:
        with opened(self.settings.warehouse_path, read_only=True) as connection:
            cursor = connection.execute(f"select * from {table}")
            names = [c[0] for c in cursor.description]
            return [dict(zip(names, r, strict=True)) for r in cursor.fetchall()]

    def contents(self) -> dict[str, list[tuple]]:
        return {t: sorted(repr(tuple(r.values())) for r in self.rows(t)) for t in TABLES}

    @property
    def runs(self) -> int:
        return len(list((self.settings.home / "dbt").iterdir()))

    @property
    def last_run_was_full(self) -> bool:
        folder = max((self.settings.home / "dbt").iterdir(), key=lambda p: p.stat().st_mtime)
        command = json.loads((folder / "run_results.json").read_bytes())["args"][
            "invocation_command"
        ]
        return "--full-refresh" in command


def statuses(result: dg.ExecuteInProcessResult) -> set[str]:
    assert result.success
    events = result.get_asset_materialization_events()
    return {e.materialization.metadata["status"].value for e in events}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Marts, dg.ExecuteInProcessResult]:
    marts = Marts(tmp_path_factory.mktemp("marts"))
    marts.lake.create()
    for day in range(9):
        marts.lake.deliver(day)
    return marts, marts.build()


@pytest.fixture(scope="module")
def marts(built: tuple[Marts, dg.ExecuteInProcessResult]) -> Marts:
    assert built[1].success
    return built[0]


def cents(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"), ROUND_HALF_UP)


@pytest.mark.slow
def test_a_build_materializes_every_model_and_passes_every_check(
    built: tuple[Marts, dg.ExecuteInProcessResult],
) -> None:
    marts, result = built
    assert statuses(result) == {"success"}
    made = {
        e.materialization.asset_key: e.materialization
        for e in result.get_asset_materialization_events()
    }
    assert made.keys() == marts.assets[0].keys
    checks = result.get_asset_check_evaluations()
    assert {c.asset_check_key for c in checks} == set(marts.assets[0].check_keys)
    assert all(c.passed for c in checks)
    for table in TABLES:
        rows = made[dg.AssetKey(table.split("."))].metadata["dagster/row_count"].value
        assert rows == len(marts.rows(table)) > 0


@pytest.mark.slow
def test_customer_metrics_are_the_rules_applied_by_hand(marts: Marts) -> None:
    returns: dict[int, Decimal] = defaultdict(Decimal)
    for line in marts.lake.rows("gold.fact_sales"):
        returns[line["order_id"]] += line["amount_usd"] if line["is_returned"] else 0
    orders = marts.lake.rows("silver.orders")
    newest = max(o["order_date"] for o in orders)
    known = {c["customer_id"] for c in marts.lake.rows("gold.dim_customer") if c["customer_sk"]}
    metrics = {r["customer_id"]: r for r in marts.rows("sales.customer_metrics")}
    assert metrics.keys() == known
    for customer, row in metrics.items():
        placed = [o for o in orders if o["customer_id"] == customer]
        paid = [o for o in placed if o["order_status"] in ("PAID", "SHIPPED")]
        gross = sum((o["amount_usd"] for o in paid), Decimal(0))
        returned = sum((returns[o["order_id"]] for o in paid), Decimal(0))
        net = gross - returned
        assert (row["order_count"], row["paid_order_count"]) == (len(placed), len(paid))
        assert (row["gross_revenue_usd"], row["returns_usd"]) == (gross, returned)
        assert row["net_revenue_usd"] == net
        assert row["avg_order_value_usd"] == (cents(gross / len(paid)) if paid else None)
        last = max((o["order_date"] for o in paid), default=date.min)
        assert row["is_active"] == (last > newest - timedelta(days=90))
        limits = ((10_000, "Platinum"), (5_000, "Gold"), (1_000, "Silver"))
        expected = next((s for limit, s in limits if net >= limit), "Bronze")
        assert row["segment"] == expected


@pytest.mark.slow
def test_query_contracts_hold_the_last_days_in_order(marts: Marts) -> None:
    days = [FIRST_DAY + timedelta(days=d) for d in range(2, 9)]
    week = [(r["as_of_date"], r["ccy"]) for r in marts.rows("finance.fx_week")]
    assert week == sorted(week, key=lambda r: (-r[0].toordinal(), r[1]))
    assert {d for d, _ in week} == set(days)
    orders = marts.lake.rows("silver.orders")
    recent = {o["order_id"]: o for o in orders if o["order_date"] in days}
    fx = marts.rows("sales.orders_fx")
    assert {r["order_id"] for r in fx} == recent.keys()
    assert all(r["usd_rate"] == recent[r["order_id"]]["usd_rate"] for r in fx)
    spent: dict[int, Decimal] = defaultdict(Decimal)
    for o in orders:
        spent[o["customer_id"]] += o["amount_usd"]
    top = sorted(spent, key=lambda c: (-spent[c], c))[:10]
    spenders = marts.rows("sales.top_spenders")
    assert [r["customer_id"] for r in spenders] == top
    assert [r["total_spent"] for r in spenders] == [spent[c] for c in top]


@pytest.mark.slow
def test_documented_columns_are_those_of_the_relations_and_have_a_lineage(marts: Marts) -> None:
    builds = read_builds(marts.settings.warehouse_path)
    assert len(builds) == len(marts.assets[0].keys)
    with opened(marts.settings.warehouse_path, read_only=True) as connection:
        for spec in marts.assets[0].specs:
            schema, name = spec.key.path
            found = connection.execute(f'describe {schema}."{name}"').fetchall()
            documented = [c.name for c in spec.metadata["dagster/column_schema"].columns]
            assert [f[0] for f in found] == documented, spec.key
            assert set(builds[f"model.lakehouse_marts.{name}"].lineage) == set(documented)
    metrics = builds["model.lakehouse_marts.customer_metrics"].lineage
    assert metrics["segment"] == (("model.lakehouse_marts.customer_orders", "net_revenue_usd"),)


@pytest.mark.slow
def test_a_second_run_does_nothing_and_says_so(marts: Marts) -> None:
    warehouse = marts.settings.warehouse_path
    before, runs = warehouse.read_bytes(), marts.runs
    result = marts.build()
    assert statuses(result) == {"unchanged"}
    assert marts.runs == runs
    assert warehouse.read_bytes() == before
    checks = result.get_asset_check_evaluations()
    assert {c.asset_check_key for c in checks} == set(marts.assets[0].check_keys)
    assert all(c.passed for c in checks)
    one = marts.build("finance.fx_week")
    assert [e.asset_key.path for e in one.get_asset_materialization_events()] == [
        ["finance", "fx_week"]
    ]


@pytest.mark.slow
def test_an_incremental_build_equals_a_full_refresh_whatever_happened(marts: Marts) -> None:
    lake, before = marts.lake, marts.contents()
    day = FIRST_DAY + timedelta(days=9)
    lake.deliver(9)
    lake.deliver(2)  # an old day is replayed
    [first] = [c for c in lake.rows("gold.dim_customer") if c["customer_id"] == 1]
    lake.merge(
        "gold.dim_customer",
        day,
        [  # customer 1 moves, customer 2 is deleted
            {**first, "valid_to": at(day), "is_current": False},
            lake.customer(1, day, country="JAPAN", region="ASIA", email="new@example.com"),
        ],
    )
    lake.delete("gold.dim_customer", "customer_id = 2")
    lake.merge(
        "silver.accounts",
        day,
        [  # account 5 changes hands, and that of customer 6 is deleted
            lake.account(5, day, customer_id=8),
            lake.account(6, day, is_deleted=True),
        ],
    )
    lake.merge("silver.addresses", day, [lake.address(6, 9, day)])
    orders = {o["order_id"]: o for o in lake.rows("silver.orders")}
    lake.merge("silver.orders", day, [{**orders[3], "order_status": "PLACED"}])
    lake.delete("silver.orders", "order_id in (4, 105)")
    lake.delete("gold.fact_sales", "order_id = 207")
    september = f"order_date < '{date(2026, 10, 1)}'"
    lake.delete("silver.orders", september)  # a whole month vanishes
    assert statuses(marts.build()) == {"success"}
    assert not marts.last_run_was_full
    incremental = marts.contents()
    assert incremental != before
    changed = marts.rows('changes."sales__customer_metrics__gold__dim_customer"')
    assert {r["customer_id"] for r in changed} == {1, 2, *range(181, 201)}
    assert {r["order_month"] for r in marts.rows("analytics.revenue_by_industry")} == {
        date(2026, 10, 1)
    }
    known = {r["customer_id"]: r["account_id"] for r in marts.rows("analytics.customer_360")}
    assert 2 not in known and known[6] is None and known[7] == "a7"
    assert statuses(marts.build(full_refresh=True)) == {"success"}
    assert marts.last_run_was_full
    assert marts.contents() == incremental


@pytest.mark.slow
def test_a_range_of_days_is_computed_again_by_one_run_of_dbt(marts: Marts) -> None:
    """What arrived in it, and nothing else, whatever became of the mart in between."""
    before, runs = marts.contents(), marts.runs
    spoilt = "update sales.customer_metrics set order_count = -1"
    with opened(marts.settings.warehouse_path) as connection:
        connection.execute(spoilt)
    names = ("sales.customer_metrics", "finance.fx_week")
    result = marts.build(*names, days=(5, 6), force=True)
    assert result.success and marts.runs == runs + 1
    events = result.get_asset_materialization_events()
    made = [(".".join(e.asset_key.path), e.partition) for e in events]
    days = [str(FIRST_DAY + timedelta(days=d)) for d in (5, 6)]
    assert sorted(made, key=str) == [
        ("finance.fx_week", None),
        *(("sales.customer_metrics", day) for day in days),
    ]
    arrived = {
        row["customer_id"]
        for table in ("silver.orders", "gold.dim_customer", "gold.fact_sales")
        for row in marts.lake.rows(table)
        if row["_partition"] in days
    }
    metrics = marts.rows("sales.customer_metrics")
    assert 0 < len(arrived) < len(metrics)
    mended = {row["customer_id"] for row in metrics if row["order_count"] >= 0}
    assert mended == arrived & {row["customer_id"] for row in metrics}
    assert statuses(marts.build(*names, days=(0, 9))) == {"unchanged"}, "nobody has forced it"
    assert marts.build(*names, days=(0, 9), force=True).success
    assert marts.contents() == before


@pytest.mark.slow
def test_customers_lapse_when_the_newest_order_is_90_days_later(marts: Marts) -> None:
    lake = marts.lake
    active = [r["customer_id"] for r in marts.rows("sales.customer_metrics") if r["is_active"]]
    assert len(active) > 1
    order = lake.rows("silver.orders")[0]
    later = FIRST_DAY + timedelta(days=150)
    lake.merge(
        "silver.orders",
        later,
        [{**order, "order_id": 99_999, "order_date": later, "order_status": "PAID"}],
    )
    assert statuses(marts.build("sales.customer_metrics")) == {"success"}
    active = [r["customer_id"] for r in marts.rows("sales.customer_metrics") if r["is_active"]]
    assert active == [order["customer_id"]]


@pytest.mark.slow
def test_the_metric_rules_hold_on_examples(marts: Marts) -> None:
    """dbt's unit tests, run as a developer runs them."""
    dbt: Dbt = marts.resources["dbt"]
    invocation = dbt.cli(
        ["test", "--select", "test_type:unit"], target_path=marts.settings.home / "unit"
    ).wait()
    results = invocation.get_artifact("run_results.json")["results"]
    assert len(results) >= 14
    assert {r["status"] for r in results} == {"pass"}


@pytest.mark.slow
def test_a_failed_check_fails_the_run_and_is_not_taken_for_done(marts: Marts) -> None:
    lake = marts.lake
    twice = lake.customer(4, FIRST_DAY, valid_from=at(FIRST_DAY, 3), customer_sk=4)
    lake.merge("gold.dim_customer", FIRST_DAY, [twice])  # two current versions of customer 4
    recorded = read_builds(marts.settings.warehouse_path)
    result = marts.build("staging.current_customers", "analytics.customer_360")
    assert not result.success
    error = result.get_step_failure_events()[0].event_specific_data.error
    assert "test unique_customer_360_customer_id: Got 1 result" in error.message
    failed = [c.check_name for c in result.get_asset_check_evaluations() if not c.passed]
    assert failed == ["unique_customer_360_customer_id"]
    [check] = [c for c in result.get_asset_check_evaluations() if not c.passed]
    assert check.metadata["sample"].data == [{"unique_field": "4", "n_records": "2"}]
    assert read_builds(marts.settings.warehouse_path) == recorded


def test_a_missing_lake_table_fails_the_run_before_dbt_starts(tmp_path: Path) -> None:
    marts = Marts(tmp_path)
    result = marts.build("staging.stg_fx_rates", "finance.fx_week")
    assert not result.success
    error = result.get_step_failure_events()[0].event_specific_data.error
    assert "silver.fx_rates: there is no table" in error.message
    assert not (tmp_path / "dbt").exists()


def test_a_warehouse_that_is_open_elsewhere_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "warehouse.duckdb"
    hold = f"import duckdb, sys; c = duckdb.connect({str(path)!r}); print(1, flush=True); input()"
    monkeypatch.setattr(builds.time, "sleep", lambda _: None)
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(WarehouseBusyError, match="Close it, then run again"), opened(path):
            pass
        other.communicate("\n")
    assert not WarehouseBusyError.permanent
    with opened(path) as connection:
        assert isinstance(connection, duckdb.DuckDBPyConnection)


BY_HAND = {
    "changed": "update finance.fx_week set ccy = ccy || '?' where ccy = (select min(ccy) from"
    " finance.fx_week)",
    "taken away": "delete from finance.fx_week where ccy = (select min(ccy) from finance.fx_week)",
    "doubled": "insert into finance.fx_week select * from finance.fx_week limit 1",
    "dropped": "drop table finance.fx_week",
    "of another shape": "alter table finance.fx_week add column more int",
}


@pytest.mark.slow
def test_a_mart_that_is_changed_by_hand_is_found(tmp_path: Path) -> None:
    """And one whose inputs have moved on since; a mart that is what they make is not."""
    marts = Marts(tmp_path)
    marts.lake.create()
    for day in range(9):
        marts.lake.deliver(day)
    assert marts.build().success
    names = comparable(marts.settings)
    assert names == sorted(TABLES)
    assert differences(marts.settings, names) == []
    warehouse = marts.settings.warehouse_path
    right = warehouse.read_bytes()
    made, not_made = "rows that its inputs make", "rows that its inputs do not make"
    expected = {
        "changed": {made, not_made},
        "taken away": {made},
        "doubled": {not_made},
        "dropped": {"table"},
        "of another shape": {"columns of its model"},
    }
    for hand, sql in BY_HAND.items():
        with opened(warehouse) as connection:
            connection.execute(sql)
        found = differences(marts.settings, names)
        assert {(f.table, f.what) for f in found} == {
            ("finance.fx_week", w) for w in expected[hand]
        }
        warehouse.write_bytes(right)
    marts.lake.deliver(9)
    assert differences(marts.settings, names) != []
    assert marts.build().success
    assert differences(marts.settings, names) == []
