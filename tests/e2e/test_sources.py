"""The sample from the systems that it comes from: the answers of a lake that is fed with files.

Here: one run of `lakehouse rehearse --sources`, against the delivery's answer sheet, and what it left
behind. Not here: a source by itself (tests/unit, tests/integration).

REHEARSAL_DAYS and REHEARSAL_SCALE make the sample another one.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakehouse.keys import DATASETS_TAG
from lakehouse.local.instance import open_instance
from lakehouse.settings.load import load_settings
from lakehouse.standins.data.delivery import DEFAULT_START
from lakehouse.standins.systems.system import COPY, CUT, LATE, NO_RATE
from tests.documents import PROJECT
from tests.e2e.test_sample_lake import differences, rows

pytestmark = [pytest.mark.slow, pytest.mark.jvm]  # Kafka's broker needs Java

SCALE = os.environ.get("REHEARSAL_SCALE", "0.002")
COUNT = int(os.environ.get("REHEARSAL_DAYS", "2"))
DAYS = [(DEFAULT_START + timedelta(days=n)).isoformat() for n in range(COUNT)]

# The command, and what its secrets were: some are made anew for each run.
_PROGRAM = f"""
import json, os, sys
from lakehouse.cli import main
try:
    main(["rehearse", "--sources", "--days", "{COUNT}", "--scale", "{SCALE}"], standalone_mode=False)
finally:
    print("\\nenvironment " + json.dumps(dict(os.environ)), file=sys.stderr)
"""


@dataclass(frozen=True)
class Done:
    """A run that has ended. `arguments` are those of every process below it while it ran."""

    home: Path
    output: str
    code: int
    secrets: dict[str, str]
    arguments: bytes

    def json(self, name: str) -> dict[str, Any]:
        return json.loads((self.home / name).read_text())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    root = tmp_path_factory.mktemp("sources")
    environment = {
        n: v for n, v in os.environ.items() if not n.startswith(("LAKEHOUSE", "DAGSTER", "AWS"))
    }
    with (root / "output").open("wb") as output, (root / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            cwd=PROJECT,
            env={**environment, "LAKEHOUSE_HOME": str(root)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        seen = set[bytes]()
        while process.poll() is None:
            seen |= set(_arguments_below(process.pid))
            try:
                process.wait(0.5)
            except subprocess.TimeoutExpired:
                continue
    said, _, told = (root / "errors").read_text().rpartition("\nenvironment ")
    variables = json.loads(told)
    home = root / "sources"
    named = re.findall(r"secret: (\w+)", (home / "settings" / "local.yaml").read_text())
    secrets = {name: variables[name] for name in (*named, "AWS_SECRET_ACCESS_KEY")}
    output_text = (root / "output").read_text() + said
    return Done(home, output_text, process.returncode, secrets, b"\n".join(seen))


def _processes_below(pid: int) -> Iterator[int]:
    """A process and all that it has started."""
    yield pid
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _processes_below(int(child))
    except OSError:
        return  # it has ended meanwhile


def _arguments_below(pid: int) -> Iterator[bytes]:
    for found in _processes_below(pid):
        with suppress(OSError):
            yield Path(f"/proc/{found}/cmdline").read_bytes()


def test_the_run_succeeds_and_says_what_came_another_way(done: Done) -> None:
    assert done.code == 0, done.output
    assert "comes as files" not in done.output
    assert done.json("summary.json")["success"]


def test_silver_gold_and_every_partition_of_theirs_have_what_the_delivery_planted(
    done: Done,
) -> None:
    sheet = done.json("answers.json")
    final = {t: n for t, n in sheet["increment_final"].items() if not t.startswith("bronze.")}
    # A version of a customer that the database got after its time of change was over is a row of its
    # own in these two, and in no pull of what has changed since: see LATE.
    late = {p: of.get(LATE, 0) for p, of in _left(done).get("customers", {}).items()}
    for table in ("silver.customers", "gold.dim_customer"):
        final[table] -= sum(late.values())
    for partition, answer in sheet["increment"]["silver.customers"].items():
        answer["published"] -= late.get(partition, 0)
    assert len(final) > 20 and rows(done.home, list(final)) == final
    left = {d: {p: sum(of.values()) for p, of in at.items()} for d, at in _left(done).items()}
    for part in ("tables", "increment"):
        for table, partitions in sheet[part].items():
            for partition, answer in partitions.items():
                absent = left.get(table.partition(".")[2], {}).get(partition, 0)
                found = differences(done.home, {table: {partition: answer}})
                if absent and table.startswith("bronze."):
                    counted = int(re.findall(r"read: .* counted (\d+)", "\n".join(found))[0])
                    assert counted == answer["read"] - absent, found
                elif (
                    absent
                ):  # they are quarantined or lose to others: what is published is the same
                    assert not [d for d in found if " published:" in d], found
                else:
                    assert found == [], found


def test_only_what_no_system_can_hold_is_left_out(done: Done) -> None:
    reasons: dict[str, int] = defaultdict(int)
    for partitions in _left(done).values():
        for of in partitions.values():
            for reason, count in of.items():
                reasons[reason] += count
    assert {COPY, CUT, NO_RATE, LATE} <= reasons.keys()
    read = sum(t["read"] for t in done.json("summary.json")["tables"].values())
    assert sum(reasons.values()) < read / 500


def test_each_source_landed_by_its_own_way(done: Done) -> None:
    landing = done.home / "lake" / "landing"
    for dataset in (
        "fx_rates",
        "orders",
        "customers",
        "products",
        "line_items",
        "customer_behavior",
        "accounts",
        "leads",
        "price_lists",
    ):
        for day in DAYS:
            if dataset == "fx_rates" and date.fromisoformat(day).weekday() > 4:
                continue  # the bank has no rates on weekends
            assert json.loads((landing / dataset / day / "_manifest.json").read_text())["files"]
    streams = [*landing.glob("sensor_readings/*/*"), *landing.glob("customer_events/*/*")]
    assert len(streams) >= len(DAYS) * 24 and all(f.name.startswith("shardId-") for f in streams)
    messages = list(landing.glob("orders_events/*/*"))
    assert {f.parent.name for f in messages} == {*DAYS}
    assert all(f.name.startswith("orders_events-") for f in messages)


def test_what_others_put_into_the_bucket_is_found_there(done: Done) -> None:
    landing = done.home / "lake" / "landing"
    assert list(landing.glob("addresses/2026-10-05/LOAD*.parquet"))
    assert list(landing.glob("inventory/2026-10-06/stock_*.csv.gz"))
    with open_instance(load_settings("local", home=done.home, project=PROJECT)) as instance:
        tags = [run.tags.get(DATASETS_TAG, "") for run in instance.get_runs()]
    asked = {dataset for names in tags for dataset in names.split(",")}
    delivered = {"addresses", "customer_changes", "employees", "inventory", "loyalty_accounts"}
    assert delivered <= asked


def test_no_secret_is_in_any_byte_that_the_run_left_or_in_an_argument_of_a_process(
    done: Done,
) -> None:
    assert len(done.secrets) == 9 and all(len(value) >= 8 for value in done.secrets.values())
    places = dict(_bytes_below(done.home))
    places |= {"output": done.output.encode(), "arguments": done.arguments}
    settings = done.home / "settings" / "local.yaml"
    connected = yaml.safe_load(settings.read_text())["sources"]["fx_api"]["url"]
    assert connected.encode() in places[str(settings)]
    assert any("event_logs" in name or name.endswith(".db") for name in places)
    assert b"moto" in done.arguments or b"servers.aws" in done.arguments
    found = [
        (name, secret)
        for secret, value in done.secrets.items()
        for form in {value, json.dumps(value)[1:-1], value.replace("&", "&amp;")}
        for name, content in places.items()
        if form.encode() in content
    ]
    assert not found


def _left(done: Done) -> dict[str, dict[str, dict[str, int]]]:
    return done.json("left_out.json")


def _bytes_below(home: Path) -> Iterator[tuple[str, bytes]]:
    """Every file, and what is compressed in it."""
    for path in home.rglob("*"):
        if not path.is_file():
            continue
        content = path.read_bytes()
        yield str(path), content
        if content[:2] == b"\x1f\x8b" and ".part" not in path.name:
            yield f"{path} unpacked", gzip.decompress(content)
        for n, packed in enumerate(re.findall(rb"[A-Za-z0-9+/]{40,}={0,2}", content)):
            try:
                text = zlib.decompress(base64.b64decode(packed + b"=" * (-len(packed) % 4)))
            except (ValueError, zlib.error):
                continue
            yield f"{path} unpacked {n}", text


def test_without_java_a_topic_comes_as_files_and_an_interrupted_run_leaves_no_process_behind(
    tmp_path: Path,
) -> None:
    environment = {n: v for n, v in os.environ.items() if n not in ("JAVA_HOME", "PATH")}
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "chmod").symlink_to(shutil.which("chmod") or "")  # PostgreSQL's stand-in needs it
    command = [str(Path(sys.executable).with_name("lakehouse")), "rehearse", "--sources"]
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [*command, "--days", "2", "--scale", "0.001"],
            cwd=PROJECT,
            env={**environment, "PATH": str(programs), "LAKEHOUSE_HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 120
        while "✓" not in (tmp_path / "output").read_text():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.2)
        below = set(_processes_below(process.pid))
        assert len(below) > 1, "a stand-in is a process of its own"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 1
    finally:
        process.kill()
    time.sleep(1)
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]
    said = (tmp_path / "output").read_text()
    assert "orders_events comes as files, without kafka: there is no Java 17" in said
    assert "Traceback" not in said
