"""Extraction: nothing lost and nothing doubled, wherever a crash comes."""

from __future__ import annotations

import json
import sqlite3
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from lakehouse.settings.load import load_settings
from lakehouse.settings.references import Secret, SettingsError, resolve
from lakehouse.settings.sources import SourceSettings
from lakehouse.sources import extract as module
from lakehouse.sources import files
from lakehouse.sources.cursors import Cursor, Cursors, DynamoStore, SqliteStore
from lakehouse.sources.extract import Dataset, Extracted, extract
from lakehouse.sources.landing import snapshot
from lakehouse.sources.registry import dataset_of, extracted
from lakehouse.sources.streams.positions import Position, Progress
from lakehouse.standins.servers.aws import CREDENTIALS, REGION, aws
from spark_jobs.batch.landing.deliveries import deliveries
from spark_jobs.contract.model import Contract
from spark_jobs.contract.reader import load_contract
from spark_jobs.contract.source import Files
from spark_jobs.errors import ConflictError, ContractError
from spark_jobs.lake import manifest
from spark_jobs.lake.storage import Lake, Storage
from tests import documents, lakes
from tests.lakes import bronze, column

DAY = ("2026-10-05", "2026-10-06", "2026-10-07", "2026-10-08")
LATER = datetime(2026, 11, 1, tzinfo=UTC)


def at(day: int, hour: int = 12, minute: int = 0) -> str:
    return datetime(2026, 10, day, hour, minute, tzinfo=UTC).isoformat()


@dataclass
class System:
    """A system of record: rows by key, of which a pull sees those that are committed."""

    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    reads: Any = "changes"
    changed: str | None = "at"
    arrow: bool = False
    asked: list[tuple[datetime | None, datetime]] = field(default_factory=list)

    def put(self, key: str, changed: str, value: str = "") -> None:
        self.rows[key] = {"id": key, "at": changed, "value": value}

    def pull(self, since: datetime | None, until: datetime, meter: Any) -> Iterator[Any]:
        self.asked.append((since, until))
        meter.requests += 1
        found = [
            row
            for _, row in sorted(self.rows.items())
            if (since is None or datetime.fromisoformat(row["at"]) >= since)
            and datetime.fromisoformat(row["at"]) < until
        ]
        for i in range(0, len(found), 2):
            yield pa.RecordBatch.from_pylist(found[i : i + 2]) if self.arrow else found[i : i + 2]

    def check(self) -> None: ...


@pytest.fixture
def system() -> System:
    system = System()
    for day in (1, 5, 6, 7):
        for n in range(3):
            system.put(f"{day}-{n}", at(day, 10 + n), "first")
    return system


@pytest.fixture
def dataset(system: System, tmp_path: Path) -> Dataset:
    declared = Files(dataset="things", format="json", system="test")
    columns, landing = ("id", "at", "value"), str(tmp_path / "landing")
    return Dataset(system, declared, columns, Storage(), landing, timedelta(minutes=15))


@pytest.fixture
def cursors(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "positions.sqlite")


def take(dataset: Dataset, cursors: Cursors, partition: str, **more: Any) -> Extracted:
    now = more.pop("now", LATER)
    return extract(dataset, partition, cursors, now, **more)


def landed(dataset: Dataset, *partitions: str) -> list[str]:
    """The keys of all rows that count, in order, as often as they are there."""
    found = []
    for partition in partitions or DAY:
        folder = dataset.folder(partition).uri
        listed = manifest.read(dataset.storage, folder)
        for file in listed.files if listed else ():
            text = (Path(folder) / file.name).read_text()
            found += [json.loads(line)["id"] for line in text.splitlines()]
    return sorted(found)


# -- what is asked for -------------------------------------------------------------------------


def test_the_first_extraction_takes_all_there_is_and_each_later_one_what_has_changed(
    dataset: Dataset, system: System, cursors: SqliteStore
) -> None:
    done = [take(dataset, cursors, day) for day in DAY[:3]]
    assert [d.rows for d in done] == [6, 3, 3], "the first has history in it"
    assert landed(dataset) == sorted(system.rows)
    assert cursors.read("things").positions == {"until": at(8, 0), "partition": DAY[2]}


def test_what_nobody_extracted_for_days_comes_with_the_next_extraction(
    dataset: Dataset, system: System, cursors: SqliteStore
) -> None:
    take(dataset, cursors, DAY[0])
    take(dataset, cursors, DAY[2])
    assert landed(dataset, DAY[2]) == ["6-0", "6-1", "6-2", "7-0", "7-1", "7-2"]


def test_a_partition_that_has_landed_asks_the_source_for_nothing(
    dataset: Dataset, system: System, cursors: SqliteStore
) -> None:
    take(dataset, cursors, DAY[0])
    system.asked.clear()
    again = take(dataset, cursors, DAY[0])
    assert (again.landed, again.manifest.rows, system.asked) == (False, 6, [])


def test_a_window_that_is_not_over_goes_on_where_it_ended(
    dataset: Dataset, system: System, cursors: SqliteStore
) -> None:
    noon = datetime(2026, 10, 5, 11, 30, tzinfo=UTC)
    assert take(dataset, cursors, DAY[0], now=noon).rows == 5
    rest = take(dataset, cursors, DAY[0])
    assert (rest.rows, rest.manifest.rows, len(rest.manifest.files)) == (1, 6, 2)
    assert landed(dataset) == ["1-0", "1-1", "1-2", "5-0", "5-1", "5-2"]


@pytest.mark.parametrize("arrow", [False, True], ids=["records", "arrow"])
def test_a_row_that_is_committed_late_lands_and_those_around_it_do_not_land_twice(
    dataset: Dataset, system: System, cursors: SqliteStore, arrow: bool
) -> None:
    system.arrow = arrow
    system.put("before", at(5, 23, 50))
    take(dataset, cursors, DAY[0])
    system.put("late", at(5, 23, 55))
    done = take(dataset, cursors, DAY[1])
    assert (done.rows, done.known) == (4, 1)
    assert landed(dataset).count("before") == 1 and landed(dataset, DAY[1])[-1] == "late"
    assert take(dataset, cursors, DAY[2]).known == 0


def test_a_row_that_changed_within_the_overlap_lands_again(
    dataset: Dataset, system: System, cursors: SqliteStore
) -> None:
    system.put("x", at(5, 23, 50), "old")
    take(dataset, cursors, DAY[0])
    system.put("x", at(5, 23, 58), "new")
    take(dataset, cursors, DAY[1])
    assert landed(dataset).count("x") == 2, "both versions are rows of the source"


def test_again_writes_a_new_generation_and_leaves_other_partitions_and_the_position_alone(
    dataset: Dataset, system: System, cursors: SqliteStore
) -> None:
    for day in DAY[:3]:
        take(dataset, cursors, day)
    position = cursors.read("things").positions
    system.put("6-9", at(6, 9))
    done = take(dataset, cursors, DAY[1], again=True)
    assert landed(dataset, DAY[1]) == ["6-0", "6-1", "6-2", "6-9"]
    folder = Path(dataset.folder(DAY[1]).uri)
    assert len(list(folder.glob("*.jsonl"))) == 2 and len(done.manifest.files) == 1
    assert cursors.read("things").positions == position


def test_full_takes_all_rows_up_to_the_end_of_the_partition(
    dataset: Dataset, system: System, cursors: SqliteStore
) -> None:
    for day in DAY[:3]:
        take(dataset, cursors, day)
    take(dataset, cursors, DAY[1], full=True)
    assert landed(dataset, DAY[1]) == sorted(k for k in system.rows if k < "7")


def test_a_source_without_changes_brings_all_rows_and_takes_their_place(
    dataset: Dataset, system: System, cursors: SqliteStore
) -> None:
    system.reads, system.changed = "all", None
    noon = datetime(2026, 10, 5, 11, 30, tzinfo=UTC)
    take(dataset, cursors, DAY[0], now=noon)
    assert take(dataset, cursors, DAY[0]).manifest.rows == 6
    assert landed(dataset, DAY[0]) == ["1-0", "1-1", "1-2", "5-0", "5-1", "5-2"]


# -- files -------------------------------------------------------------------------------------


def test_the_same_rows_make_the_same_file(dataset: Dataset, cursors: SqliteStore) -> None:
    first = take(dataset, cursors, DAY[0]).manifest
    assert take(dataset, cursors, DAY[0], again=True).manifest == first
    (file,) = first.files
    assert file.name.startswith("all-20261006T000000-000-") and file.rows == 6


def test_parquet_and_csv_have_the_contracts_columns_in_its_order(
    dataset: Dataset, system: System, cursors: SqliteStore, tmp_path: Path
) -> None:
    system.arrow = True
    of = replace(dataset, columns=("value", "id"), declared=Files(
        dataset="parquet", format="parquet", system="test"))  # fmt: skip
    (file,) = take(of, cursors, DAY[0]).manifest.files
    assert pq.read_table(Path(of.folder(DAY[0]).uri) / file.name).column_names == ["value", "id"]
    of = replace(of, declared=Files(
        dataset="csv", format="csv", system="test", delimiter=";", encoding="latin-1"))  # fmt: skip
    system.put("0", at(5), 'Zoë; "the first"')
    (file,) = take(of, cursors, DAY[0]).manifest.files
    text = (Path(of.folder(DAY[0]).uri) / file.name).read_bytes().decode("latin-1")
    assert text.splitlines()[:2] == ["value;id", '"Zoë; ""the first""";0']


def test_a_large_extraction_is_several_files(
    dataset: Dataset, cursors: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FILE_BYTES", 1)
    done = take(dataset, cursors, DAY[0])
    assert [f.rows for f in done.manifest.files] == [2, 2, 2]
    assert len(landed(dataset)) == 6


# -- crashes -----------------------------------------------------------------------------------


class Killed(BaseException):
    """What ends a process ends it here."""


@pytest.mark.parametrize("where", ["file", "files", "tail", "manifest", "position"])
@pytest.mark.parametrize("next_day", [False, True], ids=["repeated", "next day"])
def test_a_crash_at_any_step_is_repaired_by_the_next_extraction(
    dataset: Dataset,
    system: System,
    cursors: SqliteStore,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    next_day: bool,
) -> None:
    take(dataset, cursors, DAY[0])
    system.put("6-3", at(6, 23, 55))

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        if where == "file":
            patched.setattr(files.Folder, "_rename", killed)
        elif where == "files":
            patched.setattr(module._Pull, "write_tail", killed)
        elif where == "tail":
            patched.setattr(module, "ensure_current", killed)
        elif where == "manifest":
            whole = manifest.write
            patched.setattr(
                module.manifests,
                "write",
                lambda s, f, m: killed() if m.positions else whole(s, f, m),
            )
        else:
            claim = SqliteStore.advance
            patched.setattr(
                SqliteStore,
                "advance",
                lambda self, c, p: claim(self, c, p) if p == c.positions else killed(),
            )
        with pytest.raises(Killed):
            take(dataset, cursors, DAY[1])
    for day in DAY[2:3] if next_day else DAY[1:3]:
        take(dataset, cursors, day)
    assert landed(dataset) == sorted(system.rows)
    assert cursors.read("things").positions["until"] == at(8, 0)


def test_an_extraction_that_another_one_has_overtaken_does_not_count(
    dataset: Dataset, system: System, cursors: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(dataset, cursors, DAY[0])
    slow = system.pull

    def overtaken(*args: Any) -> Iterator[Any]:
        yield from slow(*args)
        monkeypatch.setattr(system, "pull", slow)
        take(dataset, cursors, DAY[1])

    monkeypatch.setattr(system, "pull", overtaken)
    with pytest.raises(ConflictError, match="things: something else extracts it at the same time"):
        take(dataset, cursors, DAY[1])
    assert landed(dataset) == sorted(k for k in system.rows if k < "7")


# -- positions ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dynamo() -> Iterator[DynamoStore]:
    with aws() as server, pytest.MonkeyPatch.context() as patched:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": server.url}.items():
            patched.setenv(name, value)
        boto3.client("dynamodb", region_name=REGION).create_table(
            TableName="positions",
            KeySchema=[{"AttributeName": "dataset", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "dataset", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield DynamoStore("positions", REGION)


@pytest.fixture(params=["sqlite", "dynamodb"])
def store(request: pytest.FixtureRequest, cursors: SqliteStore) -> Cursors:
    return cursors if request.param == "sqlite" else request.getfixturevalue("dynamo")


def test_a_position_advances_for_whoever_read_it_last(store: Cursors) -> None:
    assert store.read("shards") == Cursor("shards")
    first = store.advance(store.read("shards"), {"shard-1": "49", "shard-2": "7"})
    assert store.read("shards") == first == Cursor("shards", {"shard-1": "49", "shard-2": "7"}, 1)
    claimed = store.advance(first, first.positions)
    with pytest.raises(ConflictError):
        store.advance(first, first.positions)
    with pytest.raises(ConflictError):
        store.advance(first, {"shard-1": "50"})
    assert store.advance(claimed, {"shard-1": "51"}).version == 3
    with pytest.raises(ConflictError):
        store.advance(Cursor("shards"), {"shard-1": "0"})
    assert store.read("shards").positions == {"shard-1": "51"}


def test_a_write_whose_reply_was_lost_is_ones_own_when_the_client_tries_it_again(
    dynamo: DynamoStore,
) -> None:
    events, sent = dynamo._table.meta.client.meta.events, list[int]()

    def again(attempts: int, **_: Any) -> int | None:
        sent.append(attempts)
        return 0 if attempts == 1 else None

    events.register_first("needs-retry.dynamodb.PutItem", again)
    try:
        after = dynamo.advance(dynamo.read("lost"), {"shard-1": "1"})
    finally:
        events.unregister("needs-retry.dynamodb.PutItem", again)
    assert sent == [1, 2] and dynamo.read("lost") == after


def test_an_advance_that_failed_after_it_was_stored_is_no_other_drain_to_the_shards_beside_it(
    store: Cursors,
) -> None:
    faults = ["before", "after"]

    class Failing:
        """Fails once before it stores, and once after that."""

        def read(self, dataset: str) -> Cursor:
            return store.read(dataset)

        def advance(self, cursor: Cursor, positions: Any) -> Cursor:
            fault = faults.pop(0) if faults else ""
            if fault == "before":
                raise OSError(fault)
            done = store.advance(cursor, positions)
            if fault == "after":
                raise OSError(fault)
            return done

    name = f"beside-{type(store).__name__}"
    progress = Progress.of(Failing(), name, "made at noon")
    for fault in ("before", "after"):
        with pytest.raises(OSError, match=fault):
            progress.advance(fault, Position(after="1"))
    progress.advance("beside", Position(after="2"))
    assert Progress.of(store, name, "made at noon").positions == {
        "after": Position(after="1"),
        "beside": Position(after="2"),
    }
    store.advance(store.read(name), {})
    with pytest.raises(ConflictError):
        progress.advance("beside", Position(after="3"))


def test_a_secret_of_secrets_manager_is_read_where_it_is_used(
    dynamo: DynamoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("SF_SECRET_NAME", "lake-dev-salesforce-credentials")
    problems: list[str] = []
    reference = {"secretsmanager": {"env": "SF_SECRET_NAME"}, "key": "password"}
    secret = resolve({"password": reference}, (), problems)["password"]
    assert problems == []
    with pytest.raises(SettingsError, match=r"cannot be read \(ResourceNotFoundException\)"):
        secret.reveal()
    boto3.client("secretsmanager", region_name=REGION).create_secret(
        Name="lake-dev-salesforce-credentials",
        SecretString=json.dumps({"password": "correct horse", "domain": "login"}),
    )
    assert secret.reveal() == "correct horse" and "horse" not in repr(secret)
    with pytest.raises(SettingsError, match="has no text token"):
        Secret("lake-dev-salesforce-credentials", "token", managed=True).reveal()


# -- what reads landing ------------------------------------------------------------------------


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    path = tmp_path / "bronze/things.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(bronze("things", "json", column("id"))))
    return load_contract(path)


def test_a_table_reads_the_files_of_the_manifest_and_no_others(
    dataset: Dataset, cursors: SqliteStore, contract: Contract, tmp_path: Path
) -> None:
    lake = Lake({"landing": str(tmp_path / "landing")})
    first = take(dataset, cursors, DAY[0]).manifest.files[0]
    dataset.source.put("5-9", at(5, 9))  # type: ignore[attr-defined]
    second = take(dataset, cursors, DAY[0], again=True).manifest.files[0]
    (found,) = deliveries(contract, lake, DAY[:1])
    assert first.name != second.name and not found.error
    assert found.fingerprint == [f"{second.name}:{second.sha256}"]


def test_an_extraction_without_rows_is_a_delivery_and_one_without_an_end_is_none(
    dataset: Dataset, cursors: SqliteStore, contract: Contract, tmp_path: Path
) -> None:
    lake = Lake({"landing": str(tmp_path / "landing")})
    take(dataset, cursors, DAY[2])
    take(dataset, cursors, DAY[3])
    manifest.write(dataset.storage, dataset.folder(DAY[1]).uri, manifest.Manifest())
    begun, empty = deliveries(contract, lake, [DAY[1], DAY[3]])
    assert "has not come to its end" in begun.error
    assert (empty.error, empty.files) == ("", [])


def test_a_landed_file_that_is_not_what_it_was_fails_the_partition(
    dataset: Dataset, cursors: SqliteStore, contract: Contract, tmp_path: Path
) -> None:
    lake = Lake({"landing": str(tmp_path / "landing")})
    (file,) = take(dataset, cursors, DAY[0]).manifest.files
    (Path(dataset.folder(DAY[0]).uri) / file.name).write_text("cut")
    (found,) = deliveries(contract, lake, DAY[:1])
    assert f"{file.name}: is 3 bytes, and its manifest says {file.bytes}" in found.error


def test_a_folder_changes_with_its_manifest_and_with_nothing_else(
    dataset: Dataset, cursors: SqliteStore
) -> None:
    def seen() -> dict[str, str]:
        return snapshot(Storage(), dataset.landing, ["things"])["things"]

    take(dataset, cursors, DAY[0])
    before = seen()
    (Path(dataset.folder(DAY[0]).uri) / "orphan.jsonl").write_text("{}")
    assert seen() == before
    dataset.source.put("5-9", at(5, 9))  # type: ignore[attr-defined]
    take(dataset, cursors, DAY[0], again=True)
    assert seen() != before


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The package of the documents, installed; with its contract and the settings of its file."""
    shown = {
        Path(b.title).name: b.text
        for b in documents.blocks(documents.PROJECT / "docs/how-to/sources.md")
        if b.title and "sqlite_file" in b.text
    }
    site = tmp_path / "site"
    info = site / "sqlite_file-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "sqlite_file.py").write_text(shown["sqlite_file.py"])
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sqlite_file\nVersion: 1.0\n")
    points = tomllib.loads(shown["pyproject.toml"])["project"]["entry-points"]
    lines = [f"[{group}]\n{name} = {of}" for group, p in points.items() for name, of in p.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(site))
    yield shown
    sys.modules.pop("sqlite_file", None)


def thing_contract(tmp_path: Path, source: dict[str, Any]) -> Path:
    """The contract of a bronze table that reads this source."""
    path = tmp_path / "contracts/bronze/things.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(lakes.contract("bronze.things", [column("id")], source=source)))
    return path


def test_a_source_of_ones_own_is_one_module_and_one_contract(
    tmp_path: Path, cursors: SqliteStore, added: dict[str, Any]
) -> None:
    (declared,) = yaml.safe_load(added["things.yaml"])
    reader = load_contract(thing_contract(tmp_path, declared["value"]))
    place = tmp_path / "shop.sqlite"
    given = yaml.safe_load(added["sources.yaml"])
    given["sqlite_file"]["path"] = str(place)
    settings = load_settings("local", home=tmp_path)
    settings = settings.model_copy(update={"sources": SourceSettings(**given)})
    with sqlite3.connect(place) as database:
        database.execute("create table things (id text, changed_at text)")
        rows = [(f"{day}-{n}", at(day, n)) for day in (5, 6) for n in range(3)]
        database.executemany("insert into things values (?, ?)", rows)
    assert extracted(settings, {reader.table: reader}).keys() == {"things"}
    of = dataset_of(settings, [reader])
    of.source.check()
    of = replace(of, storage=Storage(), landing=str(tmp_path / "landing"))
    assert [take(of, cursors, day).rows for day in DAY[:3]] == [3, 3, 0]
    assert landed(of) == [key for key, _ in rows]


def test_an_option_or_a_setting_that_an_added_kind_does_not_know_is_an_error(
    tmp_path: Path, added: dict[str, Any]
) -> None:
    value = {"kind": "sqlite_file", "dataset": "things", "format": "json"}
    with pytest.raises(ContractError, match=r"things\.yaml:\d+.*tabel"):
        load_contract(thing_contract(tmp_path, {**value, "table": "things", "tabel": "things"}))
    with pytest.raises(ValueError, match=r"sqlite_file\.pathh: Extra") as caught:
        SourceSettings(sqlite_file={"path": "there", "pathh": "hunter2"})
    assert "hunter2" not in str(caught.value.errors(include_input=False))  # type: ignore[attr-defined]


def test_a_kind_that_nobody_has_installed_is_an_error_with_its_place(tmp_path: Path) -> None:
    value = {"kind": "sqlite_file", "dataset": "things", "format": "json", "table": "things"}
    with pytest.raises(ContractError, match=r"things\.yaml:\d+.*'sqlite_file' is not known"):
        load_contract(thing_contract(tmp_path, value))
    with pytest.raises(ValueError, match="sqlite_file"):
        SourceSettings(sqlite_file={"path": "there"})
