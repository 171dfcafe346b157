"""The sample delivery: the same every time, never rewritten, and its answer sheet is right.

Not here: what the platform makes of the files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recount import Recount, read, recount

from lakehouse.standins.data import delivery
from lakehouse.standins.data.delivery import DeliverySummary, deliver

START = date(2026, 10, 5)
SMALL = 0.001
GATES = {"bronze": 0.05, "silver": 0.10}


@dataclass(frozen=True)
class Lake:
    landing: Path
    answers: Path

    def deliver(self, days: int, **settings) -> DeliverySummary:
        return deliver(self.landing, self.answers, **{"scale": SMALL, "days": days} | settings)

    def files(self) -> dict[str, str]:
        """Every delivered file with the hash of its bytes."""
        found = (f for f in self.landing.rglob("*") if f.is_file())
        return {str(f.relative_to(self.landing)): sha256(f.read_bytes()).hexdigest() for f in found}

    def sheet(self) -> dict:
        return json.loads(self.answers.read_text())


def lake_in(folder: Path) -> Lake:
    return Lake(folder / "lake" / "landing", folder / "answers.json")


def days(first: int, end: int) -> list[str]:
    return [(START + timedelta(days=n)).isoformat() for n in range(first, end)]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return lake_in(tmp_path)


@dataclass(frozen=True)
class Grown:
    """Fourteen days, then two more, then one more."""

    lake: Lake
    first_files: dict[str, str]
    first_sheet: dict
    recount: Recount


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Grown:
    lake = lake_in(tmp_path_factory.mktemp("grown"))
    lake.deliver(14)
    files, sheet = lake.files(), lake.sheet()
    lake.deliver(16)
    lake.deliver(17)
    return Grown(
        lake, files, sheet, recount(lake.landing, [days(0, 14), days(14, 16), days(16, 17)])
    )


def test_the_same_settings_deliver_the_same_bytes_at_once_or_day_by_day(tmp_path: Path) -> None:
    at_once, in_steps = lake_in(tmp_path / "a"), lake_in(tmp_path / "b")
    at_once.deliver(4)
    for count in (1, 2, 4):
        in_steps.deliver(count)
    assert at_once.files() == in_steps.files()


def test_another_seed_delivers_other_data(tmp_path: Path) -> None:
    one, other = lake_in(tmp_path / "a"), lake_in(tmp_path / "b")
    one.deliver(1)
    other.deliver(1, seed=7)
    same = {name for name, digest in one.files().items() if other.files().get(name) == digest}
    assert {name.split("/")[0] for name in same} <= {"fx_rates"}


def test_delivering_again_changes_nothing(lake: Lake) -> None:
    lake.deliver(2)
    before = {f: f.stat().st_mtime_ns for f in lake.answers.parent.rglob("*")}
    for count in (2, 1):
        summary = lake.deliver(count)
        assert (summary.files, summary.rows, summary.bytes) == (0, {}, 0)
        assert summary.seconds < 1
    assert {f: f.stat().st_mtime_ns for f in lake.answers.parent.rglob("*")} == before


def test_more_days_leave_earlier_ones_and_their_answers_untouched(grown: Grown) -> None:
    files, sheet = grown.lake.files(), grown.lake.sheet()
    assert {name: files[name] for name in grown.first_files} == grown.first_files
    added = {name.split("/")[1][:10] for name in files.keys() - grown.first_files.keys()}
    assert added == set(days(14, 17))
    assert sheet["tables"] == grown.first_sheet["tables"]
    assert sheet["final"] == grown.first_sheet["final"]
    assert {p[:10] for p in sheet["increment"]["silver.sensor_readings"]} == set(days(14, 17))
    assert (sheet["days"], sheet["batches"]) == (17, [14, 2, 1])


def test_the_answers_match_a_recount_of_the_files(grown: Grown) -> None:
    expected = grown.first_sheet["tables"]
    assert expected.keys() == grown.recount.runs[0].keys()
    for table, cells in expected.items():
        assert cells == grown.recount.runs[0][table], table


def test_the_answers_for_later_days_match_a_recount_of_the_files(grown: Grown) -> None:
    for table, cells in grown.lake.sheet()["increment"].items():
        assert cells == grown.recount.runs[1][table] | grown.recount.runs[2][table], table


def test_the_final_rows_match_a_recount_of_the_files(grown: Grown, tmp_path: Path) -> None:
    assert grown.lake.sheet()["increment_final"] == grown.recount.final
    fewer = lake_in(tmp_path)
    fewer.deliver(6)
    assert fewer.sheet()["final"] == recount(fewer.landing, [days(0, 6)]).final


def test_no_row_arrives_before_what_it_refers_to(grown: Grown) -> None:
    assert not any(grown.recount.too_early.values()), grown.recount.too_early


def test_every_row_of_the_answers_is_accounted_for(grown: Grown) -> None:
    outcomes = ("published", "unchanged", "duplicate", "quarantined", "filtered")
    sheet = grown.lake.sheet()
    for part in ("tables", "increment"):
        for table, cells in sheet[part].items():
            for partition, cell in cells.items():
                assert cell["read"] == sum(cell[o] for o in outcomes), (table, partition)


def test_every_kind_of_fault_is_planted(grown: Grown) -> None:
    kinds: dict[str, set[str]] = {}
    for dataset, counts in grown.first_sheet["planted"].items():
        for kind in counts:
            kinds.setdefault(kind, set()).add(dataset)
    json_lines = {"sensor_readings", "accounts", "contacts", "opportunities", "leads", "employees"}
    assert kinds["unparsable"] & json_lines
    streams = {"orders_events", "customer_events"}
    assert streams <= kinds["unparsable"] & kinds["null"] & kinds["wrong_type"] & kinds["duplicate"]
    assert {"customer_behavior", "fx_rates"} <= kinds["short_row"] & kinds["long_row"]
    assert {"orders", "fx_rates", "price_lists"} <= kinds["unknown_currency"]
    assert {"orders", "line_items", "fx_rates"} <= kinds["negative"]
    assert "price_lists" in kinds["orphan"]
    assert {"orders", "line_items"} <= kinds["orphan"] & kinds["duplicate"] & kinds["late_update"]
    assert {"orders", "customers", "sensor_readings"} <= kinds["older_after_newer"]
    assert {"orders", "customer_behavior", "sensor_readings", "fx_rates"} <= kinds["wrong_type"]
    assert {"customer_behavior", "sensor_readings"} <= kinds["no_zone"]
    assert {"addresses", "customer_changes", "loyalty_accounts"} <= kinds["duplicate"]
    assert kinds["duplicate_file"] == {"inventory", "price_lists"}
    assert kinds["overwritten_file"] == {"price_lists"}
    assert {"orders", "customers", "line_items", "customer_behavior"} <= kinds["null"]
    single = ("byte_order_mark", "multi_line", "column_extra", "column_missing", "column_retyped")
    assert all(kinds[kind] for kind in (*single, "currency_without_rate", "implausible"))


def test_faults_stay_below_the_gates(grown: Grown) -> None:
    for table, cells in grown.first_sheet["tables"].items():
        for partition, cell in cells.items():
            assert cell["quarantined"] / cell["read"] < GATES[table.split(".")[0]], (
                table,
                partition,
            )


def test_whole_file_faults_fall_on_the_days_that_the_sheet_names(grown: Grown) -> None:
    drift = grown.first_sheet["schema_drift"]
    for partition, change in drift["bronze.orders"].items():
        schema = pq.read_schema(grown.lake.landing / f"orders/{partition}/orders.parquet")
        assert ("channel" in schema.names) == ("extra" in change)
        assert ("comment" not in schema.names) == ("missing" in change)
        assert pa.types.is_string(schema.field("total_price").type) == ("retyped" in change)
    marked = [
        f
        for f in grown.lake.landing.glob("*/*/*.csv")
        if f.read_bytes().startswith(b"\xef\xbb\xbf")
    ]
    assert [f.parts[-3] for f in marked if f.parent.name in days(0, 14)] == ["customer_behavior"]
    (without_url,) = drift["bronze.customer_behavior"]
    header = (
        (grown.lake.landing / f"customer_behavior/{without_url}/customer_behavior.csv")
        .open()
        .readline()
    )
    assert "url_1" in header and "url_2" not in header
    (with_rating,) = drift["bronze.accounts"]
    assert '"Rating"' in (grown.lake.landing / f"accounts/{with_rating}/accounts.jsonl").read_text()


def test_no_rates_arrive_on_a_weekend_and_gaps_are_the_banks_own(grown: Grown) -> None:
    arrived = {f.name for f in (grown.lake.landing / "fx_rates").iterdir()}
    assert arrived == {d for d in days(0, 17) if date.fromisoformat(d).weekday() < 5}
    rows, _, _ = read(grown.lake.landing, "fx_rates")
    assert {"BGN", "HRK"} <= {row["ccy"] for row in rows if row["rate"] == "N/A"}


def test_each_day_has_its_share_of_orders_and_no_order_comes_twice_under_one_key(
    grown: Grown,
) -> None:
    cells = (
        grown.lake.sheet()["tables"]["bronze.orders"]
        | grown.lake.sheet()["increment"]["bronze.orders"]
    )
    assert all(abs(cell["read"] - 1500 / 14) < 6 for cell in cells.values())
    assert grown.lake.sheet()["increment_final"]["silver.orders"] > 17 * 100


def test_a_clean_delivery_has_nothing_to_turn_away(lake: Lake) -> None:
    lake.deliver(3, faults=False)
    sheet = lake.sheet()
    assert sheet["planted"] == {} and sheet["schema_drift"] == {}
    found = recount(lake.landing, [days(0, 3)])
    assert sheet["tables"] == found.runs[0] and sheet["final"] == found.final
    for table, cells in sheet["tables"].items():
        for cell in cells.values():
            assert (cell["quarantined"], cell["rules"]) == (0, {}), table


def test_a_delivery_that_was_cut_off_is_completed(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def fails_in_the_second_day(path: Path, write) -> int:
        if len(written) > 60:
            raise OSError(28, "No space left on device")
        written.append(path)
        return original(path, write)

    original = delivery.files.write_once
    monkeypatch.setattr(delivery.files, "write_once", fails_in_the_second_day)
    with pytest.raises(OSError, match="No space left"):
        lake.deliver(3)
    monkeypatch.undo()
    assert not lake.answers.exists()
    lake.deliver(3)
    whole = lake_in(tmp_path / "whole")
    whole.deliver(3)
    assert lake.files() == whole.files()
    assert lake.sheet() == whole.sheet()


def test_a_different_delivery_into_the_same_folder_is_refused(lake: Lake) -> None:
    lake.deliver(1)
    with pytest.raises(ValueError, match=r"holds a delivery with seed 20261005 \(now 1\)"):
        lake.deliver(1, seed=1)


def test_files_of_somebody_else_are_not_mixed_with_the_sample(lake: Lake) -> None:
    (lake.landing / "orders").mkdir(parents=True)
    with pytest.raises(ValueError, match="no delivery record describes"):
        lake.deliver(1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": date(2026, 10, 10)}, "Saturday"),
        ({"start": date(2026, 10, 26), "days": 30}, "ECB's file .* ends on"),
        ({"days": 0}, "at least one day"),
        ({"scale": 0}, "scale is 0"),
    ],
)
def test_a_request_that_cannot_be_met_says_why(lake: Lake, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lake.deliver(**{"days": 1} | settings)
    assert not lake.landing.exists()
