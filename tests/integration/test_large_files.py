"""Landing files that are long, and that are wide: memory does not grow with the first, nor messages
with the second.

Here: sizes. Not here: what becomes of the records (test_landing.py). A file of 5 GiB is read by
`python -m benchmarks g --gigabytes 5`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import measure, text_lines
from tests.lakes import MONDAY, TinyLake, bronze, column, only

MIB = 1 << 20


def peak(tmp_path: Path, who: str, kind: str, size: int) -> int:
    path = text_lines.written_of_size(tmp_path, kind, size)
    arguments = (who, kind, str(path))
    cost = measure.run("benchmarks.contenders.text_reader", arguments, tmp_path / "log")
    path.unlink()
    return cost.peak


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("who", ["parser", pytest.param("sail", marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_file(tmp_path, who, kind):
    """Both are of more blocks than are worked on at once; the larger has 400 MiB more."""
    small, large = (peak(tmp_path, who, kind, size * MIB) for size in (100, 500))
    assert large - small < 150 * MIB


def wide(lake: TinyLake, names: list[str], *declared: str) -> None:
    lake.define(bronze("feed", "csv", column("a", required=True), *map(column, declared)))
    rows = (",".join(map(str, range(i, i + len(names) + 1))) for i in range(20))
    lake.land("feed", MONDAY, "f.csv", "\n".join([",".join(["a", *names]), *rows, ""]))


def test_ten_thousand_columns_that_nobody_declared_are_one_batch(lake):
    names = [f"column_with_a_long_name_{i}" for i in range(10_000)]
    wide(lake, names)
    report = only(lake.run("bronze.feed", MONDAY))
    assert (report.status, report.counts.inserted) == ("published", 20)
    rescued = lake.rows("bronze.feed", "_rescued")
    assert len(rescued) == 20 and all(
        r.count("column_with_a_long_name_") == 10_000 for r in rescued
    )
    assert len(report.model_dump_json()) < 10_000, "of the columns ten are named"


@pytest.mark.slow
def test_a_contract_of_two_thousand_columns_is_one_batch(lake):
    names = [f"column_{i}" for i in range(2_000)]
    wide(lake, names[::-1], *names)
    report = only(lake.run("bronze.feed", MONDAY))
    assert (report.status, report.counts.inserted) == ("published", 20)
    assert lake.rows("bronze.feed", "a", "column_1999", "column_0")[0] == {
        "a": "0", "column_1999": "1", "column_0": "2000",
    }  # fmt: skip
    assert len(report.model_dump_json()) < 10_000
