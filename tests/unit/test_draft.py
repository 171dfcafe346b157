"""What is proposed for a delivered file: layout, types, codes, key, sequence, names, and its refusals.

Not here: that a draft is valid, formatted and publishes its rows (tests/e2e/test_draft.py).
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_jobs import columns as read_by
from spark_jobs.contract.reader import load_contract
from spark_jobs.draft import code, inference, sample
from spark_jobs.draft.proposal import Said, doubts, propose, table_name
from spark_jobs.draft.sample import look
from spark_jobs.draft.write import files, write
from spark_jobs.errors import InputError

PROJECT = Path(__file__).parents[2]
US = Said(domain="testing", owner="us")


def seen(*values: Any, name: str = "x", type_: pa.DataType | None = None) -> inference.Column:
    return inference.column(name, pa.chunked_array([pa.array(values, type_)]))


def landed(folder: Path, content: str | bytes | pa.Table, name: str = "feed.csv") -> Path:
    path = folder / name
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def proposed(folder: Path, content: str | bytes | pa.Table, file: str = "feed.csv", **said: Any):
    return propose(look(landed(folder, content, file)), Said(domain="testing", owner="us", **said))


# -- types -------------------------------------------------------------------------------------

TYPES = {
    "whole numbers": (("1", "-20", " 3 ", ""), "int"),
    "large whole numbers": (("12345678", "0"), "bigint"),
    "more digits than a bigint": (("1234567890123456789012",), "string"),
    "leading zeros": (("007", "1234"), "string"),
    "a decimal with leading zeros": (("00.5", "1.5"), "string"),
    "a zero before the point": (("0.5", "-1", ".25"), "decimal(12,2)"),
    "cents": (("1.5", "1234.50"), "decimal(12,2)"),
    "fine fractions": (("0.000001", "12"), "decimal(12,6)"),
    "large amounts": (("123456789012.25",), "decimal(17,2)"),
    "exponents": (("1.5E3", "2e-4"), "decimal(12,4)"),
    "an exponent beyond every decimal": (("1e99",), "string"),
    "a comma for a point": (("1,5",), "string"),
    "one that is no number": (("1", "2", "N/A"), "string"),
    "truth values": (("true", "FALSE", ""), "boolean"),
    "yes and no": (("yes", "no"), "string"),
    "ISO dates": (("2026-10-05", "2024-02-29"), "date"),
    "a day that does not exist": (("2026-02-30",), "string"),
    "another form of date": (("05.10.2026",), "string"),
    "dates in several forms": (("2026-10-05", "05.10.2026"), "string"),
    "dates and times": (("2026-10-05", "2026-10-05T10:00"), "string"),
    "times in UTC": (("2026-10-05T10:00:00Z", "2026-10-05T10:00:00.123+0200"), "timestamp"),
    "times without zone": (("2026-10-05 10:00:00",), "timestamp"),
    "nothing": (("", None), "string"),
}  # fmt: skip


@pytest.mark.parametrize("case", TYPES)
def test_a_type_is_what_all_values_are(case: str) -> None:
    values, type_ = TYPES[case]
    assert seen(*values, type_=pa.string()).type == type_


def test_no_value_is_lost_by_the_function_that_is_proposed(sail: Any) -> None:
    """The engine reads every value of a typed column, as the transform of the draft does."""
    checked = 0
    for values, type_ in TYPES.values():
        found = seen(*values, type_=pa.string())
        frame = sail.spark.createDataFrame([(v,) for v in values], "x string")
        more = (found.type,) if found.read == "number" else ()
        read = frame.select(getattr(read_by, found.read)("x", *more).alias("x")).toArrow()["x"]
        lost = [
            v
            for v, r in zip(values, read.to_pylist(), strict=True)
            if (v or "").strip() and r is None
        ]
        assert (type_, lost) == (type_, [])
        checked += len(values)
    assert checked > 30


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False), min_size=1))
def test_a_decimal_type_holds_every_number_that_was_seen(numbers: list[Decimal]) -> None:
    found = inference.decimal_type(pa.array([str(n) for n in numbers]))
    if found is None:
        return
    precision, scale = map(int, found[8:-1].split(","))
    for n in numbers:
        with localcontext(prec=100):
            assert n == n.quantize(Decimal(1).scaleb(-scale)), "nothing is rounded"
            assert abs(n) < Decimal(10) ** (precision - scale)


def test_zones_are_said(tmp_path: Path) -> None:
    assert seen("2026-10-05 10:00:00").note == "no zone: read as UTC"
    assert seen("2026-10-05 10:00:00", "2026-10-05T10:00Z").note.startswith("some without zone")
    assert seen("2026-10-05T10:00:00Z").note == ""


def test_most_numbers_and_a_few_that_are_none_are_counted_and_not_shown() -> None:
    found = seen("1", "2", "3", "secret")
    assert found.note == "3 of 4 distinct values are numbers, the others are not"


DELIVERED = {
    pa.int16(): "int", pa.int64(): "bigint", pa.uint32(): "bigint", pa.uint64(): "decimal(20,0)",
    pa.bool_(): "boolean", pa.date32(): "date", pa.timestamp("ns", "UTC"): "timestamp",
    pa.timestamp("ms"): "timestamp", pa.decimal128(9, 3): "decimal(9,3)", pa.null(): "string",
    pa.float64(): "decimal(12,2)", pa.list_(pa.string()): "array<string>",
    pa.struct([("a", pa.int64())]): "string", pa.time64("us"): "string", pa.large_string(): "string",
}  # fmt: skip


@pytest.mark.parametrize("type_", DELIVERED, ids=str)
def test_parquet_keeps_the_types_that_a_contract_has(type_: pa.DataType) -> None:
    assert seen(None, type_=type_).delivered == DELIVERED[type_]


def test_floats_become_decimals_wide_enough() -> None:
    assert seen(0.1, 1234567.5, float("nan")).type == "decimal(12,2)"
    assert seen(0.1 + 0.2).type == "decimal(21,17)"
    assert seen(1e-30).type == "string"


# -- codes and persons -------------------------------------------------------------------------


def test_few_short_codes_are_accepted_values() -> None:
    assert seen(*["NEW", "OLD"] * 5).codes == ("NEW", "OLD")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("too_rare", ["NEW", "OLD", "ODD", "LOW"] * 4),
        ("sentence", ["this is a text", "that is one too"] * 10),
        ("last_name", ["Smith", "Jones"] * 10),
        ("customer_id", ["C1", "C2"] * 10),
        ("one", ["X"] * 20),
        ("count", ["1", "2"] * 10),
    ],
)
def test_anything_else_is_not_written_down(name: str, values: list[str]) -> None:
    assert seen(*values, name=name).codes == ()


def test_digits_of_a_person_are_no_number() -> None:
    assert seen("4917000001", name="phone").type == "string"
    assert seen("42", name="age").type == "int"


# -- keys and sequences ------------------------------------------------------------------------

ORDERS = "amount,order_id,line_number,updated_at,day\n"


def test_the_key_is_what_is_named_so_and_unique(tmp_path: Path) -> None:
    rows = "".join(f"{i % 3},{i},1,2026-10-05T10:00:0{i}Z,2026-10-05\n" for i in range(9))
    p = proposed(tmp_path, ORDERS + rows)
    assert (p.key, p.sequence) == (("order_id",), "updated_at")
    assert p.publish == {"mode": "upsert", "sequence": "updated_at"}


def test_two_columns_are_a_key_where_none_is_alone(tmp_path: Path) -> None:
    rows = "".join(f"5,{i // 2},{i % 2},2026-10-05T10:00:0{i}Z,2026-10-05\n" for i in range(8))
    assert proposed(tmp_path, ORDERS + rows).key == ("order_id", "line_number")


def test_without_a_key_every_row_stays_and_that_is_said(tmp_path: Path) -> None:
    p = proposed(tmp_path, "a,b\n1,x\n1,x\n")
    assert p.publish == {"mode": "replace_partition"}
    assert "no key was seen" in doubts(p)[0]


def test_a_person_says_key_and_sequence_by_either_name(tmp_path: Path) -> None:
    content = "Line No,Order Id,Seen On\n1,7,2026-10-05\n2,7,2026-10-05\n"
    p = proposed(tmp_path, content, key=("order_id", "Line No"), sequence="seen_on")
    assert (p.key, p.sequence) == (("Order Id", "Line No"), "Seen On")
    write(files(p), tmp_path)
    contract = load_contract(tmp_path / "contracts/silver/feed.yaml")
    assert contract.key == ("order_id", "line_no"), "in the order that was said"
    with pytest.raises(InputError, match="colour: no such column; there are Line No, Order Id"):
        proposed(tmp_path, content, key=("colour",))


def test_a_later_change_counts_before_a_creation() -> None:
    time = "2026-10-05T10:00:00Z"
    columns = [seen(time, name=n) for n in ("created_at", "event_ts", "LastModifiedDate")]
    assert inference.sequence(columns) == "LastModifiedDate"
    assert inference.sequence(columns[:2]) == "created_at"
    assert inference.sequence([seen(time, None, name="updated_at")]) is None


# -- names -------------------------------------------------------------------------------------

NAMES = {
    "Order Id": "order_id", "OrderID": "order_id", "order-id": "order_id", "Größe (cm)": "grosse_cm",
    "Straße": "strasse", "1st": "n_1st", "100%": "n_100_percent", "#": "number", "SELECT": "select",
    "HTTPStatus": "http_status", "Ünïcode": "unicode", "日本": "",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_becomes_lower_snake_case(name: str) -> None:
    assert inference.snake(name) == NAMES[name]


def test_names_that_become_one_are_told_apart() -> None:
    found = inference.snake_names(["Order Id", "order_id", "日本", "ORDER-ID"])
    assert list(found.values()) == ["order_id", "order_id_2", "column_3", "order_id_3"]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("orders.csv", "orders"), ("Web Orders-2026-10-05.csv", "web_orders"),
        ("part-00001.parquet", "part"), ("20261005_sales.json", "n_20261005_sales"),
        ("export_2026_10_05_07.csv", "export"),
    ],
)  # fmt: skip
def test_a_table_is_named_after_its_file(file: str, name: str) -> None:
    assert table_name(Path(file)) == name


@pytest.mark.parametrize("name", ["Orders", "class", "2x", "a-b", "../x", "text"])
def test_a_name_that_no_table_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no name for a table"):
        proposed(tmp_path, "a\n1\n", name=name)


@pytest.mark.parametrize("name", ["../x", ".hidden", "_done", " a", "a/b"])
def test_a_dataset_that_is_no_folder_of_landing_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="--dataset"):
        proposed(tmp_path, "a\n1\n", dataset=name, name="feed")


# -- what a file says of itself ----------------------------------------------------------------

LAYOUTS = {
    "RFC 4180": (b'a,b\n1,"x,\ny"\n', {}),
    "semicolons": (b"a;b\n1,5;x\n2,5;y\n", {"delimiter": ";"}),
    "tabs": (b"a\tb\n1\tx, y\n2\tz\n", {"delimiter": "\t"}),
    "bars": (b"a|b\n1|x\n2|y\n", {"delimiter": "|"}),
    "one column": (b"a\n1\n2\n", {}),
    "single quotes": (b"a,b\n'1','x,y'\n'2','z'\n", {"quote": "'"}),
    "quotes that mean nothing": (b'a,b\n1,5" disk\n2,3" disk\n', {"quote": None}),
    "a byte order mark": (b"\xef\xbb\xbfa,b\n1,x\n", {}),
    "UTF-16": ("a,b\n1,é\n".encode("utf-16"), {"encoding": "utf-16"}),
    "lines of Windows": (b"a,b\r\n1,x\r\n", {}),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_the_layout_of_a_text_file_is_seen(tmp_path: Path, case: str) -> None:
    content, told = LAYOUTS[case]
    p = proposed(tmp_path, content)
    usual = {"dataset": "feed", "format": "csv", "system": "files"}
    assert p.source == usual | told
    assert [c.name for c in p.columns] == (["a"] if case == "one column" else ["a", "b"])
    assert p.sample.malformed == 0 and p.sample.whole


def test_an_encoding_that_nobody_can_see_is_said_by_a_person(tmp_path: Path) -> None:
    path = landed(tmp_path, "a,b\n1,é\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"feed.csv: not UTF-8 text \(byte 6\).*--encoding cp1252"):
        look(path)
    assert look(path, "cp1252").rows["b"].to_pylist() == ["é"]
    with pytest.raises(InputError, match="--encoding klingon: there is no such text encoding"):
        look(path, "klingon")


REFUSED = {
    "an empty file": ("feed.csv", b"", "the file is empty"),
    "a blank file": ("feed.csv", b"\n\n", "the file is empty"),
    "a header alone": ("feed.csv", b"a,b\n", "the file has no rows"),
    "an unknown format": ("feed.xlsx", b"PK", "a file of unknown format"),
    "no header": ("feed.csv", b"1,2026-10-05,7.5\n2,2026-10-06,8\n", "no header: the first line"),
    "a column without name": ("feed.csv", b"a,,c\n1,2,3\n", "column 2 has no name"),
    "a name twice": ("feed.csv", b"a,A\n1,2\n", "differ only in case: a"),
    "a compressed file": ("feed.csv", b"\x1f\x8b\x08", "a gzip file"),
    "broken text": ("feed.json", b'{"a":"\xff"}\n', r"not UTF-8 text \(byte 6\)"),
    "a list": ("feed.json", b'[\n{"a": 1}\n]\n', None),
    "an object over several lines": ("feed.json", b'{\n"a": 1\n}\n', "no line is a JSON object"),
    "no Parquet": ("feed.parquet", b"PAR1 or not", "not a readable Parquet file"),
    "a quote that never ends": ("feed.csv", b'a,b\n"1,2\n3,4', None),
    "names of the platform": ("feed.csv", b"_a\n1\n", "no column has a name"),
}


@pytest.mark.parametrize("case", [c for c in REFUSED if REFUSED[c][2]])
def test_a_file_that_says_too_little_is_refused(tmp_path: Path, case: str) -> None:
    name, content, said = REFUSED[case]
    path = landed(tmp_path, content, name)
    with pytest.raises(InputError, match=said) as caught:
        look(path)
    assert str(path) in str(caught.value)


def test_records_that_are_not_well_formed_are_counted(tmp_path: Path) -> None:
    p = proposed(tmp_path, 'a,b\n1,"x"\n2,"y" z\n3,"a,b"\n')
    assert p.sample.malformed == 1
    assert "1 records are not well formed and would be quarantined" in doubts(p)


def test_a_large_file_is_not_read_to_its_end(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sample, "MOST_BYTES", 1 << 20)
    rows = "".join(f"{i},{'x' * 100}\n" for i in range(100_000))
    for name, content in (
        ("feed.csv", "a,b\n" + rows),
        ("feed.json", "".join(f'{{"a":{i},"b":"{"x" * 100}"}}\n' for i in range(100_000))),
        ("feed.parquet", pa.table({"a": range(100_000), "b": ["x" * 100] * 100_000})),
    ):
        found = look(landed(tmp_path, content, name))
        assert not found.whole and found.rows.num_rows < 60_000
        assert found.extent.startswith("the first ") and found.extent.endswith("rows (about 1 MiB)")


def test_columns_that_no_contract_can_hold_are_left_to_rescued_and_said(tmp_path: Path) -> None:
    table = pa.table({n: [1] for n in ("a b", "a-b", "_c", "d.e", "*")} | {"raw": [b"x"]})
    p = proposed(tmp_path, table, "feed.parquet")
    assert [c.name for c in p.columns] == ["a b"]
    assert [n for n, _ in p.sample.left_out] == ["_c", "d.e", "*", "raw", "a-b"]
    assert all("is left to _rescued" in d for d in doubts(p)[:5])
    write(files(p), tmp_path)  # its contracts are read back


# -- what is written ---------------------------------------------------------------------------


def test_code_is_written_as_the_formatter_writes_it(tmp_path: Path) -> None:
    names = [c * n for n in range(20, 130, 3) for c in "ab"]
    names += ["日" * n for n in (10, 30, 60)] + ['say "hi"', "it's", "back\\slash", 'it\'s "it"']
    values = ["7.5", "text", "2026-10-05", "2026-10-05T10:00:00Z", "true"]
    columns = {n: pa.array([values[i % len(values)]]) for i, n in enumerate(names)}
    copies = pa.array([1]), pa.array([Decimal("1.5")]), pa.array([0], pa.timestamp("us", "UTC"))
    columns |= {f"{'c' * n}{i}": a for n in range(20, 130, 3) for i, a in enumerate(copies)}
    p = proposed(tmp_path, pa.table(columns), "feed.parquet")
    ruff = [str(Path(sys.executable).with_name("ruff"))]
    for name, text in (("feed.py", code.transform(p)), ("test_feed.py", code.unit_test(p))):
        path = landed(tmp_path, text, name)
        for command in (["format", "--check", "--diff"], ["check"]):
            done = subprocess.run(
                [*ruff, *command, "--config", PROJECT / "pyproject.toml", path],
                capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr


def test_all_files_are_written_or_none(tmp_path: Path) -> None:
    p = proposed(tmp_path, "id,b\n1,x\n")
    (tmp_path / "tests").write_text("in the way")
    with pytest.raises(InputError, match=r"tests/unit/test_feed\.py: cannot be written"):
        write(files(p), tmp_path)
    assert [f for f in tmp_path.rglob("*") if f.is_file()] == [
        tmp_path / "feed.csv",
        tmp_path / "tests",
    ]


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    p = proposed(tmp_path, "id,b\n1,x\n")
    there = tmp_path / "spark_jobs/tables/silver/feed.py"
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    with pytest.raises(InputError, match=r"silver/feed.py is there already"):
        write(files(p), tmp_path)
    assert there.read_text() == "mine" and not (tmp_path / "contracts").exists()


# -- the command -------------------------------------------------------------------------------


def project(folder: Path) -> Path:
    """A project with the contracts of this one."""
    (folder / "pyproject.toml").write_text("")
    for path in (PROJECT / "contracts").glob("*/*.yaml"):
        copy = folder / "contracts" / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    return folder


def new(folder: Path, *arguments: str, stdin: int = subprocess.DEVNULL) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LAKEHOUSE")}
    done = subprocess.run(
        [Path(sys.executable).with_name("lakehouse"), "contract", "new", *arguments],
        cwd=folder, env=environment, stdin=stdin, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_without_a_terminal_nothing_is_asked(tmp_path: Path) -> None:
    path = landed(tmp_path, "id,email,b\n1,ada@example.com,secret\n")
    said = new(project(tmp_path), "--from-file", str(path))
    assert "domain commerce, owner data-platform" in said
    assert "Looked at all 1 rows" in said and "personal by name: email" in said
    assert "ada" not in said and "secret" not in said
    assert (tmp_path / "contracts/silver/feed.yaml").exists()


@pytest.mark.parametrize("yes", [True, False])
def test_on_a_terminal_only_what_no_file_says_is_asked(tmp_path: Path, yes: bool) -> None:
    path = landed(tmp_path, "id,b\n1,x\n")
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"finance\n")
        more = ["--yes"] if yes else []
        said = new(project(tmp_path), "--from-file", str(path), *more, stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)
    domain = load_contract(tmp_path / "contracts/silver/feed.yaml").domain
    assert (domain, "Domain [commerce]" in said) == (
        ("commerce", False) if yes else ("finance", True)
    )


def test_what_is_said_is_not_asked_or_guessed(tmp_path: Path) -> None:
    path = landed(tmp_path, "id,b\n1,x\n")
    new(project(tmp_path), "--from-file", str(path), "--name", "shops", "--dataset", "crm-shops",
        "--domain", "crm", "--owner", "sales", "--system", "sap", "--key", "b")  # fmt: skip
    bronze = load_contract(tmp_path / "contracts/bronze/shops.yaml")
    assert (bronze.domain, bronze.owner) == ("crm", "sales")
    assert bronze.source is not None
    assert (bronze.source.dataset, bronze.source.system) == ("crm-shops", "sap")
    assert load_contract(tmp_path / "contracts/silver/shops.yaml").key == ("b",)
