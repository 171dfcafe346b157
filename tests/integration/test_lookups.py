"""What depends on a lookup is stale when the looked-up rows that it used have changed.

Here: which partitions are named, that they are computed again, and that rows which waited come
back. Not here: gaps and the UI (test_gaps_fill.py).
"""

from __future__ import annotations

import json
import shutil
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from spark_jobs.batch import lookups, quarantine
from spark_jobs.errors import ContractError
from tests.lakes import (
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    TinyLake,
    bronze,
    column,
    contract,
    copied,
    only,
    rule,
)

DAYS = (MONDAY, TUESDAY, WEDNESDAY)
RATE = pa.decimal128(10, 2)
AFFECTS = "rates.ccy = orders.ccy and orders.day between rates.day and date_add(rates.day, 5)"
ORDERS = """
    from pyspark.sql import Window
    from pyspark.sql import functions as F
    from spark_jobs.columns import LINEAGE

    def transform(orders, rates):
        quoted = rates.select(F.col("ccy").alias("c"), F.col("day").alias("d"), "rate")
        known = F.col("d").between(F.date_add("day", -5), F.col("day"))
        found = orders.join(quoted, (F.col("ccy") == F.col("c")) & known, "left")
        last = Window.partitionBy("id", "_partition").orderBy(F.col("d").desc())
        return found.withColumn("_n", F.row_number().over(last)).where("_n = 1").select(
            *LINEAGE, "id", "ccy", "customer", "day", "rate"
        )
"""


class Untouchable:
    """An engine that nobody may start."""

    @property
    def spark(self) -> Any:
        raise AssertionError("the engine was asked for")


def orders(affects: str | None = AFFECTS, **more: Any) -> dict:
    rates = {"table": "bronze.rates", "read": "lookup"} | ({"affects": affects} if affects else {})
    return contract(
        "silver.orders",
        [
            column("id", "bigint", key=1, of="bronze.orders.id"),
            column("ccy", of="bronze.orders.ccy"),
            column("customer", "bigint", rule("reference", table="bronze.customers", column="id")),
            column("day", "date", required=True, of="bronze.orders.day"),
            column("rate", "decimal(10,2)", required=True),
        ],
        inputs=[{"table": "bronze.orders"}, rates],
        publish={"mode": "upsert", "sequence": "day"},
        gates={"max_quarantine_rate": 1.0, "min_rows": 0},
        **more,
    )


class Shop(TinyLake):
    """Orders with their rate; what is delivered on a day replaces what was."""

    def rates(self, day: str, **quoted: tuple[str, str]) -> None:
        """Delivers quotations, `EUR=(day, rate)`, and runs their day."""
        rows = [
            {"ccy": c, "day": date.fromisoformat(d), "rate": Decimal(r)}
            for c, (d, r) in quoted.items()
        ]
        schema = pa.schema([("ccy", pa.string()), ("day", pa.date32()), ("rate", RATE)])
        self.land("rates", day, "r.parquet", pa.Table.from_pylist(rows, schema))
        assert not self.run("bronze.rates", day).failed

    def customers(self, day: str, *ids: int) -> None:
        self.land("customers", day, "c.parquet", pa.table({"id": pa.array(ids, pa.int64())}))
        assert not self.run("bronze.customers", day).failed

    def orders(self, day: str, *rows: tuple[int, str, int]) -> None:
        """Delivers orders of the day (id, currency, customer) and runs them."""
        records = [
            {"id": i, "ccy": c, "customer": who, "day": date.fromisoformat(day)}
            for i, c, who in rows
        ]
        schema = pa.schema(
            [("id", pa.int64()), ("ccy", pa.string()), ("customer", pa.int64()),
             ("day", pa.date32())]
        )  # fmt: skip
        self.land("orders", day, "o.parquet", pa.Table.from_pylist(records, schema))
        assert not self.run("bronze.orders", day).failed

    def stale(self, engine: Any = None) -> dict[str, str]:
        found = lookups.stale_partitions(
            self.parsed(),
            self.lake,
            self.ledger("silver.orders"),
            engine or self.engine,
            ["silver.orders"],
        )
        return found.get("silver.orders", {})

    def priced(self) -> dict[int, str]:
        return {r["id"]: str(r["rate"]) for r in self.rows("silver.orders", "id", "rate")}


@pytest.fixture
def shop(lake: TinyLake) -> Shop:
    """Three days of orders, each of two currencies, priced at Monday's rate."""
    made = Shop(lake.root, lake.engine)
    gates = {"max_quarantine_rate": 1.0, "min_rows": 0}
    for table, columns in {
        "rates": [column("ccy"), column("day", "date"), column("rate", "decimal(10,2)")],
        "customers": [column("id", "bigint")],
        "orders": [
            column("id", "bigint"), column("ccy"), column("customer", "bigint"),
            column("day", "date"),
        ],
    }.items():  # fmt: skip
        made.define(bronze(table, "parquet", *columns, gates=gates))
    made.define(orders(), ORDERS)
    made.rates(MONDAY, EUR=(MONDAY, "1.10"), GBP=(MONDAY, "1.30"))
    made.customers(MONDAY, 1, 2)
    for n, day in enumerate(DAYS):
        made.orders(day, (10 * n + 1, "EUR", 1), (10 * n + 2, "GBP", 2))
    assert not made.run("silver.orders", *DAYS).failed
    assert made.stale() == {}
    return made


def test_a_late_rate_prices_the_orders_of_its_day_and_names_only_them(shop):
    shop.rates(WEDNESDAY, EUR=(TUESDAY, "1.20"))
    assert shop.stale() == dict.fromkeys((TUESDAY, WEDNESDAY), "bronze.rates has changed")
    report = shop.run("silver.orders", *DAYS)
    assert [p.status for p in report.partitions] == ["unchanged", "published", "published"]
    assert shop.priced() == {
        1: "1.10", 2: "1.30", 11: "1.20", 12: "1.30", 21: "1.20", 22: "1.30",
    }  # fmt: skip
    assert shop.stale() == {}


def test_a_corrected_rate_reprices_what_used_it(shop):
    shop.rates(MONDAY, EUR=(MONDAY, "1.11"), GBP=(MONDAY, "1.30"))
    assert set(shop.stale()) == set(DAYS)
    shop.run("silver.orders", *DAYS)
    assert {shop.priced()[i] for i in (1, 11, 21)} == {"1.11"}


def test_a_withdrawn_rate_takes_the_orders_along_that_have_none_left(shop):
    shop.rates(MONDAY, GBP=(MONDAY, "1.30"))
    assert set(shop.stale()) == set(DAYS)
    shop.run("silver.orders", *DAYS)
    assert sorted(shop.priced()) == [2, 12, 22]
    assert {r["rules"][0] for r in shop.quarantined("silver.orders")} == {"rate_not_null"}


def test_a_rate_that_nobody_used_makes_nothing_stale(shop):
    shop.rates(WEDNESDAY, JPY=(MONDAY, "0.01"))
    assert shop.stale() == {}
    assert only(shop.run("silver.orders", MONDAY)).status == "unchanged"


def test_a_lookup_that_was_written_again_without_change_makes_nothing_stale(shop):
    shop.run("bronze.rates", MONDAY, force=True)
    assert shop.stale() == {}


@pytest.mark.parametrize("day", [TUESDAY, WEDNESDAY])
def test_a_row_that_waits_for_a_rate_or_a_customer_comes_back_when_exactly_that_arrives(shop, day):
    shop.orders(day, (31, "CHF", 1), (32, "EUR", 3))
    shop.run("silver.orders", day)
    assert {r["rules"][0] for r in shop.quarantined("silver.orders")} == {
        "rate_not_null", "customer_reference",
    }  # fmt: skip
    shop.customers(WEDNESDAY, 4)
    shop.rates(WEDNESDAY, JPY=(MONDAY, "0.01"))
    assert shop.stale() == {}, "others have arrived"
    shop.customers(WEDNESDAY, 3, 4)
    assert shop.stale() == {day: "bronze.customers has changed"}
    assert shop.run("silver.orders", day, run_id="back").counts.quarantined == 1
    assert shop.priced()[32] == "1.10"
    (decision,) = quarantine.decisions(shop.lake, "silver.orders")
    assert (decision["decision"], decision["decided_by"]) == ("replayed", "platform")
    assert decision["reason"] == (
        "run again since bronze.customers has changed, and no longer rejected by contract 1.0.0"
    )
    shop.rates(WEDNESDAY, JPY=(MONDAY, "0.01"), CHF=(day, "1.05"))
    assert shop.stale() == {day: "bronze.rates has changed"}
    shop.run("silver.orders", day)
    assert shop.priced()[31] == "1.05"
    assert shop.quarantined("silver.orders") == []


def test_a_customer_who_is_withdrawn_takes_the_orders_along(shop):
    shop.customers(MONDAY, 2)
    assert set(shop.stale()) == set(DAYS)
    shop.run("silver.orders", *DAYS)
    assert sorted(shop.priced()) == [2, 12, 22]


def test_without_a_declaration_any_change_counts_for_every_partition(shop):
    shop.define(orders(affects=None, version="1.0.1"))
    shop.run("silver.orders", *DAYS)
    shop.run("bronze.rates", MONDAY, force=True)
    assert shop.stale() == {}, "not a row has changed"
    shop.rates(WEDNESDAY, JPY=(MONDAY, "0.01"))
    assert set(shop.stale()) == set(DAYS)


@pytest.mark.parametrize(
    ("days", "stale"), [(1, {WEDNESDAY}), (2, {TUESDAY, WEDNESDAY}), (0, set())]
)
def test_partitions_beyond_the_bound_are_left_as_they_are(shop, days, stale):
    shop.define(orders(version="1.0.1", lookbackDays=days))
    shop.run("silver.orders", *DAYS)
    shop.rates(MONDAY, EUR=(MONDAY, "1.11"), GBP=(MONDAY, "1.30"))
    assert set(shop.stale()) == stale


def test_no_engine_is_started_when_nothing_moved(shop):
    assert shop.stale(Untouchable()) == {}
    shop.rates(WEDNESDAY, EUR=(TUESDAY, "1.20"))
    with pytest.raises(AssertionError, match="engine was asked for"):
        shop.stale(Untouchable())
    shop.stale()
    assert set(shop.stale(Untouchable())) == {TUESDAY, WEDNESDAY}, "it has been compared"


def test_a_mark_outlives_a_run_that_dies(shop, monkeypatch):
    shop.rates(WEDNESDAY, EUR=(TUESDAY, "1.20"))

    def dying(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("spark_jobs.batch.publish.publish", dying)
        with pytest.raises(KeyboardInterrupt):
            shop.run("silver.orders", *DAYS)
    assert set(shop.stale(Untouchable())) == {TUESDAY, WEDNESDAY}
    shop.run("silver.orders", *DAYS)
    assert shop.stale() == {}
    assert shop.priced()[11] == "1.20"


def test_a_run_that_read_an_older_version_while_others_compared_loses_no_mark(shop, monkeypatch):
    """The rows that it publishes were not there to be compared."""
    real = lookups.ensure_evaluable
    raced = []

    def racing(of: Any, *args: Any) -> None:
        if of.table == "silver.orders" and not raced:
            raced.append(1)
            shop.rates(WEDNESDAY, EUR=(TUESDAY, "1.20"), CHF=(TUESDAY, "1.05"))
            assert TUESDAY in shop.stale()
        real(of, *args)

    monkeypatch.setattr(lookups, "ensure_evaluable", racing)
    shop.orders(TUESDAY, (11, "EUR", 1), (12, "GBP", 2), (13, "CHF", 2))
    shop.run("silver.orders", TUESDAY)
    assert shop.priced()[11] == "1.10" and 13 not in shop.priced()
    assert set(shop.stale()) == {TUESDAY, WEDNESDAY}
    shop.run("silver.orders", *DAYS)
    assert (shop.priced()[11], shop.priced()[13]) == ("1.20", "1.05")
    assert shop.stale() == {}


def test_a_version_that_was_vacuumed_makes_every_partition_stale_and_says_why(shop):
    shop.rates(MONDAY, EUR=(MONDAY, "1.10"), GBP=(MONDAY, "1.31"))
    shop.delta("bronze.rates").vacuum(0, dry_run=False, enforce_retention_duration=False)
    found = shop.stale(Untouchable())
    assert set(found) == set(DAYS)
    assert "cannot be read any more" in found[MONDAY]


def test_a_lookup_that_was_rebuilt_makes_every_partition_stale(shop):
    shutil.rmtree(shop.lake.table("bronze.rates"))
    shop.run("bronze.rates", MONDAY, force=True)
    assert shop.stale(Untouchable()) == dict.fromkeys(DAYS, "bronze.rates has been rebuilt")


def test_partitions_of_an_older_ledger_are_stale_once(shop, monkeypatch):
    shop.define(orders(version="1.0.1"))
    with monkeypatch.context() as patched:
        patched.setattr(lookups, "versions", lambda *args: {})
        shop.run("silver.orders", *DAYS)
    found = shop.stale(Untouchable())
    assert set(found) == set(DAYS)
    assert "no record of the version of bronze.rates that it used" in found[MONDAY]
    shop.run("silver.orders", *DAYS)
    assert shop.stale(Untouchable()) == {}


def test_a_superseded_record_is_computed_again_too(shop):
    """Tuesday's order 1 hides Monday's; once it is withdrawn Monday's is back, at the new rate."""
    shop.orders(TUESDAY, (1, "EUR", 1), (11, "EUR", 1))
    shop.run("silver.orders", TUESDAY)
    shop.rates(WEDNESDAY, EUR=(MONDAY, "1.50"))
    shop.rates(MONDAY, GBP=(MONDAY, "1.30"))
    assert MONDAY in shop.stale()
    shop.run("silver.orders", *DAYS)
    shop.orders(TUESDAY, (11, "EUR", 1))
    shop.run("silver.orders", TUESDAY)
    assert shop.priced()[1] == "1.50"


def test_what_was_computed_of_a_row_is_kept_with_it(shop):
    shop.orders(TUESDAY, (31, "CHF", 1))
    shop.run("silver.orders", TUESDAY)
    (row,) = shop.quarantined("silver.orders")
    assert json.loads(row["computed"])["ccy"] == "CHF"


@pytest.mark.parametrize(
    ("affects", "says"),
    [
        ("rates.ccy = orders.nothing", "affects names orders.nothing, which does not exist"),
        ("shops.ccy = orders.ccy", "affects names shops.ccy, which does not exist"),
        ("rates.ccy = 'orders.ccy'", "affects relates columns of rates and orders"),
    ],
)
def test_a_declaration_that_names_what_does_not_exist_is_refused_at_load(shop, affects, says):
    shop.define(orders(affects=affects))
    with pytest.raises(ContractError, match=says):
        shop.parsed()


def test_a_declaration_that_the_engine_cannot_evaluate_stops_the_first_run(shop):
    shop.define(orders(affects="rates.ccy = orders.ccy and no_such(rates.day)", version="1.0.1"))
    with pytest.raises(ContractError, match=r"silver/orders\.yaml: affects cannot be evaluated"):
        shop.run("silver.orders", MONDAY)


def test_a_dimension_version_that_arrives_late_counts_for_the_days_that_it_is_valid_on(shop):
    """Its coming ends the version before it, whose old and new form both count."""
    at = ("valid_from", "timestamp")
    shop.define(bronze("people", "parquet", column("id", "bigint"), column(*at)))
    dim = contract(
        "silver.people",
        [
            column("id", "bigint", key=1, of="bronze.people.id"),
            column(*at, key=2, of="bronze.people.valid_from"),
            column("valid_to", "timestamp"),
            column("is_current", "boolean", required=True),
        ],
        inputs=[{"table": "bronze.people"}],
        publish={"mode": "scd2", "sequence": "valid_from"},
        physicalPartition="none",
    )
    shop.define(dim, copied("id", "valid_from", table="people"))
    affects = (
        "people.id = visits.customer and people.valid_from <= cast(visits.day as timestamp)"
        " and coalesce(people.valid_to > cast(visits.day as timestamp), true)"
    )
    lookup = {"table": "silver.people", "read": "lookup", "affects": affects}
    visits = contract(
        "silver.visits",
        [column("id", "bigint"), column("customer", "bigint"), column("day", "date")],
        inputs=[{"table": "bronze.orders"}, lookup],
    )
    through = 'orders.select(*LINEAGE, "id", "customer", "day")'
    shop.define(
        visits,
        f"""
        from spark_jobs.columns import LINEAGE

        def transform(orders, people):
            return {through}
        """,
    )

    def people(day: str, since: str) -> None:
        when = pa.array(
            [datetime.fromisoformat(f"{since}T00:00:00+00:00")], pa.timestamp("us", "UTC")
        )
        shop.land("people", day, "p.parquet", pa.table({"id": pa.array([1]), "valid_from": when}))
        for table in ("bronze.people", "silver.people"):
            assert not shop.run(table, day).failed

    people(MONDAY, "2026-10-01")
    assert not shop.run("silver.visits", *DAYS).failed
    people(TUESDAY, TUESDAY)
    found = lookups.stale_partitions(
        shop.parsed(), shop.lake, shop.ledger("silver.visits"), shop.engine, ["silver.visits"]
    )
    # Monday used the first version, whose end is another now.
    assert set(found["silver.visits"]) == set(DAYS)
    assert not shop.run("silver.visits", *DAYS).failed
    people(WEDNESDAY, WEDNESDAY)
    found = lookups.stale_partitions(
        shop.parsed(), shop.lake, shop.ledger("silver.visits"), shop.engine, ["silver.visits"]
    )
    assert set(found["silver.visits"]) == {TUESDAY, WEDNESDAY}
