"""The gate: which counts close it, which only warn, and that nothing unevaluated passes.

Here: checks from counts, without an engine. Not here: that a closed gate publishes nothing
(test_bad_input.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from spark_jobs.batch import gate
from spark_jobs.batch.outcomes import Staged
from spark_jobs.contract import checks as registry
from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contract, load_contracts
from spark_jobs.lake.delta import ActiveFile
from spark_jobs.report import Check, Counts
from tests.lakes import MONDAY, TUESDAY, bronze, column, contract, rule

CONTRACTS = load_contracts(Path(__file__).parents[2] / "contracts")
BLOCKING = {"row_balance", "row_count", "quarantine_rate"}


def parsed(tmp_path: Path, document: dict) -> Contract:
    layer, _, name = document["id"].partition(".")
    path = tmp_path / layer / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    return load_contract(path)


@pytest.fixture
def silver(tmp_path):
    """A silver table with a rule of each severity, and one of each with a threshold."""

    def define(**more: Any) -> Contract:
        x = column(
            "x",
            "bigint",
            rule("range", min=0),
            rule("range", name="plausible", severity="warn", max=99),
            rule("range", name="mostly_small", severity="warn", max=9, max_failing=0.1),
        )
        columns = [column("id", "bigint", key=1), x, column("at", "timestamp", required=True)]
        rules = [
            rule("unique", name="one_each", columns=["x"]),
            rule("unique", name="better_one_each", severity="warn", columns=["x"]),
        ]
        upsert = {"mode": "upsert", "sequence": "at"}
        return parsed(
            tmp_path, contract("silver.feed", columns, rules=rules, publish=upsert, **more)
        )

    return define


def judged(c: Contract, counts: Counts | None = None, **more: Any) -> dict[str, Check]:
    """The checks of a partition of 100 good rows, but for what is said otherwise."""
    settings = {"rows_due": True, "earlier": [], "drift": [], "partition": MONDAY}
    staged = {"failing": {}, "newest": {MONDAY: "2026-10-05 23:00:00"}, "key_duplicates": {}}
    settings |= {k: v for k, v in more.items() if k in settings}
    staged |= {k: v for k, v in more.items() if k in staged}
    partition = settings.pop("partition")
    failing = {partition: staged.pop("failing")}
    batch = Staged("batch=1", {}, {}, {}, {}, failing, **staged)
    counts = counts or Counts(read=100, inserted=100)
    found = gate.checks(c, partition, batch, counts, **settings)
    assert len({x.name for x in found}) == len(found), "a check is made twice"
    return {x.name: x for x in found}


def failed(checks: dict[str, Check]) -> set[str]:
    return {n for n, c in checks.items() if not c.passed}


def test_a_clean_partition_passes_every_check(silver):
    assert failed(judged(silver())) == set()


@pytest.mark.parametrize(
    ("check", "counts", "observed"),
    [
        ("row_balance", Counts(read=100, inserted=99), 1),
        ("row_balance", Counts(read=100, inserted=101), -1),
        ("row_count", Counts(), 0),
        ("few_rows", Counts(read=99, inserted=99), 99),
        ("quarantine_rate", Counts(read=100, inserted=89, quarantined=11), 0.11),
        ("duplicate_rate", Counts(read=100, inserted=98, duplicate=2), 0.02),
    ],
)
def test_each_count_has_its_check(silver, check, counts, observed):
    checks = judged(silver(), counts)
    assert check in failed(checks)
    assert checks[check].observed == observed
    assert checks[check].blocking == (check in BLOCKING)


@pytest.mark.parametrize(
    "counts",
    [
        Counts(read=100, inserted=90, quarantined=10),
        Counts(read=100, inserted=99, duplicate=1),
        Counts(read=120, inserted=20, updated=20, deleted=20, unchanged=40, filtered=20),
    ],
)
def test_a_bound_itself_is_within_bounds(silver, counts):
    assert failed(judged(silver(), counts)) == set()


def test_the_defaults_are_stricter_the_nearer_a_table_is_to_its_readers(tmp_path):
    rates = {}
    for layer in ("silver", "gold"):
        c = parsed(tmp_path, contract(f"{layer}.feed", [column("x")]))
        rates[layer] = c.gates.max_quarantine_rate, c.gates.max_duplicate_rate
    rates["bronze"] = parsed(tmp_path, bronze("feed", "json", column("x"))).gates
    assert rates["silver"] == (0.10, 0.01) and rates["gold"] == (0.01, 0)
    assert (rates["bronze"].max_quarantine_rate, rates["bronze"].max_duplicate_rate) == (0.05, 0.05)


def test_a_contract_may_set_its_own_bounds(silver):
    counts = Counts(read=100, inserted=89, quarantined=11)
    c = silver(gates={"max_quarantine_rate": 0.2, "min_rows": 101, "expected_rows": 102})
    assert failed(judged(c, counts)) == {"row_count", "few_rows"}
    assert c.gates.max_duplicate_rate == 0.01, "the others stay as they are"


@pytest.mark.parametrize(
    ("failing", "expected", "blocking"),
    [
        ({"x_range": 1}, {"x_range"}, set()),
        ({"plausible": 1}, {"plausible"}, set()),
        ({"mostly_small": 10}, set(), set()),
        ({"mostly_small": 11}, {"mostly_small"}, {"mostly_small"}),
        ({"one_each": 1}, {"one_each"}, {"one_each"}),
        ({"better_one_each": 1}, {"better_one_each"}, set()),
        ({"id_not_null": 5}, {"id_not_null"}, set()),
        ({"id_not_null": 6}, {"id_not_null", "null_rate"}, set()),
    ],
)
def test_a_broken_rule_fails_its_check_and_closes_the_gate_if_no_row_can_leave(
    silver, failing, expected, blocking
):
    checks = judged(silver(), failing=failing)
    assert failed(checks) == expected
    assert {n for n in failed(checks) if checks[n].blocking} == blocking
    for name, rows in failing.items():
        assert checks[name].failing_rows == rows


RULES = {"id_not_null", "at_not_null", "x_range", "plausible", "mostly_small", "one_each",
         "better_one_each"}  # fmt: skip


def test_a_rule_that_saw_no_row_where_rows_are_due_fails(silver):
    nothing_left = Counts(read=100, filtered=100)
    for counts in (nothing_left, Counts()):
        assert failed(judged(silver(), counts)) == RULES | {"row_count", "few_rows"}


def test_where_no_rows_are_due_none_are_missed(silver):
    assert failed(judged(silver(), Counts(), rows_due=False, newest={})) == set()


@pytest.mark.parametrize("bound", [0, 0.1, 0.3])
def test_a_bound_is_exact_however_many_rows_there_are(silver, bound):
    read = 10_000_000
    most = round(read * bound)
    gates = {"max_quarantine_rate": bound, "max_duplicate_rate": bound, "max_null_rate": bound}

    def of(rows: int) -> set[str]:
        counts = Counts(read=read, inserted=read - 2 * rows, quarantined=rows, duplicate=rows)
        checks = judged(silver(gates=gates), counts, failing={"id_not_null": rows})
        for name in failed(checks) - {"id_not_null"}:
            assert checks[name].observed != bound, "what is shown is not the bound"
        return failed(checks) - {"id_not_null", "x_range"}

    assert of(most) == set()
    assert of(most + 1) == {"quarantine_rate", "duplicate_rate", "null_rate"}


def test_one_row_in_ten_million_breaks_a_rule_that_none_may_break(tmp_path):
    x = column("x", "bigint", rule("range", name="never", min=0, max_failing=0))
    c = parsed(tmp_path, contract("silver.feed", [x]))
    counts = Counts(read=10_000_000, inserted=10_000_000)
    assert failed(judged(c, counts, failing={"never": 1})) == {"never"}


def test_freshness_is_the_age_at_the_end_of_the_arrival_window(silver):
    old = judged(silver(), newest={MONDAY: "2026-10-04 23:30:00"})
    assert failed(old) == {"freshness"} and not old["freshness"].blocking
    assert old["freshness"].observed == 24.5
    assert failed(judged(silver(), newest={MONDAY: "2026-10-05 00:00:00"})) == set()
    hour = f"{MONDAY}T05"
    c = silver(partitioning="hourly", gates={"max_age_hours": 1})
    assert failed(judged(c, partition=hour, newest={hour: "2026-10-05 05:00:00"})) == set()
    assert failed(judged(c, partition=hour, newest={hour: "2026-10-05 04:59:00"})) == {"freshness"}


@pytest.mark.parametrize(
    ("earlier", "volume"),
    [
        ([1, 1], set()),  # too few to compare with
        ([100, 100, 100], set()),
        ([200, 200, 200], set()),
        ([201, 201, 201], {"volume"}),
        ([66, 66, 66], {"volume"}),
        ([0, 0, 0], set()),
    ],
)
def test_an_unusual_volume_warns(silver, earlier, volume):
    checks = judged(silver(), earlier=earlier)
    assert failed(checks) == volume
    assert not checks["volume"].blocking


def test_the_rows_that_usually_come_are_more_the_nearer_a_table_is_to_its_readers(tmp_path):
    c = parsed(tmp_path, bronze("feed", "json", column("x")))
    assert c.gates.expected_rows == 1
    for layer in ("silver", "gold"):
        found = parsed(tmp_path, contract(f"{layer}.feed", [column("x")]))
        assert found.gates.expected_rows == 100
        assert failed(judged(found, Counts(read=100, inserted=100), newest={})) == set()


# -- what a table became -----------------------------------------------------------------------

MIB = 2**20


def files(n: int, *, day: str = MONDAY, size: int = 1000, rows: int = 10, **nulls: int):
    """`n` files of a physical partition; `nulls` of each column in every one of them."""
    return [
        ActiveFile(f"{day}-{i}", size, rows, {"_arrival_date": day}, {}, nulls) for i in range(n)
    ]


def after_publishing(c: Contract, before: list, added: list) -> dict[str, Check]:
    return {x.name: x for x in gate.file_checks(c, before, added, [*before, *added])}


@pytest.mark.parametrize(
    ("after", "mean", "passes"),
    [
        ([], 0, True),
        (files(10), 10, True),
        (files(11), 11, False),
        (files(11) + files(9, day=TUESDAY), 10, True),
        (files(12) + files(9, day=TUESDAY), 10.5, False),
        (files(3000), 3000, False),
        (files(11, size=16 * MIB), 11, True),
        (files(11, size=15 * MIB), 11, False),
        (files(20, size=16 * MIB) + files(20, day=TUESDAY), 20, False),
    ],
    ids=lambda value: str(len(value)) if isinstance(value, list) else None,
)
def test_more_files_than_a_partition_of_its_size_needs_warn(silver, after, mean, passes):
    check = after_publishing(silver(), after, [])["small_files"]
    assert (check.passed, check.observed) == (passes, mean)
    assert not check.blocking and check.severity == "warn"


def test_a_table_without_physical_partitions_is_one(silver):
    flat = [ActiveFile(str(i), 1, 1, {}, {}) for i in range(11)]
    check = after_publishing(silver(), flat, [])["small_files"]
    assert (check.observed, check.threshold) == (11, "<= 10 files per partition")
    assert after_publishing(silver(gates={"max_files": 11}), flat, [])["small_files"].passed


@pytest.mark.parametrize(
    ("before", "added", "growth"),
    [
        (files(2, x=0), files(1, rows=100, x=5), 0.05),
        (files(2, x=0), files(1, rows=100, x=6), 0.06),
        (files(2, x=5), files(1, x=5), 0),
        (files(2, x=9), files(1, x=0), -0.9),
        (files(1, x=0) + files(1, rows=90, x=9), files(1, x=2), 0.11),
    ],
)
def test_a_larger_share_of_nulls_than_before_warns(silver, before, added, growth):
    check = after_publishing(silver(), before, added)["null_drift"]
    assert check.observed == pytest.approx(growth)
    assert check.passed == (growth <= 0.05)
    assert not check.blocking and check.severity == "warn"


def test_null_drift_names_the_columns_with_both_shares(silver):
    before, added = files(1, id=0, x=1, at=0), files(1, id=0, x=4, at=2)
    check = after_publishing(silver(), before, added)["null_drift"]
    assert check.detail == (
        "x: 10.0% of rows null before, 40.0% now; at: 0.0% of rows null before, 20.0% now"
    )
    assert (check.observed, check.threshold) == (0.3, "<= 0.05 of rows more than before")
    loose = silver(gates={"max_null_drift": 0.25})
    assert after_publishing(loose, before, added)["null_drift"].detail.startswith("x: 10.0%")
    assert after_publishing(silver(gates={"max_null_drift": 0.3}), before, added)[
        "null_drift"
    ].passed


@pytest.mark.parametrize(
    ("before", "added", "detail"),
    [
        ([], files(1, x=9), "the table had no rows to compare with"),
        (files(1, x=0), [], "the batch added no rows"),
        (files(1), files(1, x=9), ""),  # a column that the files before do not have
        (files(1, x=0), files(1, _rescued=9), ""),  # not a column of the contract
    ],
)
def test_where_there_is_nothing_to_compare_no_nulls_drift(silver, before, added, detail):
    check = after_publishing(silver(), before, added)["null_drift"]
    assert (check.passed, check.detail) == (True, detail)


def test_a_version_that_has_no_end_yet_is_no_drift(tmp_path):
    columns = [
        column("id", "bigint", key=1),
        column("since", "timestamp", key=2),
        column("valid_to", "timestamp"),
        column("is_current", "boolean"),
    ]
    c = parsed(
        tmp_path, contract("silver.feed", columns, publish={"mode": "scd2", "sequence": "since"})
    )
    before, added = files(1, id=0, valid_to=0), files(1, id=0, valid_to=10)
    assert after_publishing(c, before, added)["null_drift"].passed


def test_drift_warns_and_says_what_drifted(tmp_path):
    c = parsed(tmp_path, bronze("feed", "json", column("x")))
    checks = judged(c, drift=["new column y (such as '1')", "column x missing, read as null"])
    assert failed(checks) == {"schema_drift"}
    assert checks["schema_drift"].detail == (
        "new column y (such as '1'); column x missing, read as null"
    )
    assert not checks["schema_drift"].blocking


def test_an_aggregate_with_a_key_twice_is_not_published(tmp_path):
    columns = [column("day", "date", key=1), column("n", "bigint")]
    c = parsed(tmp_path, contract("gold.feed", columns, grain="aggregate"))
    checks = judged(c, key_duplicates={MONDAY: 2})
    assert failed(checks) == {"key_unique"} and checks["key_unique"].blocking
    assert failed(judged(c)) == set()


@pytest.mark.parametrize("table", CONTRACTS)
def test_the_declared_checks_are_the_ones_that_are_made(table):
    """Orchestrators declare checks before any run; one more or one less would break them."""
    c = CONTRACTS[table]
    partition = "2026-10-05T07" if c.partitioning == "hourly" else MONDAY
    made = judged(c, partition=partition, newest={}) | after_publishing(c, [], [])
    declared = {d.name: d.blocking for d in registry.declared(c) if d.made != "lookups"}
    assert declared.keys() == made.keys()
    assert {n: x.blocking for n, x in made.items()} == declared
