"""Price lists that vendors put into a bucket, in formats of their own: what lands, what is refused.

Here: from objects in S3 to silver. Not here: extraction as such (tests/unit/test_extraction.py).
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from time import sleep
from time import time as clock
from typing import Any

import boto3
import pytest

from lakehouse.settings.sources import BucketConnection
from lakehouse.sources import bucket
from lakehouse.sources.cursors import SqliteStore
from lakehouse.sources.extract import Dataset, Extracted, extract
from lakehouse.standins.data import tpch
from lakehouse.standins.data.plan import Plan
from lakehouse.standins.data.price_lists import PriceLists
from lakehouse.standins.data.products import Products
from lakehouse.standins.data.vendor_files import workbook
from lakehouse.standins.servers.aws import CREDENTIALS, REGION, Aws
from lakehouse.standins.systems.vendors import Vendors as SampleVendors
from spark_jobs.contract.reader import load_contract
from spark_jobs.contract.source import Bucket
from spark_jobs.errors import InputError
from tests.lakes import TinyLake, column, contract

PROJECT = Path(__file__).parents[2]
BUCKET = "lists-of-vendors"
COLUMNS = ("vendor", "part_id", "price", bucket.FILE, bucket.SHA256, bucket.RECEIVED)
SOURCE = {"kind": "bucket", "dataset": "price_lists", "format": "json", "folder": "prices"}
LARGE = 1 << 20

ACME = workbook(
    [["vendor", "part_id", "price"], ["ACME", 7.0, 10.5], ["", "", ""], ["ACME", 8.0, 3.0]]
)
BOLT = b'\xef\xbb\xbfpart_id,vendor,price,note\r\n7,"Bolt, Inc",11,"two\nlines"\r\n'
CORE = json.dumps([{"vendor": "Core", "part_id": 9, "price": 1.25}]).encode()


def client_of(aws: Aws) -> Any:
    names = {n.lower(): v for n, v in CREDENTIALS.items()}
    return boto3.client("s3", region_name=REGION, endpoint_url=aws.url, **names)


@dataclass
class Vendors:
    """Their bucket, and the dataset that is extracted from it."""

    aws: Aws
    landing: Dataset
    cursors: SqliteStore
    today: date

    @property
    def day(self) -> str:
        return self.today.isoformat()

    @property
    def next_day(self) -> str:
        return (self.today + timedelta(days=1)).isoformat()

    @property
    def s3(self) -> Any:
        return client_of(self.aws)

    def put(self, name: str, data: bytes) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=f"prices/{name}", Body=data)

    def take(self, *, again: bool = False) -> Extracted:
        """Extracts the day, at an hour at which all that was put is old enough to be read."""
        return self._taken(self.day, datetime.now(UTC), again)

    def take_next(self) -> Extracted:
        return self._taken(self.next_day, datetime.now(UTC) + timedelta(days=1))

    def _taken(self, day: str, now: datetime, again: bool = False) -> Extracted:
        return extract(self.landing, day, self.cursors, now + timedelta(seconds=5), again=again)

    def rows(self, done: Extracted) -> list[dict[str, Any]]:
        return landed(self.landing, done)


def landed(of: Dataset, done: Extracted) -> list[dict[str, Any]]:
    folder = Path(of.folder(done.partition).uri)
    files = [(folder / f.name).read_bytes() for f in done.manifest.files]
    return [json.loads(line) for file in files for line in file.splitlines()]


@pytest.fixture
def vendors(aws: Aws, tmp_path: Path) -> Vendors:
    aws.create_buckets(BUCKET)
    options = dict(aws.storage_options)
    connection = BucketConnection(location=f"s3://{BUCKET}", storage_options=options)
    declared = Bucket(**SOURCE)
    of = bucket.source(connection, declared, COLUMNS)
    of.check()
    lake = TinyLake(tmp_path)
    landing = Dataset(of, declared, COLUMNS, lake.storage, lake.zones["landing"], declared.overlap)
    left = 86_400 - clock() % 86_400
    if left < 60:  # the day does not end while a test runs
        sleep(left)
    today = datetime.now(UTC).date()
    return Vendors(aws, landing, SqliteStore(tmp_path / "positions.sqlite"), today)


def test_lists_of_every_format_land_as_one_with_where_each_row_comes_from(vendors: Vendors) -> None:
    vendors.put("acme.xlsx", ACME)
    vendors.put("bolt/june.csv", BOLT)
    vendors.put("core.json.gz", gzip.compress(CORE))
    vendors.put("more.jsonl", b'{"vendor": "Dot", "part_id": "7", "price": null}\n\n')
    vendors.put("_readme.pdf", b"no data")
    done = vendors.take()
    assert done.rows == 5 and done.meter.requests == 5
    assert {
        (r["source_file"], r["vendor"], str(r["part_id"]), r["price"]) for r in vendors.rows(done)
    } == {
        ("acme.xlsx", "ACME", "7", 10.5),
        ("acme.xlsx", "ACME", "8", 3),
        ("bolt/june.csv", "Bolt, Inc", "7", "11"),
        ("core.json.gz", "Core", "9", 1.25),
        ("more.jsonl", "Dot", "7", None),
    }
    assert all(
        len(r["source_sha256"]) == 64 and r["received_at"][:10] == vendors.day
        for r in vendors.rows(done)
    )
    assert vendors.take_next().rows == 0, "what has landed is known"


def test_an_upload_that_is_not_complete_is_not_seen_and_lands_when_it_is(vendors: Vendors) -> None:
    key = {"Bucket": BUCKET, "Key": "prices/core.json"}
    upload = {**key, "UploadId": vendors.s3.create_multipart_upload(**key)["UploadId"]}
    part = vendors.s3.upload_part(**upload, PartNumber=1, Body=CORE)
    assert vendors.take().rows == 0
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    vendors.s3.complete_multipart_upload(**upload, MultipartUpload=parts)
    assert vendors.take_next().rows == 1, (
        "although it began before the extraction of the day before"
    )


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("acme.xlsx", ACME[: len(ACME) // 2], "cannot be read (ValueError)"),
        ("bolt.csv", BOLT[:-4], "cannot be read (Error)"),
        ("bolt.csv", b"vendor,part_id,price\nBolt,7\n", "cannot be read (ValueError)"),
        ("core.json", CORE[:-5], "cannot be read (JSONDecodeError)"),
        ("core.json.gz", gzip.compress(CORE)[:-9], "cannot be read (EOFError)"),
        ("core.json", b"", "has no rows"),
        ("core.csv", b"vendor,price\nCore,1\n", "has no part_id"),
        (
            "core.csv",
            b"vendor,part_id,price,price\nCore,1,2,3\n",
            "its columns 3 and 4 have one name",
        ),
        (
            "core.xlsx",
            workbook([["part_id", "price", "vendor", "price "]] * 2),
            "its columns 2 and 4",
        ),
        (
            "core.json",
            b'{"vendor": "Core", "part_id": 1, "price": 2, "price": 3}',
            "cannot be read",
        ),
        ("core.json", b'{"vendor": "Core", "part_id": 1, "price": NaN}', "cannot be read"),
        ("core.json", b"[" * 100_000, "cannot be read (RecursionError)"),
        ("zeros.json.gz", gzip.compress(bytes(LARGE + 1)), "has more than"),
        ("terms.pdf", b"%PDF", "is none of csv, json, jsonl, xlsx"),
    ],
)
def test_a_file_that_was_cut_is_refused_by_name_and_nothing_lands(
    vendors: Vendors, name: str, data: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "_MOST_BYTES", LARGE)
    vendors.put("a.json", CORE)
    vendors.put(name, data)
    with pytest.raises(InputError) as caught:
        vendors.take()
    assert str(caught.value).startswith(f"s3://{BUCKET}/prices/{name}: {why}")
    vendors.put(name, CORE) if name.endswith(".json") else vendors.s3.delete_object(
        Bucket=BUCKET, Key=f"prices/{name}"
    )
    assert vendors.take().rows >= 1


def test_what_a_line_of_json_says_lands_to_the_letter(vendors: Vendors) -> None:
    texts = ["a\u2028b", "a\x85b\u2029", "a\x7fb"]
    lines = [f'{{"vendor": "{text}", "part_id": 1, "price": {{"net": 1.10}}}}' for text in texts]
    lines += [
        f'{{"vendor": "exact", "part_id": {"1234567890" * 2}, "price": 0.{"1234567890" * 2}}}'
    ]
    vendors.put("lines.jsonl", "\r\n".join(lines).encode())
    vendors.put("old.jsonl", "\r".join(lines).encode())
    done = vendors.take()
    landed = [(r["vendor"], str(r["part_id"]), r["price"]) for r in vendors.rows(done)]
    exact = ("exact", "1234567890" * 2, "0." + "1234567890" * 2)
    assert landed == [*((text, "1", {"net": 1.1}) for text in texts), exact] * 2


def test_a_time_of_day_in_a_workbook_lands_as_text(vendors: Vendors) -> None:
    assert [bucket._cell(v) for v in (time(9, 30), timedelta(hours=30), 2.0, "")] == [
        "09:30:00", "1 day, 6:00:00", 2, None,
    ]  # fmt: skip


def test_of_a_list_that_was_sent_again_or_twice_silver_has_the_newest_price_once(
    vendors: Vendors, lake: TinyLake
) -> None:
    names = [column(n) for n in COLUMNS]
    lake.define(contract("bronze.price_lists", names, source=SOURCE))
    lake.define(
        contract(
            "silver.prices",
            [column("vendor", key=1), column("part_id", "bigint", key=2),
             column("price", "decimal(15,2)"), column("received_at", "timestamp", required=True)],
            publish={"mode": "upsert", "sequence": "received_at"},
            inputs=[{"table": "bronze.price_lists"}],
        ),
        """
        from spark_jobs.columns import LINEAGE, instant, number

        def transform(price_lists):
            return price_lists.select(
                *LINEAGE, "vendor", number("part_id", "bigint").alias("part_id"),
                number("price", "decimal(15,2)").alias("price"),
                instant("received_at").alias("received_at"),
            )
        """,
    )  # fmt: skip
    vendors.put("acme.xlsx", ACME)
    vendors.put("acme (1).xlsx", ACME)
    assert vendors.take().rows == 4
    report = run(lake, vendors.day)
    assert (report.counts.inserted, report.counts.duplicate) == (2, 2), "sent under two names"
    sleep(1)  # S3 tells in whole seconds when an object was written
    vendors.put("acme.xlsx", workbook([["vendor", "part_id", "price"], ["ACME", 7.0, 9.99]]))
    assert vendors.take_next().rows == 1
    assert run(lake, vendors.next_day).counts.updated == 1
    prices = {r["part_id"]: str(r["price"]) for r in lake.rows("silver.prices")}
    assert prices == {7: "9.99", 8: "3.00"}


def run(lake: TinyLake, day: str) -> Any:
    assert not lake.run("bronze.price_lists", day).failed
    report = lake.run("silver.prices", day)
    assert not report.failed, report.failed
    return report


def test_lists_of_the_sample_land_from_the_bucket_as_they_do_as_files(
    aws: Aws, tmp_path: Path
) -> None:
    """Day by day: a workbook that is written again, a list that came twice, an upload without an end."""
    plan = Plan(7, 0.001, date(2026, 10, 5), True)
    lists = PriceLists(plan, Products(plan, tpch.generate(plan.scale)))
    theirs = SampleVendors(aws, client_of(aws))
    theirs.create()
    readers = load_contract(PROJECT / "contracts/bronze/price_lists.yaml")
    declared = readers.delivered
    assert isinstance(declared, Bucket)
    of = bucket.source(BucketConnection(**theirs.connection), declared, tuple(readers.column))
    lake, cursors = TinyLake(tmp_path), SqliteStore(tmp_path / "positions.sqlite")
    landing = Dataset(
        of, declared, of.columns, lake.storage, lake.zones["landing"], declared.overlap
    )
    for index in range(3):
        day = plan.partition(index)
        (folder := tmp_path / "sample" / day).mkdir(parents=True)
        content, tally = lists.deliver(index)
        (folder / "price_lists.jsonl").write_bytes(content)
        theirs.put(declared, folder)
        done = extract(landing, day, cursors, datetime.now(UTC))
        delivered = [json.loads(line) for line in content.decode().splitlines()]
        assert done.rows == tally.read == len(delivered) > 0
        assert texts(landed(landing, done)) == texts(delivered)
    assert tally.planted["overwritten_file"] and {r["source_file"][-5:] for r in delivered} >= {
        ".xlsx",
        ".json",
    }


def texts(rows: list[dict[str, Any]]) -> list[list[tuple[str, str]]]:
    """Rows as text, a number in one form: each format has its own."""

    def text(value: Any) -> str:
        try:
            return str(float(value))
        except (TypeError, ValueError):
            return str(value)

    return sorted(sorted((name, text(value)) for name, value in row.items()) for row in rows)
