"""Lake tables get into Redshift whole and right, only what changed travels, and whatever goes wrong on
the way leaves what was there before."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from lakehouse.marts.sources import STAGED
from lakehouse.standins.servers.redshift import Fault
from lakehouse.standins.servers.redshift.server import ROLE
from lakehouse.warehouse.load import Loader, ReconciliationError
from lakehouse.warehouse.login import WITHHELD, WarehouseError
from spark_jobs.contract.reader import load_contracts
from spark_jobs.lake.storage import Lake
from tests.documents import PROJECT
from tests.integration.synthetic_lake import FIRST_DAY, SyntheticLake, at
from tests.warehouse import Cloud, settings_of

pytestmark = pytest.mark.slow
TABLES = ("silver.orders", "gold.dim_customer", "gold.fact_sales")


class Loads:
    """A synthetic lake and a loader of its tables, which travel through a bucket."""

    def __init__(self, cloud: Cloud, root: str, checkpoints: str) -> None:
        self.cloud = cloud
        self.contracts = load_contracts(PROJECT / "contracts")
        self.lake = SyntheticLake(root, {t: self.contracts[t] for t in STAGED})
        zones = Lake.at(root).zones | {"checkpoints": checkpoints}
        self.loader = Loader(settings_of(cloud), Lake(zones, cloud.storage))

    def load(self, table: str, **how: Any):
        return self.loader.load(self.contracts[table], "run", **how)

    def equal(self, table: str) -> bool:
        """Whether the warehouse has exactly the rows of the lake."""
        return self.theirs(table) == self.ours(table)

    def ours(self, table: str) -> list[str]:
        names = list(self.contracts[table].column)
        return sorted(repr([_plain(r[n]) for n in names]) for r in self.lake.rows(table))

    def theirs(self, table: str) -> list[str]:
        names = ", ".join(f'"{n}"' for n in self.contracts[table].column)
        rows = self.cloud.redshift.execute(f"select {names} from {table}")
        return sorted(repr(list(r)) for r in rows)

    def staged(self) -> list[tuple[str, int]]:
        return self.cloud.storage.tree(self.loader.lake.zones["checkpoints"], "")

    def ledger(self) -> list[dict[str, Any]]:
        return (
            DeltaTable(f"{self.loader.lake.zones['ledger']}/loads").to_pyarrow_table().to_pylist()
        )

    def recorded(self, table: str) -> list[tuple[Any, ...]]:
        return self.cloud.redshift.execute(
            f"select load_id, version from lakehouse.loads where source = '{table}' order by 1"
        )


def _plain(value: Any) -> Any:
    return value.replace(tzinfo=None) if hasattr(value, "tzinfo") else value


@pytest.fixture
def loads(warehouse: Cloud, tmp_path: Path) -> Loads:
    bucket = warehouse.bucket(f"loads-{uuid.uuid4().hex}")
    loads = Loads(warehouse, str(tmp_path), f"{bucket}/checkpoints")
    loads.lake.create()
    loads.lake.deliver(0)
    return loads


def test_a_table_arrives_whole_with_the_types_of_its_contract(loads: Loads) -> None:
    loads.loader = Loader(settings_of(loads.cloud, password=None), loads.loader.lake)  # by IAM
    for table in TABLES:
        loaded = loads.load(table)
        assert loaded.record.whole and loaded.record.row_count == len(loads.lake.rows(table)) > 0
        assert loads.equal(table)
    types = loads.cloud.redshift.execute(
        "select column_name, data_type, is_nullable from information_schema.columns"
        " where table_name = 'orders' and column_name in ('order_id', 'amount_usd', 'updated_at')"
    )
    assert set(types) == {
        ("order_id", "bigint", "NO"),
        ("amount_usd", "numeric", "YES"),
        ("updated_at", "timestamp without time zone", "NO"),
    }
    assert loads.staged() == []


def test_only_rows_that_differ_travel_whatever_happened_to_them(loads: Loads) -> None:
    loads.load("silver.orders")
    orders = {o["order_id"]: o for o in loads.lake.rows("silver.orders")}
    day = FIRST_DAY + timedelta(days=1)
    changed = {**orders[3], "order_status": "CANCELLED"}
    loads.lake.merge("silver.orders", day, [changed, {**orders[3], "order_id": 1_000}])
    loads.lake.delete("silver.orders", "order_id = 5")
    DeltaTable(loads.lake.uri("silver.orders")).optimize.compact()
    loaded = loads.load("silver.orders").record
    assert (loaded.whole, loaded.came, loaded.gone) == (False, 2, 2)
    assert loads.equal("silver.orders")


def test_a_key_that_consists_of_an_instant_is_replaced_too(loads: Loads) -> None:
    loads.load("gold.dim_customer")
    [one] = [c for c in loads.lake.rows("gold.dim_customer") if c["customer_id"] == 1]
    day = FIRST_DAY + timedelta(days=3)
    closed = {**one, "valid_to": at(day), "is_current": False}
    loads.lake.merge("gold.dim_customer", day, [closed, loads.lake.customer(1, day)])
    loaded = loads.load("gold.dim_customer").record
    assert (loaded.whole, loaded.came, loaded.gone) == (False, 2, 1)
    assert loads.equal("gold.dim_customer")


def test_nothing_new_is_no_load(loads: Loads) -> None:
    first = loads.load("silver.orders")
    sent = len(loads.cloud.redshift.statements)
    again = loads.load("silver.orders")
    assert again.unchanged and again.record == first.record
    new = loads.cloud.redshift.statements[sent:]
    assert not [s for s in new if s.lower().startswith(("copy", "delete", "insert", "lock"))]


@pytest.mark.parametrize("reason", ["files are gone", "another table", "asked for", "columns"])
def test_a_version_that_cannot_be_compared_with_is_replaced_as_a_whole(
    loads: Loads, reason: str
) -> None:
    table = "silver.orders"
    loads.load(table)
    loads.lake.delete(table, "order_id = 5")
    how: dict[str, Any] = {}
    if reason == "files are gone":
        DeltaTable(loads.lake.uri(table)).vacuum(0, dry_run=False, enforce_retention_duration=False)
    elif reason == "another table":
        for zone in ("silver", "gold"):
            loads.cloud.storage.remove(f"{loads.lake.root}/{zone}")
        loads.lake.create()
        loads.lake.deliver(1)
    elif reason == "asked for":
        how["whole"] = True
    else:
        contract = loads.contracts[table]
        fewer = tuple(c for c in contract.columns if c.name != "comment")
        loads.contracts[table] = replace(contract, columns=fewer)
    assert loads.load(table, **how).record.whole
    assert loads.equal(table)


def test_what_somebody_changed_in_the_warehouse_is_put_right_with_the_next_rows(
    loads: Loads,
) -> None:
    loads.load("silver.orders")
    loads.cloud.redshift.execute("update silver.orders set amount_usd = 0 where order_id = 7")
    loads.lake.delete("silver.orders", "order_id = 5")
    loaded = loads.load("silver.orders")
    assert loaded.record.whole and "sum(amount_usd)" in loaded.repaired
    assert loads.equal("silver.orders")


# The last commit is that of the swap: those before are of the session, of DDL and of COPY.
STEPS = {
    "copy": ("^copy", 0),
    "delete": ("^delete from silver", 0),
    "insert": ("^insert into silver", 0),
    "record": ("^insert into lakehouse.loads", 0),
    "commit": ("^commit", 3),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_lost_connection_leaves_what_was_there_and_the_next_load_goes_on(
    loads: Loads, step: str
) -> None:
    loads.load("silver.orders")
    before, recorded = loads.theirs("silver.orders"), loads.recorded("silver.orders")
    loads.lake.deliver(1)
    pattern, skip = STEPS[step]
    fault = Fault(pattern, "cut", skip=skip)
    loads.cloud.redshift.shim.faults.append(fault)
    with pytest.raises(WarehouseError, match="connection was lost") as caught:
        loads.load("silver.orders")
    assert fault.happened.is_set() and not caught.value.permanent
    assert loads.theirs("silver.orders") == before
    assert loads.recorded("silver.orders") == recorded
    assert not loads.load("silver.orders").record.whole
    assert loads.equal("silver.orders")
    assert loads.staged() == []


def test_a_load_whose_commit_was_not_answered_is_found_and_recorded(loads: Loads) -> None:
    loads.load("silver.orders")
    loads.lake.deliver(1)
    loads.cloud.redshift.shim.faults.append(Fault("^commit", "reply is lost", skip=3))
    with pytest.raises(WarehouseError, match="connection was lost"):
        loads.load("silver.orders")
    assert loads.equal("silver.orders")
    assert len(loads.ledger()) == 1
    assert loads.load("silver.orders").unchanged
    kept = sorted((r["load_id"], r["version"]) for r in loads.ledger())
    assert kept == loads.recorded("silver.orders") and len(kept) == 2


def test_transactions_that_met_are_repeated(loads: Loads) -> None:
    fault = Fault("^insert into silver", "conflict", times=2)
    loads.cloud.redshift.shim.faults.append(fault)
    loads.load("silver.orders")
    assert loads.equal("silver.orders") and fault.times == 0
    loads.cloud.redshift.shim.faults.append(Fault("^lock", "conflict", times=9))
    loads.lake.deliver(1)
    with pytest.raises(WarehouseError, match="Serializable isolation") as caught:
        loads.load("silver.orders")
    assert not caught.value.permanent


def test_two_loads_at_once_load_once_each_version(loads: Loads) -> None:
    loads.load("silver.orders")
    loads.lake.deliver(1)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: loads.load("silver.orders"), range(2)))
    assert loads.equal("silver.orders")
    assert sorted(d.unchanged for d in done) == [False, True]
    assert len(loads.recorded("silver.orders")) == 2


def test_a_copy_that_fails_says_why_and_is_not_tried_again(loads: Loads) -> None:
    role = ROLE + "-of-another"
    loads.loader = Loader(settings_of(loads.cloud, role=role), loads.loader.lake)
    with pytest.raises(WarehouseError, match="not authorized to assume IAM Role") as caught:
        loads.load("silver.orders")
    assert caught.value.permanent
    assert loads.theirs("silver.orders") == []


def test_a_failure_quotes_no_value_of_a_row(loads: Loads) -> None:
    loads.load("gold.dim_customer")
    loads.cloud.redshift.execute(
        "alter table gold.dim_customer add constraint c check (name <> 'Canary')"
    )
    canary = loads.lake.customer(99, FIRST_DAY, name="Canary")
    loads.lake.merge("gold.dim_customer", FIRST_DAY, [canary])
    with pytest.raises(WarehouseError, match=WITHHELD) as caught:
        loads.load("gold.dim_customer")
    assert "Canary" not in str(caught.value) and "23514" in str(caught.value)


def test_rows_that_do_not_add_up_are_not_loaded(loads: Loads) -> None:
    """A trigger plays a warehouse that keeps something else than it was sent."""
    loads.load("silver.orders")
    before = loads.theirs("silver.orders")
    loads.cloud.redshift.execute(
        "create function public.spoil() returns trigger language plpgsql as"
        " $$ begin new.amount_usd := new.amount_usd + 1; return new; end $$;"
        "create trigger spoil before insert on silver.orders"
        " for each row execute function public.spoil()"
    )
    loads.lake.deliver(1)
    with pytest.raises(ReconciliationError, match=r"sum\(amount_usd\): .* expected, .* found"):
        loads.load("silver.orders")
    assert loads.theirs("silver.orders") == before


def test_a_killed_loader_leaves_what_was_there_and_the_next_load_goes_on(loads: Loads) -> None:
    loads.load("silver.orders")
    before = loads.theirs("silver.orders")
    loads.lake.deliver(1)
    zones = loads.loader.lake.zones
    for pattern in ("^copy", "^insert into silver"):
        fault = Fault(pattern, "hang")
        loads.cloud.redshift.shim.faults.append(fault)
        loader = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(loads.cloud.redshift.port), json.dumps(zones)],
            cwd=PROJECT,
        )
        assert fault.happened.wait(60)
        loader.kill()
        loader.wait()
        assert loads.theirs("silver.orders") == before
        assert loads.staged() != []
    assert not loads.load("silver.orders").record.whole
    assert loads.equal("silver.orders")
    assert loads.staged() == []


KILLED = """
import json
import sys
from types import SimpleNamespace
from spark_jobs.contract.reader import load_contracts
from lakehouse.warehouse.load import Loader
from spark_jobs.lake.storage import Lake, Storage
from tests.warehouse import settings_of

port, zones = sys.argv[1:]
cloud = SimpleNamespace(redshift=SimpleNamespace(port=int(port)))
loader = Loader(settings_of(cloud), Lake(json.loads(zones), Storage()))
loader.load(load_contracts("contracts")["silver.orders"], "killed")
"""
