"""Commands about the quarantine hold what they print, however much lies there.

Here: memory, Arrow's and Python's. Not here: what the commands say of a few rows (test_replay.py
and the command line's tests).
"""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from deltalake import write_deltalake

from lakehouse.cli import main
from lakehouse.settings.load import load_settings
from spark_jobs.batch import quarantine
from spark_jobs.lake import delta
from spark_jobs.lake.storage import Lake

PROJECT = Path(__file__).parents[2]
TABLE, ROWS, FILES = "bronze.products", 200_000, 4
RECORD = json.dumps({"product_id": "1", "note": "x" * 1000})
WHOLE = ROWS * len(RECORD)  # bytes of all records
LIMIT = WHOLE // 5
DAYS = ("2026-10-05", "2026-10-06")
_POOLS: list[pa.MemoryPool] = []
"""For good: an exception that is kept may hold buffers of a pool, and frees them into it."""


def id_of(n: int) -> str:
    return hashlib.sha256(str(n).encode()).hexdigest()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.delenv("LAKEHOUSE_ENV", raising=False)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home))


@pytest.fixture
def lake(home: Path) -> Lake:
    """A quarantine of many large records in two days; each breaks one rule, every 100th two."""
    settings = load_settings()
    lake = Lake(settings.zones, settings.storage)
    if delta.open_table(lake.quarantine(TABLE), lake.storage) is not None:
        return lake
    at = datetime(2026, 10, 7, tzinfo=UTC)
    schema = pa.schema([pa.field(n, delta.arrow_type(t)) for n, t in quarantine.COLUMNS])
    for file in range(FILES):
        numbers = range(file, ROWS, FILES)
        size = len(numbers)
        values = {
            "quarantine_id": [id_of(n) for n in numbers],
            "partition": [DAYS[n % 2] for n in numbers],
            "rules": [["a", "b"] if n % 100 == 0 else ["a"] for n in numbers],
            "record": [RECORD] * size,
            "quarantined_at": [at] * size,
        }
        columns = [pa.array(values.get(f.name, [None] * size), f.type) for f in schema]
        write_deltalake(
            lake.quarantine(TABLE), pa.Table.from_arrays(columns, schema=schema), mode="append"
        )
    return lake


@contextmanager
def bounded() -> Iterator[None]:
    """Fails if Arrow or Python ever holds a fifth of the records."""
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    _POOLS.append(pool)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        yield
        arrow, python = pool.max_memory(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)
    assert arrow < LIMIT, f"Arrow held {arrow:,} bytes; all records have {WHOLE:,}"
    assert python < LIMIT, f"Python held {python:,} bytes; all records have {WHOLE:,}"


def lakehouse(*arguments: str) -> Result:
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == 0, said.output
    return said


def test_listing_counts_without_holding_the_records(lake: Lake) -> None:
    with bounded():
        said = lakehouse("quarantine", "list")
    counted = [line.split() for line in said.output.splitlines() if TABLE in line]
    numbers = sorted([w for w in line if w.strip("│").isdigit()] for line in counted)
    open_of_a = next(n[0] for n in numbers if int(n[0]) > ROWS // 2)
    assert int(open_of_a) >= ROWS - 3
    assert {int(n[0]) + int(n[1]) for n in numbers} == {ROWS, ROWS // 100}


@pytest.mark.parametrize("partition", [None, DAYS[1]])
def test_showing_a_few_rows_holds_no_more_than_those(lake: Lake, partition: str | None) -> None:
    option = ["--partition", partition] if partition else []
    with bounded():
        said = lakehouse("quarantine", "show", TABLE, "--limit", "3", *option)
    shown = [json.loads(line) for line in said.output.splitlines()]
    day = DAYS.index(partition) if partition else 0
    expected = sorted(id_of(n) for n in range(day, ROWS, 2))[:3]
    assert [r["id"] for r in shown] == expected, "the first by partition and id"
    assert {r["partition"] for r in shown} == {DAYS[day]}


def test_a_row_is_discarded_by_the_beginning_of_its_id(lake: Lake) -> None:
    chosen = id_of(1)
    with bounded():
        said = lakehouse("quarantine", "discard", TABLE, chosen[:20], "--reason", "broken for good")
    assert "1 rows discarded" in said.output
    (made,) = [d for d in quarantine.decisions(lake, TABLE) if d["quarantine_id"] == chosen]
    assert (made["record"], made["decision"]) == (RECORD, "discarded")
    again = lakehouse("quarantine", "discard", TABLE, chosen, "--reason", "once more")
    assert "0 rows discarded" in again.output


def test_an_ambiguous_or_unknown_id_is_refused(lake: Lake) -> None:
    for beginning, said in (("", f"{ROWS} rows"), ("nothing", "no quarantined row")):
        with bounded():
            refused = CliRunner().invoke(
                main, ["quarantine", "discard", TABLE, beginning, "--reason", "x"]
            )
        assert refused.exit_code == 2
        assert said in refused.output
