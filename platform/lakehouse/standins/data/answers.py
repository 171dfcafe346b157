"""The answer sheet: what the platform must count, derived from what was planted.

Here: pure functions from day records to expected counts. Not here: reading or writing files, and
nothing of the platform's own code: the sheet is an independent second opinion.

The rules behind it. Bronze keeps everything that it can read. Silver turns away what breaks an
error rule, leaves out what is filtered, and of the valid records of one key publishes the one with
the highest sequence, in the partition in which that one arrived; the other records of the run are
duplicates. In a later run the winner is compared with the published record: one with a lower
sequence is a duplicate too, one with the same sequence leaves the row unchanged.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from lakehouse.standins.data.crm_records import LEAD_SOURCES
from lakehouse.standins.data.drops import DEPARTMENTS
from lakehouse.standins.data.record import DayRecord, Tally

Cells = dict[str, dict[str, dict[str, Any]]]
"""Table, partition, counts."""

EVENTS = ("customer_behavior", "customer_events", "orders_events")
FEEDS = {"customer_changes": "customers"}
"""Datasets that are part of a silver table of another name."""
SENSOR_HOURS, SENSOR_DAYS = "gold.sensor_status_hourly", "gold.sensor_status_daily"


def answer_sheet(batches: Sequence[Sequence[DayRecord]]) -> dict[str, Any]:
    """Expected counts of one run per batch of days, in order; the first one on an empty lake."""
    first, *later = batches
    tables = expected(first, [])
    sheet = {
        "tables": tables,
        "final": final_rows(first),
        "schema_drift": _drift(first),
        "planted": planted(first),
    }
    if later:
        increment: Cells = defaultdict(dict)
        before = list(first)
        for batch in later:
            for table, cells in expected(batch, before).items():
                increment[table].update(cells)
            before += batch
        added = [record for batch in later for record in batch]
        sheet["increment"] = dict(increment)
        sheet["increment_final"] = final_rows(before)
        sheet["increment_schema_drift"] = _drift(added)
        sheet["increment_planted"] = planted(added)
    return sheet


def expected(days: Sequence[DayRecord], before: Sequence[DayRecord]) -> Cells:
    """Counts per table and partition for one run over `days`, after runs over `before`."""
    cells: Cells = defaultdict(dict)
    for dataset, tallies in _by_dataset(days).items():
        for tally in tallies:
            cells[f"bronze.{dataset}"][tally.partition] = {
                "read": tally.read,
                "published": tally.read - tally.unreadable,
                "unchanged": 0,
                "duplicate": 0,
                "quarantined": tally.unreadable,
                "filtered": 0,
                "rules": dict(sorted(tally.bronze_rules.items())),
            }
    for table, tallies in _by_table(days).items():
        surplus, unchanged = _resolve(tallies, _by_table(before).get(table, []))
        for at in dict.fromkeys(tally.partition for tally in tallies):
            parts = [tally for tally in tallies if tally.partition == at]
            rules = sum((tally.silver_rules for tally in parts), Counter())
            cells[table][at] = {
                "read": sum(t.read - t.unreadable for t in parts),
                "published": sum(_valid(t) for t in parts) - surplus[at] - unchanged[at],
                "unchanged": unchanged[at],
                "duplicate": surplus[at],
                "quarantined": sum(t.quarantined for t in parts),
                "filtered": sum(t.filtered for t in parts),
                "rules": dict(sorted(rules.items())),
            }
    return dict(cells)


def _valid(tally: Tally) -> int:
    return tally.read - tally.unreadable - tally.quarantined - tally.filtered


def final_rows(days: Sequence[DayRecord]) -> dict[str, int]:
    """Live rows per table once all days are in."""
    final: dict[str, int] = {}
    by_dataset = _by_dataset(days)
    for dataset, tallies in by_dataset.items():
        final[f"bronze.{dataset}"] = sum(t.read - t.unreadable for t in tallies)
    for table, tallies in _by_table(days).items():
        surplus = sum(sum(copies.values()) - 1 for copies in _records(tallies).values())
        final[table] = sum(_valid(t) for t in tallies) - surplus
    # One row more than there are members: the explicit unknown one.
    final["gold.dim_customer"] = final["silver.customers"] + 1
    final["gold.dim_product"] = final["silver.products"] + 1
    final["gold.fact_inventory"] = final["silver.inventory"]
    offers = {key for t in by_dataset["price_lists"] for key, *_ in t.repeated}
    final["gold.product_costs"] = len({offer.partition("|")[2] for offer in offers})
    final["gold.headcount"] = len(DEPARTMENTS)
    final["gold.lead_conversion"] = len(LEAD_SOURCES)
    final["gold.fact_sales"] = final["silver.line_items"]
    final["gold.fact_behavior"] = sum(final[f"silver.{events}"] for events in EVENTS)
    final[SENSOR_HOURS] = sum(t.sensor_hours for t in by_dataset["sensor_readings"])
    sensors: Counter[str] = Counter()
    for tally in by_dataset["sensor_readings"]:
        day = tally.partition[:10]
        sensors[day] = max(sensors[day], tally.sensor_hours)
    final[SENSOR_DAYS] = sum(sensors.values())
    return dict(sorted(final.items()))


def planted(days: Iterable[DayRecord]) -> dict[str, dict[str, int]]:
    """Planted faults per dataset and kind, cascades not included."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for dataset, tallies in _by_dataset(days).items():
        for tally in tallies:
            kinds[dataset].update(tally.planted)
            for change, columns in tally.drift.items():
                kinds[dataset][f"column_{change}"] += len(columns)
    return {
        dataset: dict(sorted(counts.items())) for dataset, counts in sorted(kinds.items()) if counts
    }


def _drift(days: Iterable[DayRecord]) -> Cells:
    drift: Cells = defaultdict(dict)
    for dataset, tallies in _by_dataset(days).items():
        for tally in tallies:
            if tally.drift:
                drift[f"bronze.{dataset}"][tally.partition] = tally.drift
    return dict(drift)


def _by_dataset(days: Iterable[DayRecord]) -> dict[str, list[Tally]]:
    found: dict[str, list[Tally]] = defaultdict(list)
    for record in days:
        for tally in record.tallies:
            found[tally.dataset].append(tally)
    return found


def _by_table(days: Iterable[DayRecord]) -> dict[str, list[Tally]]:
    """The tallies of each silver table."""
    found: dict[str, list[Tally]] = defaultdict(list)
    for dataset, tallies in _by_dataset(days).items():
        found[f"silver.{FEEDS.get(dataset, dataset)}"] += tallies
    return found


def _records(tallies: Iterable[Tally]) -> dict[str, dict[tuple[int, str], int]]:
    """Per key that is delivered more than once: copies by (sequence, partition)."""
    records: dict[str, dict[tuple[int, str], int]] = defaultdict(dict)
    for tally in tallies:
        for key, sequence, copies in tally.repeated:
            known = records[key]
            known[sequence, tally.partition] = max(
                copies, known.get((sequence, tally.partition), 0)
            )
        for key, partition, sequence in tally.earlier:
            records[key].setdefault((sequence, partition), 1)
    return records


def _resolve(
    tallies: Sequence[Tally], before: Sequence[Tally]
) -> tuple[Counter[str], Counter[str]]:
    """Per partition of the run: records that lose to another, and winners that change nothing."""
    surplus: Counter[str] = Counter()
    unchanged: Counter[str] = Counter()
    inside = {tally.partition for tally in tallies}
    for copies in _records([*before, *tallies]).values():
        run = {record: n for record, n in copies.items() if record[1] in inside}
        if not run:
            continue
        for (_, partition), n in run.items():
            surplus[partition] += n
        winner = max(run)
        surplus[winner[1]] -= 1
        published = [sequence for sequence, partition in copies if partition not in inside]
        if published and max(published) >= winner[0]:
            outcome = unchanged if max(published) == winner[0] else surplus
            outcome[winner[1]] += 1
    return surplus, unchanged
