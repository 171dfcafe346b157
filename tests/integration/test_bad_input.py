"""Bad input: what a person reads, and that nothing is lost or half-published.

Here: files, partitions, transforms, contracts and lakes that are not as they should be. Not here:
each odd record that a reader must survive (tests/unit/test_landing.py), and runs that die
(test_crash.py).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_jobs.batch.reconcile import reconcile
from spark_jobs.errors import (
    ContractError,
    EngineError,
    InputError,
    LakehouseError,
    SchemaError,
    StorageError,
)
from spark_jobs.report import TableReport
from tests.lakes import (
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    TinyLake,
    bronze,
    column,
    contract,
    failed_checks,
    only,
    rule,
)

COPY = """
    from spark_jobs.columns import LINEAGE, number

    def transform(feed):
        return feed.select(*LINEAGE, number("id", "bigint").alias("id"), "name")
"""


def jsonl(*ids: int | str, name: str = "x") -> str:
    return "".join(f'{{"id":"{i}","name":"{name}"}}\n' for i in ids)


@pytest.fixture
def texts(lake: TinyLake) -> TinyLake:
    """A feed of JSON lines, and a silver table over it; Monday is published."""
    lake.define(bronze("feed", "json", column("id", required=True), column("name")))
    columns = [
        column("id", "bigint", required=True, of="bronze.feed.id"),
        column("name", of="bronze.feed.name"),
    ]
    lake.define(contract("silver.feed", columns, inputs=[{"table": "bronze.feed"}]), COPY)
    lake.land("feed", MONDAY, "f.json", jsonl(1, 2))
    for table in ("bronze.feed", "silver.feed"):
        assert not lake.run(table, MONDAY).failed
    return lake


@pytest.fixture
def binaries(lake: TinyLake) -> TinyLake:
    """A feed of Parquet files; Monday is published."""
    lake.define(bronze("feed", "parquet", column("id", "bigint", required=True), column("name")))
    lake.land("feed", MONDAY, "f.parquet", parquet(1, 2))
    assert not lake.run("bronze.feed", MONDAY).failed
    return lake


def parquet(*ids: int) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int64()), "name": ["x" * 9] * len(ids)})


def reasons(report: TableReport) -> dict[str, str]:
    return {p.partition: p.error for p in report.failed}


@contextmanager
def unchanged(lake: TinyLake, *tables: str) -> Iterator[None]:
    """Readers see the same version before and after, and no file is left behind."""

    def seen() -> dict[str, object]:
        found: dict[str, object] = {}
        for t in tables:
            rows = sorted(map(repr, lake.delta(t).to_pyarrow_table().to_pylist()))
            files = sorted(Path(lake.lake.table(t)).rglob("*.parquet"))
            found[t] = lake.versions(t), rows, files
        return found

    before = seen()
    yield
    assert seen() == before


# -- transforms --------------------------------------------------------------------------------

WRONG_TRANSFORMS = {
    "a missing column": (
        'feed.select(*LINEAGE, number("id", "bigint").alias("id"))',
        "transform returns columns that differ from {contract} (missing: name). Change the function"
        " or the contract; nothing was published.",
    ),
    "an extra column": (
        'feed.select(*LINEAGE, number("id", "bigint").alias("id"), "name", F.lit(1).alias("n"))',
        "transform returns columns that differ from {contract} (not in the contract: n). Change the"
        " function or the contract; nothing was published.",
    ),
    "a column of another type": (
        'feed.select(*LINEAGE, "id", "name")',
        "transform returns columns that differ from {contract} (of another type: id is string, the"
        " contract says bigint). Change the function or the contract; nothing was published.",
    ),
    "no lineage": (
        'feed.select(number("id", "bigint").alias("id"), "name")',
        "transform returns columns that differ from {contract} (missing: _input, _partition). Change"
        " the function or the contract; nothing was published.",
    ),
}


@pytest.mark.parametrize("fault", WRONG_TRANSFORMS)
def test_a_transform_with_other_columns_than_its_contract(texts, fault):
    expression, message = WRONG_TRANSFORMS[fault]
    redefine(texts, expression)
    with unchanged(texts, "silver.feed"), pytest.raises(SchemaError) as caught:
        texts.run("silver.feed", MONDAY)
    path = texts.contracts / "silver" / "feed.yaml"
    assert str(caught.value) == "spark_jobs/tables/silver/feed.py: " + message.format(contract=path)
    assert caught.value.permanent


def redefine(lake: TinyLake, expression: str) -> None:
    """Gives silver.feed another transform."""
    lake.write_transform("silver", "feed", f"""
        from pyspark.sql import functions as F
        from spark_jobs.columns import LINEAGE, number

        def transform(feed):
            return {expression}
    """)  # fmt: skip


GOOD = 'feed.select(*LINEAGE, number("id", "bigint").alias("id"), "name")'


def test_a_transform_that_loses_rows_in_silence_publishes_nothing(texts):
    redefine(texts, GOOD + '.where("id > 1")')
    with unchanged(texts, "silver.feed"):
        report = texts.run("silver.feed", MONDAY)
    assert reasons(report) == {
        MONDAY: "row_balance is 1, must be = 0 rows (2 rows read, 1 accounted for)"
    }


def test_a_transform_that_multiplies_rows_publishes_nothing(texts):
    redefine(texts, f"{GOOD}.union({GOOD})")
    with unchanged(texts, "silver.feed"):
        report = texts.run("silver.feed", MONDAY)
    assert reasons(report) == {
        MONDAY: "row_balance is -2, must be = 0 rows (2 rows read, 4 accounted for)"
    }


@pytest.mark.parametrize("partition", ['"2020-01-01"', '"soon"', "None"])
def test_a_transform_that_moves_rows_to_another_partition_publishes_nothing(texts, partition):
    redefine(texts, f'{GOOD}.withColumn("_partition", F.lit({partition}).cast("string"))')
    with unchanged(texts, "silver.feed"), pytest.raises(SchemaError) as caught:
        texts.run("silver.feed", MONDAY)
    assert str(caught.value) == (
        "transform returns rows of a partition that is not in this run: pass the column"
        " _partition through as it was read. Nothing was published."
    )


def test_a_transform_that_reads_a_column_that_is_not_there(texts):
    redefine(texts, GOOD + '.withColumn("name", F.col("nmae"))')
    with unchanged(texts, "silver.feed"), pytest.raises(EngineError) as caught:
        texts.run("silver.feed", MONDAY, run_id="r7")
    text = str(caught.value)
    assert text.startswith(
        "spark_jobs/tables/silver/feed.py: silver.feed 2026-10-05, run r7: the sail engine failed in"
        " step transform: "
    )
    assert "nmae" in text and text.endswith("Nothing of it was published.")
    assert caught.value.permanent, "it would fail again"


def test_a_contract_without_transform_names_the_file_to_write(texts):
    document = contract("silver.other", [column("id")], inputs=[{"table": "bronze.feed"}])
    texts.define(document)
    with pytest.raises(ContractError) as caught:
        texts.run("silver.other", MONDAY)
    assert str(caught.value) == (
        f"{texts.contracts}/silver/other.yaml:1: silver.other has a contract but no transform. Write"
        " spark_jobs/tables/silver/other.py with a function transform."
    )
    assert texts.versions("silver.other") == -1


# -- contracts ---------------------------------------------------------------------------------


def silver(*rules: dict, version: str = "1.0.0", **more) -> dict:
    columns = [column("id", "bigint", *rules, required=True, of="bronze.feed.id"),
               column("name", of="bronze.feed.name")]  # fmt: skip
    inputs = [{"table": "bronze.feed"}]
    return contract("silver.feed", columns, inputs=inputs, version=version, **more)


def test_an_unknown_rule_stops_the_run_before_it_starts(texts):
    texts.define(silver(rule("rang", min=0)))
    with unchanged(texts, "silver.feed"), pytest.raises(ContractError) as caught:
        texts.run("silver.feed", MONDAY)
    text = str(caught.value)
    assert text.startswith(f"{texts.contracts}/silver/feed.yaml:") and "unknown rule 'rang'" in text


def test_a_rule_that_the_engine_cannot_evaluate_does_not_pass(texts):
    texts.define(silver(rule("expression", expression="quantity > 0")))
    with unchanged(texts, "silver.feed"), pytest.raises(ContractError) as caught:
        texts.run("silver.feed", MONDAY)
    assert f"{texts.contracts}/silver/feed.yaml: rule id_expression cannot be evaluated:" in str(
        caught.value
    )


def test_an_unknown_table_names_the_known_ones(texts):
    with pytest.raises(
        ContractError, match=r"no contract for table silver.fed; known: bronze.feed"
    ):
        texts.run("silver.fed", MONDAY)


def test_a_breaking_change_without_a_new_major_version_is_refused(texts):
    document = silver(version="1.1.0")
    document["schema"][0]["properties"].pop()
    texts.define(document, COPY)
    with unchanged(texts, "silver.feed"), pytest.raises(ContractError) as caught:
        texts.run("silver.feed", MONDAY)
    assert (
        "breaking change without a new major version (published 1.0.0, now 1.1.0): column name"
        in (str(caught.value))
    )


def test_a_contract_that_never_published_anything_may_still_change(texts):
    """The first run of a new table often fails; that must not cast its mistakes in stone."""
    named = column("code", "bigint", rule("range", min=5, max_failing=0), of="bronze.feed.id")
    make = """
        from spark_jobs.columns import LINEAGE, number

        def transform(feed):
            return feed.select(*LINEAGE, number("id", "{}").alias("code"))
    """
    inputs = [{"table": "bronze.feed"}]
    texts.define(contract("silver.new", [named], inputs=inputs), make.format("bigint"))
    assert (
        "code_range is 2, must be <= 0 of rows" in reasons(texts.run("silver.new", MONDAY))[MONDAY]
    )
    named = column("code", "int", of="bronze.feed.id")
    texts.define(contract("silver.new", [named], inputs=inputs), make.format("int"))
    assert not texts.run("silver.new", MONDAY).failed
    assert texts.rows("silver.new", "code") == [1, 2]


# -- files -------------------------------------------------------------------------------------


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def damaged(path: Path) -> None:
    """Pages overwritten below a footer that is whole."""
    good = path.read_bytes()
    path.write_bytes(good[:50] + bytes(100) + good[150:])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def really_csv(path: Path) -> None:
    path.write_bytes(b"id,name\n1,x\n")


def without_id(path: Path) -> None:
    pq.write_table(pa.table({"name": ["x"], "extra": [1]}), path)


def without_rows(path: Path) -> None:
    pq.write_table(parquet(), path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncated, "{file}: not a readable Parquet file ("),
        (damaged, "{file}: a damaged Parquet file ("),
        (emptied, "{file}: not a readable Parquet file ("),
        (really_csv, "{file}: not a readable Parquet file ("),
        (without_id, "{file}: required column(s) missing: id. Found: extra, name. Deliver them, or"
         " change the contract."),
        (without_rows, "row_count is 0, must be >= 1 rows. Delivered: {file} ("),
    ],
)  # fmt: skip
def test_a_bad_parquet_file_fails_its_day_and_no_other(binaries, spoil, message):
    bad = binaries.land("feed", TUESDAY, "f.parquet", parquet(*range(100)))
    spoil(bad)
    binaries.land("feed", WEDNESDAY, "f.parquet", parquet(4))
    report = binaries.run("bronze.feed", MONDAY, TUESDAY, WEDNESDAY)
    assert {p.partition: p.status for p in report.partitions} == {
        MONDAY: "unchanged", TUESDAY: "failed", WEDNESDAY: "published",
    }  # fmt: skip
    assert reasons(report)[TUESDAY].startswith(message.format(file=bad))
    assert binaries.rows("bronze.feed", "id") == [1, 2, 4]
    binaries.land("feed", TUESDAY, "f.parquet", parquet(3))
    assert not binaries.run("bronze.feed", TUESDAY).failed
    assert binaries.rows("bronze.feed", "id") == [1, 2, 3, 4]


def test_a_bad_redelivery_leaves_the_published_day_as_it_was(binaries):
    truncated(binaries.land("feed", MONDAY, "f.parquet", parquet(7, 8, 9)))
    with unchanged(binaries, "bronze.feed"):
        report = binaries.run("bronze.feed", MONDAY)
        assert "not a readable Parquet file" in reasons(report)[MONDAY]
    with unchanged(binaries, "bronze.feed"):
        assert binaries.run("bronze.feed", MONDAY).failed, "in every later run too"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "row_count is 0, must be >= 1 rows. Delivered: {file} (0 bytes)"),
        (b"\n\n", "row_count is 0, must be >= 1 rows. Delivered: {file} (2 bytes)"),
        ('{"id":"3","name":"é"}\n'.encode("latin-1"),
         "{file}: not UTF-8 text (byte 18). Deliver the file as UTF-8."),
        (b"PAR1\x00\x00PAR1",
         "{file}: a Parquet file, whatever its name says. Deliver it as text, in UTF-8."),
        (b'{"name":"x"}\n',
         "{file}: required column(s) missing: id. Deliver them, or change the contract."),
    ],
)  # fmt: skip
def test_a_bad_text_file_fails_its_day_and_no_other(texts, content, message):
    bad = texts.land("feed", TUESDAY, "f.json", content)
    texts.land("feed", WEDNESDAY, "f.json", jsonl(4))
    report = texts.run("bronze.feed", TUESDAY, WEDNESDAY)
    assert reasons(report) == {TUESDAY: message.format(file=bad)}
    assert texts.rows("bronze.feed", "id") == ["1", "2", "4"]


def test_one_bad_file_of_a_day_holds_back_the_good_ones_of_that_day(texts):
    texts.land("feed", TUESDAY, "f1.json", jsonl(3))
    texts.land("feed", TUESDAY, "f2.json", b"\xff\xfe")
    with unchanged(texts, "bronze.feed"):
        report = texts.run("bronze.feed", TUESDAY)
    assert "f2.json: not UTF-8 text" in reasons(report)[TUESDAY]


def test_a_day_of_nothing_but_bad_rows_is_kept_in_quarantine_and_not_published(texts):
    texts.land("feed", TUESDAY, "f.json", "".join(f"{{broken {i}\n" for i in range(20)))
    texts.land("feed", WEDNESDAY, "f.json", jsonl(4))
    report = texts.run("bronze.feed", TUESDAY, WEDNESDAY)
    assert reasons(report) == {TUESDAY: "quarantine_rate is 1, must be <= 0.05 of rows read"}
    assert texts.rows("bronze.feed", "id") == ["1", "2", "4"]
    kept = texts.quarantined("bronze.feed")
    assert sorted(r["record"] for r in kept) == sorted(f"{{broken {i}" for i in range(20))
    assert {(r["partition"], *r["rules"]) for r in kept} == {(TUESDAY, "parsable")}
    (failed,) = [p for p in report.partitions if p.status == "failed"]
    assert (failed.counts.read, failed.counts.quarantined) == (20, 20)
    assert {"quarantine_rate", "parsable"} <= failed_checks(failed)


def test_a_day_of_nothing_but_rejected_rows_stays_out_of_silver(texts):
    texts.land("feed", TUESDAY, "f.json", jsonl("one", "two"))
    texts.run("bronze.feed", TUESDAY)
    with unchanged(texts, "silver.feed"):
        report = texts.run("silver.feed", TUESDAY)
    assert reasons(report) == {TUESDAY: "quarantine_rate is 1, must be <= 0.1 of rows read"}
    assert len(texts.quarantined("silver.feed")) == 2


def test_a_failed_republication_keeps_what_had_been_quarantined_before(texts):
    """The published version stays what readers see; so do the rows that had left it."""
    texts.define(silver(rule("range", max=1), gates={"max_quarantine_rate": 0.5}))
    texts.run("silver.feed", MONDAY)
    assert texts.rows("silver.feed", "id") == [1]
    (before,) = texts.quarantined("silver.feed")
    texts.land("feed", MONDAY, "f.json", jsonl(7, 8, 9))
    texts.run("bronze.feed", MONDAY)
    with unchanged(texts, "silver.feed"):
        assert texts.run("silver.feed", MONDAY).failed
    kept = {r["quarantine_id"]: r for r in texts.quarantined("silver.feed")}
    assert kept[before["quarantine_id"]] == before and len(kept) == 4
    assert {r["decision"] for r in kept.values()} == {"open"}
    assert reconcile(texts.engine.spark, texts.parsed()["silver.feed"], texts.lake) == []


# -- partitions and inputs ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "partition", ["2026-02-30", "2026-13-01", "2026-10-5", "2026-10-05T01", "x"]
)
def test_a_partition_that_does_not_exist(texts, partition):
    with unchanged(texts, "bronze.feed"), pytest.raises(InputError) as caught:
        texts.run("bronze.feed", MONDAY, partition)
    assert str(caught.value) == (
        f"bronze.feed: partition {partition!r} does not exist; daily partitions look like 2026-10-05"
    )


def test_no_partition_at_all(texts):
    with pytest.raises(InputError, match=r"bronze.feed: no partitions given; it is daily"):
        texts.run("bronze.feed")


def test_a_day_that_was_never_delivered(texts):
    with unchanged(texts, "bronze.feed"):
        report = texts.run("bronze.feed", TUESDAY)
    assert reconcile(texts.engine.spark, texts.parsed()["bronze.feed"], texts.lake) == []
    folder = f"{texts.zones['landing']}/feed/{TUESDAY}"
    assert reasons(report) == {
        TUESDAY: f"nothing delivered: no files in {folder}. Deliver the files, or leave the day out"
        " of the contract's source.days if the source never delivers on it."
    }


def test_a_day_on_which_the_source_never_delivers_is_empty(lake):
    weekdays = ["mon", "wed"]
    lake.define(bronze("feed", "json", column("id", required=True), days=weekdays))
    lake.land("feed", MONDAY, "f.json", jsonl(1))
    report = lake.run("bronze.feed", MONDAY, TUESDAY)
    assert [p.status for p in report.partitions] == ["published", "empty"]
    assert failed_checks(report.partitions[1]) == set()


def test_an_input_table_that_does_not_exist(lake):
    lake.define(bronze("feed", "json", column("id"), column("name")))
    lake.define(silver(), COPY)
    with pytest.raises(InputError) as caught:
        lake.run("silver.feed", MONDAY)
    assert str(caught.value) == (
        f"silver.feed: its input bronze.feed does not exist at {lake.zones['bronze']}/feed."
        " Materialize bronze.feed first."
    )
    assert lake.versions("silver.feed") == -1


def test_an_input_partition_that_was_never_published(texts):
    texts.land("feed", TUESDAY, "f.json", "{broken\n")
    assert texts.run("bronze.feed", TUESDAY).failed
    with unchanged(texts, "silver.feed"):
        report = texts.run("silver.feed", TUESDAY)
    assert reasons(report) == {
        TUESDAY: "its input bronze.feed has no published partition 2026-10-06. Materialize"
        " bronze.feed for 2026-10-06 first, or mend what failed there."
    }


def test_one_bad_day_publishes_the_others_and_stays_due(texts):
    texts.land("feed", TUESDAY, "f.json", jsonl("bad", "worse"))
    texts.land("feed", WEDNESDAY, "f.json", jsonl(4))
    texts.run("bronze.feed", TUESDAY, WEDNESDAY)
    report = texts.run("silver.feed", MONDAY, TUESDAY, WEDNESDAY)
    assert [p.status for p in report.partitions] == ["unchanged", "failed", "published"]
    assert texts.rows("silver.feed", "id") == [1, 2, 4]
    texts.land("feed", TUESDAY, "f.json", jsonl(3))
    texts.run("bronze.feed", TUESDAY)
    assert only(texts.run("silver.feed", TUESDAY)).status == "published"
    assert texts.rows("silver.feed", "id") == [1, 2, 3, 4]


# -- the Delta log -----------------------------------------------------------------------------


def logs(lake: TinyLake, table: str) -> list[Path]:
    return sorted((Path(lake.lake.table(table)) / "_delta_log").glob("*.json"))


def cut_off(lake: TinyLake, table: str) -> None:
    last = logs(lake, table)[-1]
    last.write_bytes(last.read_bytes()[:-40])


def garbage(lake: TinyLake, table: str) -> None:
    logs(lake, table)[-1].write_bytes(b"\x00\x01 not a log")


def first_missing(lake: TinyLake, table: str) -> None:
    logs(lake, table)[0].unlink()


def no_log(lake: TinyLake, table: str) -> None:
    shutil.rmtree(Path(lake.lake.table(table)) / "_delta_log")


def empty_log(lake: TinyLake, table: str) -> None:
    for path in logs(lake, table):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_off, "the Delta log cannot be read ("),
        (garbage, "the Delta log cannot be read ("),
        (first_missing, "the Delta log cannot be read ("),
        (no_log, "data files without a Delta log. Restore the _delta_log folder, or move the folder"
         " away to rebuild the table by a backfill."),
        (empty_log, "data files without a Delta log."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("table", ["bronze.feed", "silver.feed"])
def test_a_damaged_delta_log_is_neither_read_nor_written_over(texts, table, spoil, message):
    """As the table itself, and as the input of another."""
    spoil(texts, table)
    folder = Path(texts.lake.table(table))
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for runs in ("bronze.feed", "silver.feed"):
        if runs == "bronze.feed" and table == "silver.feed":
            continue  # a table does not read what is below it
        with pytest.raises(StorageError) as caught:
            texts.run(runs, MONDAY, force=True)
        assert str(caught.value).startswith(f"{folder}: {message}"), caught.value
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_table_that_was_moved_away_is_rebuilt_by_running_it_again(texts):
    folder = Path(texts.lake.table("silver.feed"))
    folder.rename(folder.with_name("moved_away"))
    assert only(texts.run("silver.feed", MONDAY)).status == "published"
    assert texts.rows("silver.feed", "id") == [1, 2]


# -- the lake's storage ------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["bronze", "quarantine", "ledger"])
def test_a_file_where_a_zone_should_be(texts, zone):
    texts.zones[zone] = str(texts.root / "in_the_way")
    (texts.root / "in_the_way").write_text("a file")
    with pytest.raises(StorageError) as caught:
        texts.run("bronze.feed", MONDAY, force=True)
    assert str(caught.value).startswith(
        f"{texts.zones[zone]}: a file is where a folder should be ("
    )
    assert str(caught.value).endswith("Move it away, or set another lake root in the settings.")


@contextmanager
def nobody() -> Iterator[None]:
    """Without root's right to write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_lake_root_that_is_not_writable(texts, tmp_path):
    root = tmp_path / "read_only"
    root.mkdir(mode=0o555)
    texts.zones["bronze"] = str(root / "bronze")
    with nobody(), pytest.raises(StorageError) as caught:
        texts.run("bronze.feed", MONDAY)
    assert str(caught.value).startswith(f"{root}/bronze: not writable (")
    assert str(caught.value).endswith(
        "Give this user write access, or set another lake root in the settings."
    )


def test_every_error_is_one_that_a_person_can_act_on():
    for error in (ContractError, InputError, SchemaError, StorageError, EngineError):
        assert issubclass(error, LakehouseError)


def test_a_table_that_never_published_anything_has_nothing_to_reconcile(lake):
    lake.define(bronze("feed", "json", column("id")))
    assert lake.run("bronze.feed", MONDAY).failed
    assert reconcile(lake.engine.spark, lake.parsed()["bronze.feed"], lake.lake) == []
