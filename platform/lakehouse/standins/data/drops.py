"""Files that other systems drop into a bucket: the ERP's stock and the staff of HR.

Here: a stock level per part and warehouse (`inventory`, compressed CSV), the staff (`employees`,
compressed JSON lines), and their planted faults. Not here: what reads them.

Beside the files of a day lies what such deliveries leave behind: a file that is still being written,
under a name that begins with a dot, and a file that was sent twice under two names.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.standins.data import crm_records, faults, files
from lakehouse.standins.data.faults import Fault, missing
from lakehouse.standins.data.plan import Plan
from lakehouse.standins.data.record import Tally
from lakehouse.standins.data.tpch import Tpch

INVENTORY, EMPLOYEES = "inventory", "employees"
WAREHOUSES = ("VIE", "LYS", "DEN")
STOCKED = 0.1
"""Share of the parts whose stock is counted on a day."""
STAFF = 120
DEPARTMENTS = ("Sales", "Logistics", "Finance", "IT", "Service")
FAULTS: dict[str, tuple[Fault, ...]] = {
    INVENTORY: (
        missing("warehouse"),
        Fault("wrong_type", "on_hand", "n.a.", ("on_hand_type", "on_hand_not_null")),
        missing("counted_at"),
        Fault("negative", "on_hand", "-5", ("on_hand_range",)),
        missing("part_id", "product_id"),
    ),
    EMPLOYEES: (
        missing("employee_id"),
        Fault("wrong_type", "hired_on", "last spring", ("hired_on_type",)),
        Fault("unparsable", "", None, ("parsable",), "unreadable"),
        missing("updated_at"),
    ),
}


@dataclass
class Drops:
    plan: Plan
    tpch: Tpch

    def deliver(self, dataset: str, index: int) -> tuple[dict[str, bytes], Tally]:
        """The day's files by name."""
        tally = Tally(dataset, self.plan.partition(index))
        return (self._inventory if dataset == INVENTORY else self._employees)(index, tally), tally

    def _inventory(self, index: int, tally: Tally) -> dict[str, bytes]:
        """A count of some parts in each warehouse, in a file per warehouse; one of them comes twice."""
        draw, day = self.plan.draw, self.plan.midnight(index)
        parts = 1 + np.arange(self.tpch.parts)
        parts = parts[draw(INVENTORY, "counted", index).unit(parts) < STOCKED]
        spoiled = FAULTS[INVENTORY][index % len(FAULTS[INVENTORY])]
        delivered: dict[str, bytes] = {}
        for n, warehouse in enumerate(WAREHOUSES):
            ids = parts * len(WAREHOUSES) + n
            moments = (
                day + 18 * 3_600_000_000 + draw(INVENTORY, index).below(ids, 7_200) * 1_000_000
            )
            table = pa.table(
                {
                    "warehouse": pa.array([warehouse] * len(parts)),
                    "part_id": pa.array(parts).cast(pa.string()),
                    "on_hand": pa.array(draw(INVENTORY, "n", index).below(ids, 500)).cast(
                        pa.string()
                    ),
                    "counted_at": _iso(moments),
                }
            )
            wrong = self.plan.faults and n == 0
            if wrong:
                table = faults.spoil_table(table, [(spoiled, np.array([0]))])
                spoiled.count(tally, 1)
            text = (";".join(table.column_names) + "\n").encode() + _semicolons(table)
            data = gzip.compress(text, mtime=0)
            delivered[f"stock_{warehouse}.csv.gz"] = data
            tally.read += len(table)
            again = self.plan.faults and n == 1 and index % 2 == 1
            if again:
                delivered[f"stock_{warehouse}_1.csv.gz"] = data
                tally.read += len(table)
                tally.plant("duplicate_file", 1)
            for at in range(int(wrong), len(table)):
                key = f"{warehouse}|{parts[at]}"
                tally.repeat(key, moments[at], 2 if again else 1)
        if self.plan.faults:
            delivered[".stock_OSA.csv.gz.part"] = data[: len(data) // 2]
        return delivered

    def _employees(self, index: int, tally: Tally) -> dict[str, bytes]:
        """Everybody on the first day, then whose data changed."""
        numbers = np.arange(STAFF + index)
        draw = self.plan.draw(EMPLOYEES, "changes", index)
        if index:
            numbers = numbers[(draw.unit(numbers) < 0.3) | (numbers == STAFF + index - 1)]
        moments = self.plan.moments(numbers, f"{EMPLOYEES}:{index}", index)
        records = [
            self._employee(number, moment, index)
            for number, moment in zip(numbers.tolist(), moments.tolist(), strict=True)
        ]
        cut: set[int] = set()
        wrong = -1
        if self.plan.faults:
            fault, wrong = FAULTS[EMPLOYEES][index % len(FAULTS[EMPLOYEES])], len(records) // 2
            cut = faults.spoil_records(records, [(fault, np.array([wrong]))])
            fault.count(tally, 1)
        for at, number in enumerate(numbers.tolist()):
            if at != wrong:
                tally.repeat(f"P{number:05d}", moments[at])
        tally.read = len(records)
        text = files.json_lines(records, cut)
        return {"employees.jsonl.gz": gzip.compress(text, mtime=0)}

    def _employee(self, number: int, moment: int, index: int) -> dict[str, Any]:
        fixed = int(self.plan.draw(EMPLOYEES).bits(np.array([number]))[0])
        moving = int(self.plan.draw(EMPLOYEES, index).bits(np.array([number]))[0])
        first = crm_records.FIRST_NAMES[fixed % len(crm_records.FIRST_NAMES)]
        last = crm_records.LAST_NAMES[fixed // 32 % len(crm_records.LAST_NAMES)]
        return {
            "employee_id": f"P{number:05d}",
            "first_name": first,
            "last_name": last,
            "email": f"staff{number}@example.com",
            "department": DEPARTMENTS[moving % len(DEPARTMENTS)],
            "salary": 30_000 + moving // 64 % 900 * 100,
            "hired_on": f"20{10 + fixed // 1024 % 15}-{1 + fixed // 8 % 12:02d}-01",
            "updated_at": f"{_iso(np.array([moment]))[0].as_py()}",
        }


def _iso(us: np.ndarray) -> pa.Array:
    text = pa.array(us // 1_000_000, pa.timestamp("s")).cast(pa.string())
    return pc.binary_join_element_wise(pc.replace_substring(text, " ", "T"), "Z", "")


def _semicolons(table: pa.Table) -> bytes:
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return "".join(";".join(v or "" for v in row) + "\n" for row in rows).encode()
